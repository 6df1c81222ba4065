"""Secrets on the real platform: set, rolled out, rotated and rolled back, and found nowhere but where they belong."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from santiago_platform.adapters.process import processes_of
from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.running_platform import RunningPlatform, call

pytestmark = pytest.mark.e2e
HOST = "hello.production.localhost"
DEPLOY = ("deploy", "hello", "--env", "production", "--wait")
FIRST, SECOND = "planted-one-r7Q$x '\"\\`id` end", "planted-two-Kk93 ${HOME} end"
SHARED, KEY = "planted-shared-0b1e55ed", "-----BEGIN-----\nplanted-key-c2VjcmV0IG9mIHRoZSBrZXk\n-----END-----\n"
PLANTED = ("planted-one", "planted-two", "planted-shared", "planted-key")
VARIABLES = """\
      PASSWORD: ${resources.password.value}
      DATABASE: postgres://web:${resources.password.value}@db/web?greeting=$$
    files:
      /etc/hello-of-santiago/key.pem: {content: "# ${metadata.name}\\n${resources.key.value}", mode: "0400"}
      /etc/hello-of-santiago/settings: {source: settings}
"""
BESIDE = """\
  clerk:
    image: .
    command: ["sh", "-c", "while :; do sleep 1; done"]
    variables: {PASSWORD: "${resources.password.value}"}
    readinessProbe: {exec: {command: ["sh", "-c", "[ ${#PASSWORD} -gt 20 ]"]}}
    resources: {limits: {memory: 64Mi, cpu: 100m}}
resources:
  password: {type: secret}
  key: {type: secret, id: tls-key}
"""
ANSWER = """\
"/": (200, {"seen": [__import__("hashlib").sha256(text.encode()).hexdigest() for text in (
            os.environ["PASSWORD"], os.environ["DATABASE"], GREETING,
            open("/etc/hello-of-santiago/key.pem").read(), open("/etc/hello-of-santiago/settings").read())],"""


@pytest.fixture(scope="module")
def watched(platform: RunningPlatform) -> Iterator[set[str]]:
    """Planted values that any process of the machine had in its command line, at any time."""
    seen: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            for entry in os.scandir("/proc"):
                if entry.name.isdigit():
                    try:
                        words = Path(entry.path, "cmdline").read_bytes()
                    except OSError:
                        continue
                    seen.update(value for value in PLANTED if value.encode() in words)

    thread = threading.Thread(target=watch)
    thread.start()
    yield seen
    ended.set()
    thread.join()


@pytest.fixture(scope="module")
def service(platform: RunningPlatform, watched: set[str]) -> RunningPlatform:
    """The service of `santiago init`, which answers with digests of what it was given, and a container beside it."""
    folder = platform.root / "services" / "hello"
    head, _, tail = (folder / "score.yaml").read_text().partition("    readinessProbe:")
    (folder / "score.yaml").write_text(f"{head}{VARIABLES}    readinessProbe:{tail}{BESIDE}")
    (folder / "build.yaml").write_text("")
    (folder / "settings").write_text("password = ${resources.password.value}\n")
    platform.replace("services/hello/server.py", '"/": (200, {', ANSWER)
    platform.replace("santiago.yaml", "Hello from production", '"Hello ${secrets.greeting} $${secrets.greeting}"')
    platform.replace("santiago.yaml", "replicas: 2", "replicas: 1")
    platform.commit("secrets")
    return platform


def put(platform: RunningPlatform, name: str, value: str, service: str = "") -> dict[str, Any]:
    path = f"{platform.url}/api/secrets/production/{name}{f'?service={service}' if service else ''}"
    headers = {"authorization": f"Bearer {platform.token}"}
    made = httpx2.put(path, content=value.encode(), headers=headers, timeout=20, trust_env=False)
    assert made.status_code == 201, made.text
    answer: dict[str, Any] = made.json()
    return answer


def put_by_hand(platform: RunningPlatform, name: str, value: str) -> dict[str, Any]:
    command = ["--workspace", str(platform.root), "secret", "set", name, "--env", "production", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "santiago_platform", *command], input=value, capture_output=True, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def digests(password: str) -> list[str]:
    texts = [
        password,
        f"postgres://web:{password}@db/web?greeting=$",
        f"Hello {SHARED} ${{secrets.greeting}}",
        f"# hello\n{KEY}",
        f"password = {password}\n",
    ]
    return [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def answered(platform: RunningPlatform) -> list[str]:
    request = urllib.request.Request(f"http://127.0.0.1:{platform.ingress_port}/", headers={"host": HOST})
    with urllib.request.urlopen(request, timeout=5) as response:
        seen: list[str] = json.load(response)["seen"]
    return seen


def found(platform: RunningPlatform) -> set[str]:
    """Files of the workspace and its sockets' folder with a planted value, relative to it."""
    hits = set()
    for root in (platform.root, platform.layout.runtime):
        for path in root.rglob("*"):
            if path.is_file() and not path.is_symlink():
                content = path.read_bytes()
                if any(value.encode() in content for value in PLANTED):
                    hits.add(str(path.relative_to(root)))
    return hits


def servers(platform: RunningPlatform) -> set[int]:
    """Processes of the service."""
    found = {process.pid for process in processes_of(platform.layout.id, "python3")}
    return {pid for pid in found if b"server.py" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")}


async def test_a_service_whose_secret_is_missing_is_not_deployed_and_the_error_says_what_to_do(
    service: RunningPlatform,
) -> None:
    refused = service.santiago(*DEPLOY, check=False)
    assert refused.returncode == 1
    assert "no secret" in refused.stdout + refused.stderr
    assert "santiago secret set" in refused.stdout + refused.stderr


async def test_a_secret_is_rolled_out_rotated_and_rolled_back_and_found_nowhere_else(
    service: RunningPlatform, watched: set[str]
) -> None:
    put_by_hand(service, "greeting", f"{SHARED}\n")
    put(service, "tls-key", KEY, "hello")
    first = put(service, "password", FIRST, "hello")
    assert put(service, "password", FIRST, "hello")["version"] == first["version"] == 1
    service.santiago(*DEPLOY)
    assert answered(service) == digests(FIRST)

    assert put(service, "password", SECOND, "hello")["version"] == 2
    assert answered(service) == digests(FIRST), "what runs keeps what it has"
    async with service.client() as client:
        (shown,) = (await call(client, "read_architecture", {"service": "hello"}))["services"]
        assert "password=1 (stale: the next deploy gives 2)" in shown["requirements"]["secrets"]
    service.santiago("deploy", "hello", "--env", "production", "--promote", "production", "--wait")
    assert answered(service) == digests(SECOND)
    refused = service.santiago("secret", "remove", "password", "--env", "production", "--service", "hello", check=False)
    assert refused.returncode == 1
    assert "version 1" in refused.stderr, "it is the way back"
    service.santiago("rollback", "hello", "--env", "production", "--wait")
    assert answered(service) == digests(FIRST)

    assert watched == set(), "no process had one in its command line"
    hits = found(service)
    assert hits, "instances have them in files of their own"
    own = {path for path in hits if path.startswith(".santiago/units/hello__production__")}
    assert hits == own
    assert {Path(path).name.partition("-")[0] for path in own} == {"environment", "file"}


async def test_an_instance_gets_them_again_while_the_daemon_is_dead(service: RunningPlatform) -> None:
    async def daemon() -> int:
        return next(unit.pid for unit in service.platform.units() if unit.name == "daemon")

    supervisor = service.platform.supervisor
    stopping = supervisor.directory("daemon") / "stopping"
    stopping.touch()  # else it is started again
    supervisor.control("daemon", "-d")
    try:
        await eventually(daemon, lambda pid: pid == 0)
        killed = servers(service)
        assert killed
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

        async def again() -> list[str] | None:
            try:
                return answered(service)
            except OSError:
                return None

        assert await eventually(again) == digests(FIRST)
        assert not killed & servers(service)
        assert await daemon() == 0
    finally:
        stopping.unlink()
        supervisor.control("daemon", "-u")
        service.santiago("up", "-d")


async def test_what_nothing_refers_to_is_removed_and_the_ships_log_has_its_fingerprint(
    service: RunningPlatform,
) -> None:
    spare = put(service, "spare", "planted-two-spare")
    service.santiago("secret", "remove", "spare", "--env", "production")
    listed = service.santiago("secret", "list").stdout
    assert "hello/production" in listed
    assert "spare" not in listed
    assert not any(value in listed for value in PLANTED)
    log = "".join(path.read_text() for path in service.layout.ship_log.rglob("*.jsonl"))
    assert spare["fingerprint"] in log
    assert not any(value in log for value in PLANTED)
