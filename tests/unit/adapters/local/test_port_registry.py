from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from santiago_platform.adapters.local.port_registry import FIRST, LAST, PortRegistry, bindable
from santiago_platform.domain.errors import ErrorCode, PlatformError

Register = Callable[[str], PortRegistry]
CLAIM_MANY = """
import sys
from pathlib import Path
from santiago_platform.adapters.local.port_registry import PortRegistry
registry = PortRegistry(Path(sys.argv[1]), Path(sys.argv[2]))
sys.stdin.readline()
for number in range(20):
    print(registry.claim(f"purpose {number}"))
"""


@pytest.fixture
def register(tmp_path: Path) -> Register:
    """The registry as a workspace sees it."""

    def of(workspace: str) -> PortRegistry:
        (tmp_path / workspace / ".santiago").mkdir(parents=True, exist_ok=True)
        return PortRegistry(tmp_path / workspace, tmp_path / "registry")

    return of


def listener(*, reuse_port: bool = False, host: str = "127.0.0.1") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind((host, 0))
    listening.listen()
    return listening


def test_a_purpose_keeps_its_port_and_two_purposes_share_none(register: Register) -> None:
    registry = register("shop")
    first, second = registry.claim("a"), registry.claim("b")
    assert first != second
    assert FIRST <= first <= LAST
    assert register("shop").claim("a") == first
    assert registry.mine() == {"a": first, "b": second}


def test_two_workspaces_get_different_ports_for_the_same_purpose(register: Register) -> None:
    assert register("shop").claim("a") != register("bank").claim("a")
    assert len(register("shop").owners()) == 2


def test_many_processes_that_claim_at_once_never_get_the_same_port(register: Register, tmp_path: Path) -> None:
    register("shop"), register("bank")
    running = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM_MANY, str(tmp_path / workspace), str(tmp_path / "registry")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for workspace in ("shop", "bank", "shop")
    ]
    said = [process.communicate("go\n", timeout=30)[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert said[0] == said[2]  # the same purposes of the same workspace
    assert len({*said[0], *said[1]}) == 40


def test_a_port_of_another_workspace_is_refused_and_its_owner_named(register: Register, tmp_path: Path) -> None:
    port = register("shop").claim("ingress")
    with pytest.raises(PlatformError) as caught:
        register("bank").claim("ingress", port=port)
    assert caught.value.code is ErrorCode.CONFLICT
    assert f"port {port} belongs to the workspace {tmp_path / 'shop'} (ingress)" in caught.value.message
    assert "santiago.yaml" in caught.value.hint
    assert register("bank").mine() == {}


def test_a_port_is_refused_for_a_second_purpose_of_its_own_workspace(register: Register) -> None:
    port = register("shop").claim("server")
    with pytest.raises(PlatformError, match=f"port {port} belongs"):
        register("shop").claim("ingress", port=port)


def test_a_wanted_port_replaces_the_one_before_and_frees_it(register: Register) -> None:
    registry = register("shop")
    before, other = registry.claim("ingress"), register("bank").claim("x")
    register("bank").release("x")
    assert registry.claim("ingress", port=other) == other
    assert registry.mine() == {"ingress": other}
    assert before not in registry.owners()


def test_a_refused_port_leaves_the_one_before_claimed(register: Register) -> None:
    registry = register("shop")
    before = registry.claim("ingress")
    with listener() as taken, pytest.raises(PlatformError):
        registry.claim("ingress", port=taken.getsockname()[1])
    assert registry.mine() == {"ingress": before}


@pytest.mark.parametrize(("host", "reuse_port"), [("127.0.0.1", False), ("127.0.0.1", True), ("0.0.0.0", True)])
def test_a_port_that_another_program_listens_on_is_refused(register: Register, host: str, reuse_port: bool) -> None:
    with listener(host=host, reuse_port=reuse_port) as taken:
        port = taken.getsockname()[1]
        assert not bindable(port)
        with pytest.raises(PlatformError, match=f"another program listens on 127.0.0.1:{port}") as caught:
            register("shop").claim("ingress", port=port)
        assert caught.value.code is ErrorCode.CONFLICT
        assert "ss -ltnp" in caught.value.hint
    assert bindable(port)


def test_a_free_port_is_never_one_that_is_listened_on(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    first = register("shop").claim("a")
    register("shop").release("a")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first))
        taken.listen()
        assert register("shop").claim("a") != first


def test_no_port_is_left(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("santiago_platform.adapters.local.port_registry.bindable", lambda port: False)
    with pytest.raises(PlatformError) as caught:
        register("shop").claim("a")
    assert caught.value.code is ErrorCode.RESOURCE_EXHAUSTED


def test_a_released_port_is_free_and_an_unknown_purpose_is_no_error(register: Register) -> None:
    port = register("shop").claim("a")
    register("bank").release("a")
    assert register("shop").mine() == {"a": port}
    register("shop").release("a")
    register("shop").release("a")
    assert register("bank").claim("b", port=port) == port


def test_a_deleted_workspace_frees_its_ports(register: Register, tmp_path: Path) -> None:
    port = register("shop").claim("a")
    shutil.rmtree(tmp_path / "shop")
    assert register("bank").claim("a", port=port) == port
    assert register("bank").owners() == {port: str(tmp_path / "bank")}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"x": ["/a", "b"]}', '{"21000": 5}', '{"21000": ["/a"]}', '{"21000": [1, 2]}', "\0"],
)
def test_a_file_that_cannot_be_made_out_forgets_its_claims_and_works_on(
    register: Register, tmp_path: Path, text: str
) -> None:
    registry = register("shop")
    registry.claim("a")
    (tmp_path / "registry" / "ports.json").write_text(text)
    port = registry.claim("b")
    assert registry.mine() == {"b": port}
    assert json.loads((tmp_path / "registry" / "ports.json").read_text()) == {str(port): [str(tmp_path / "shop"), "b"]}


def test_the_registry_is_private(register: Register, tmp_path: Path) -> None:
    register("shop").claim("a")
    assert (tmp_path / "registry").stat().st_mode & 0o077 == 0
