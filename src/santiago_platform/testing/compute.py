"""The contract of ports.compute.Compute, and a release to run it with."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ..adapters.fake.workspace import FakeArtifacts
from ..domain.errors import ErrorCode, PlatformError
from ..domain.release import Release
from ..domain.workload import HttpGet, Instance, Port, Probe, Template
from ..ports.compute import Compute, InstanceState, InstanceStatus
from .eventually import eventually

RELEASE = f"sha256:{'a' * 64}"
Make = Callable[..., Template]

# It serves `PATH` with the status in the file `PATH` of HOME, else with 200; MODE tells what it does wrong.
SERVICE = """\
import os, signal, socket, sys
mode = os.environ.get("MODE", "")
print("serving", os.environ.get("PORT"), flush=True)
def end(*_):
    print("ended gracefully", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "ignores TERM" else end)
if mode.startswith("exits "):
    sys.exit(int(mode.split()[1]))
if mode == "listens nowhere":
    signal.pause()
if mode == "leaves a child" and os.fork() == 0:
    os.setsid()
    signal.pause()
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", 0 if mode == "listens elsewhere" else int(os.environ["PORT"])))
listener.listen()
if mode == "listens elsewhere":
    print("elsewhere", listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    asked = connection.recv(4096).split()
    file = os.path.join(os.environ["HOME"], os.path.basename(asked[1].decode())) if len(asked) > 1 else ""
    status = open(file).read().strip() if os.path.isfile(file) else "200"
    try:
        connection.sendall(b"HTTP/1.1 %s X\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n" % status.encode())
    except OSError:
        pass
    connection.close()
"""


class UnpackedRelease(FakeArtifacts):
    """The one release RELEASE, which is a folder that holds SERVICE as `service.py`. Others are missing."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "service.py").write_text(SERVICE)
        self.folder = folder

    async def get(self, digest: str) -> Release:
        if digest != RELEASE:
            raise PlatformError(ErrorCode.NOT_FOUND, f"there is no release {digest}")
        made = datetime(2026, 1, 1, tzinfo=UTC)
        return Release(
            digest=digest,
            service="web",
            commit="c" * 40,
            committed_at=made,
            built_at=made,
            score="",
            local_only=True,
            sbom=digest,
            signed_by="nobody",
            size_bytes=len(SERVICE),
        )

    async def unpack(self, digest: str) -> Path:
        return self.folder


def service_template(service: str = "web", **changed: Any) -> Template:
    """Of SERVICE with one HTTP port and a health path. mode: what it does wrong. changed: fields of the template."""
    variables = {"MODE": changed.pop("mode", ""), **changed.pop("variables", {})}
    fields: dict[str, Any] = {
        "environment": "production",
        "tenant": "default",
        "release": RELEASE,
        "command": (sys.executable, "-I", "-S", "service.py"),
        "ports": (Port(name="http", target=8080),),
        "readiness": Probe(http_get=HttpGet(path="/healthz", port="http")),
        "stop_grace_seconds": 5.0,
        **changed,
    }
    return Template(service=service, variables=tuple(sorted(variables.items())), **fields)


async def status_of(compute: Compute, instance: Instance) -> InstanceStatus | None:
    listed = await compute.list(instance.template.service, instance.template.environment)
    return next((status for status in listed if status.instance == instance), None)


def without_use(status: InstanceStatus) -> InstanceStatus:
    """The status as far as it stays the same while nothing happens."""
    return status.model_copy(update={"memory_bytes": None})


async def listed(compute: Compute) -> list[InstanceStatus]:
    return [without_use(status) for status in await compute.list()]


async def until(
    compute: Compute, instance: Instance, accept: Callable[[InstanceStatus], object], seconds: float = 15.0
) -> InstanceStatus:
    """The status of the instance as soon as it is listed and `accept` likes it."""
    seen = await eventually(lambda: status_of(compute, instance), lambda s: s is not None and accept(s), seconds)
    assert seen is not None  # `eventually` saw to it
    return seen


async def until_ready(compute: Compute, instance: Instance) -> InstanceStatus:
    return await until(compute, instance, lambda s: s.state is InstanceState.READY)


async def until_gone(compute: Compute, instance: Instance) -> None:
    await eventually(lambda: status_of(compute, instance), lambda status: status is None, 15.0)


class ComputeContract:
    """Fixtures: `compute`, empty before each test; `make`, which makes templates as `service_template` does;
    `dying` and `unready`, templates of a service that ends at once each time, and of one that never gets ready."""

    async def test_a_started_instance_becomes_ready_with_a_process_and_an_address_for_each_port(
        self, compute: Compute, make: Make
    ) -> None:
        ports = (Port(name="http", target=8080), Port(name="admin", target=8081))
        instance = Instance(template=make(ports=ports), index=0)
        await compute.start(instance)
        status = await until_ready(compute, instance)
        assert list(status.endpoints) == ["http", "admin"]
        assert len({(e.host, e.port) for e in status.endpoints.values()}) == 2
        assert {e.instance for e in status.endpoints.values()} == {instance.id}
        assert status.pid > 0
        assert status.started_ticks > 0
        assert (status.restarts, status.reason) == (0, "")

    async def test_starting_what_runs_changes_nothing(self, compute: Compute, make: Make) -> None:
        instance = Instance(template=make(), index=0)
        await compute.start(instance)
        before = await until_ready(compute, instance)
        await compute.start(instance)
        assert await listed(compute) == [without_use(before)]

    async def test_instances_of_one_template_share_no_address_and_no_process(
        self, compute: Compute, make: Make
    ) -> None:
        both = [Instance(template=make(), index=index) for index in (0, 1)]
        for instance in both:
            await compute.start(instance)
        seen = [await until_ready(compute, instance) for instance in both]
        assert seen[0].endpoints["http"].port != seen[1].endpoints["http"].port
        assert seen[0].pid != seen[1].pid

    async def test_a_stopped_instance_is_forgotten_and_can_be_started_anew(self, compute: Compute, make: Make) -> None:
        instance = Instance(template=make(), index=0)
        await compute.start(instance)
        before = await until_ready(compute, instance)
        await compute.stop(instance.id)
        await until_gone(compute, instance)
        await compute.start(instance)
        after = await until_ready(compute, instance)
        assert (after.pid, after.started_ticks) != (before.pid, before.started_ticks)
        assert after.restarts == 0

    async def test_stopping_may_be_repeated(self, compute: Compute, make: Make) -> None:
        instance = Instance(template=make(), index=0)
        await compute.start(instance)
        for _ in range(3):
            await compute.stop(instance.id)
        await until_gone(compute, instance)
        await compute.stop(instance.id)
        assert await compute.list() == []

    @pytest.mark.parametrize("unknown", ["no__such__instance__0", "daemon", "", "..", "../units", "a__b/../../c__0"])
    async def test_stopping_what_is_unknown_is_no_error_and_harms_nothing(
        self, compute: Compute, make: Make, unknown: str
    ) -> None:
        instance = Instance(template=make(), index=0)
        await compute.start(instance)
        before = await until_ready(compute, instance)
        await compute.stop(unknown)
        assert await listed(compute) == [without_use(before)]

    async def test_instances_are_listed_by_service_environment_version_and_index(
        self, compute: Compute, make: Make
    ) -> None:
        template = make()
        wanted = [
            Instance(template=make("a-shop", environment="staging"), index=0),
            Instance(template=template, index=2),
            Instance(template=template, index=10),
        ]
        for instance in reversed(wanted):
            await compute.start(instance)
        assert [s.instance for s in await compute.list()] == wanted
        assert [s.instance for s in await compute.list("a-shop")] == wanted[:1]
        assert [s.instance for s in await compute.list("web", "production")] == wanted[1:]
        assert await compute.list("web", "staging") == []
        assert await compute.list("we") == []

    async def test_many_lists_at_once_all_answer_while_it_becomes_ready(self, compute: Compute, make: Make) -> None:
        instance = Instance(template=make(), index=0)
        await compute.start(instance)

        async def look() -> list[InstanceStatus]:
            lists = await asyncio.gather(*(compute.list("web", "production") for _ in range(5)))
            return [status for found in lists for status in found]

        seen = await eventually(look, lambda found: all(s.state is InstanceState.READY for s in found))
        assert [status.instance for status in seen] == [instance] * 5

    async def test_one_that_ends_each_time_is_given_up_on_with_a_reason(
        self, compute: Compute, dying: Template
    ) -> None:
        instance = Instance(template=dying, index=0)
        await compute.start(instance)
        status = await until(compute, instance, lambda s: s.state is InstanceState.FAILED)
        assert "exited with code 3" in status.reason
        assert "exited with code 3" in status.last_end
        assert status.pid == 0
        await compute.stop(instance.id)
        await until_gone(compute, instance)

    async def test_starting_does_not_wait_for_readiness_and_what_is_not_ready_says_why(
        self, compute: Compute, unready: Template
    ) -> None:
        instance = Instance(template=unready, index=0)
        await compute.start(instance)
        status = await until(compute, instance, lambda s: "nothing listens" in s.reason)
        assert status.state is InstanceState.STARTING
        assert status.pid > 0
