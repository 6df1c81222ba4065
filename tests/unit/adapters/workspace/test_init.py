from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from santiago_platform.adapters.artifacts.artifacts import LocalArtifacts
from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.system import SystemClock
from santiago_platform.adapters.workspace.init import FILES, init_workspace
from santiago_platform.adapters.workspace.workspace import FileWorkspace
from santiago_platform.domain.errors import ErrorCode, PlatformError


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who configured nothing."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


async def test_a_new_workspace_is_committed_and_its_service_can_be_released(tmp_path: Path) -> None:
    root = tmp_path / "new" / "workspace"
    made = await init_workspace(root)
    assert set(made.written) == set(FILES)
    assert made.kept == ()
    assert git(root, "rev-parse", "HEAD") == made.commit
    assert git(root, "status", "--porcelain") == ""
    workspace = FileWorkspace(root)
    assert set(workspace.settings().environments) == {"staging", "production"}
    artifacts = LocalArtifacts(Layout.of(root), SystemClock())
    release = await artifacts.build("hello", "HEAD")
    for environment in workspace.settings().environments:
        workspace.template(release.score, release=release.digest, environment=environment, where="score.yaml")
    assert git(root, "status", "--porcelain") == ""


async def test_what_is_there_is_kept_and_named(tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    first = await init_workspace(root)
    (root / "santiago.yaml").write_text("mine")
    (root / "docs/architecture/README.md").unlink()
    again = await init_workspace(root)
    assert again.written == ("docs/architecture/README.md",)
    assert "santiago.yaml" in again.kept
    assert again.commit == ""
    assert (root / "santiago.yaml").read_text() == "mine"
    assert git(root, "rev-parse", "HEAD") == first.commit


async def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "workspace").write_text("a file")
    with pytest.raises(PlatformError) as caught:
        await init_workspace(tmp_path / "workspace")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert (tmp_path / "workspace").read_text() == "a file"


@pytest.fixture
def port() -> int:
    for _ in range(100):
        candidate = random.randint(31000, 60000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return candidate
    raise AssertionError("no free port")


@pytest.fixture
def server(tmp_path: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "server.py").write_text(FILES["services/hello/server.py"])
    environment = {"PATH": os.environ["PATH"], "PORT": str(port), "VERSION": "7", "GREETING": "Hi"}
    process = subprocess.Popen(
        [sys.executable, "server.py"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


async def test_the_service_answers_logs_and_ends_gracefully(port: int, server: subprocess.Popen[str]) -> None:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        for _ in range(500):
            try:
                health = await client.get("/healthz")
                break
            except httpx2.TransportError:
                await asyncio.sleep(0.01)
        assert health.status_code == 200
        answer = await client.get("/", headers={"x-request-id": "r1"})
        assert answer.json() == {"greeting": "Hi", "version": "7"}
        assert (await client.get("/nothing")).status_code == 404
        server.terminate()  # with the client's connection still open
        out, _ = await asyncio.to_thread(server.communicate, timeout=10)
    assert server.returncode == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["message"] for line in lines] == ["started", "request", "request", "stopped"]
    assert lines[1] | {"time": 0} == {
        "time": 0, "level": "info", "message": "request", "path": "/", "status": 200, "request_id": "r1",
    }  # fmt: skip
