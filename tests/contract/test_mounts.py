"""Files, volumes and several containers of real instances."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from santiago_platform.adapters.local import mounts
from santiago_platform.adapters.local.compute import LocalCompute
from santiago_platform.adapters.local.logs import FileLogs
from santiago_platform.adapters.local.mounts import Namespace
from santiago_platform.adapters.local.tenants import Tenants
from santiago_platform.adapters.process import Process, started_ticks
from santiago_platform.domain.environment import Settings
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.workload import Container, File, HttpGet, Instance, Port, Probe, Template, Volume
from santiago_platform.ports.compute import InstanceState, InstanceStatus
from santiago_platform.ports.logs import LogFilter
from santiago_platform.testing.compute import service_template, until, until_gone, until_ready
from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.supervised import SupervisedWorkspace

pytestmark = pytest.mark.e2e

T = TypeVar("T")
SERVE = service_template().command
USER = Namespace(
    ("unshare", "--user", "--map-current-user", "--keep-caps", "--mount", "--propagation", "slave"),
    ("setpriv", "--ambient-caps=-all", "--inh-caps=-all"),
)
HOSTILE = """/it's a/"quoted" $(touch owned) `id`/a#b\\040c ; rm -rf * 🚢/-n {x} %s"""


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, binary: Callable[[str], Path]) -> Iterator[SupervisedWorkspace]:
    binary("s6-svscan")
    if mounts.namespace().problem:
        pytest.skip(f"no mount namespaces here: {mounts.namespace().problem}")
    with SupervisedWorkspace(tmp_path_factory.mktemp("mounts") / "it's a workspace") as made:
        yield made


@pytest.fixture
async def compute(ground: SupervisedWorkspace) -> AsyncIterator[LocalCompute]:
    compute = ground.compute()
    yield compute
    await ground.empty(compute)


@pytest.fixture(params=["as this user", "by a user namespace"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root has a simpler one than others; the others' works for root, too."""
    if request.param == "by a user namespace":
        monkeypatch.setattr(mounts, "namespace", lambda: USER)


async def started(compute: LocalCompute, **changed: object) -> tuple[Instance, InstanceStatus]:
    instance = Instance(template=service_template(**changed), index=0)
    await compute.start(instance)
    return instance, await until_ready(compute, instance)


async def refused(compute: LocalCompute, **changed: object) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        await compute.start(Instance(template=service_template(**changed), index=0))
    assert await compute.list() == []
    assert caught.value.hint
    return caught.value


def seen_by(status: InstanceStatus, path: str) -> Path:
    """A path as the process finds it."""
    return Path(f"/proc/{status.pid}/root{path}")


def script(text: str) -> tuple[str, ...]:
    """The service, after a few lines of shell."""
    return "sh", "-c", f'{text}\nexec "$@"', "sh", *SERVE


# --- files


@pytest.mark.usefixtures("way")
async def test_files_are_at_their_paths_for_the_instance_and_for_nobody_else(
    compute: LocalCompute, ground: SupervisedWorkspace
) -> None:
    (ground.release.folder / "app.conf").write_text("I am ${metadata.name}, $$5")
    (ground.release.folder / "raw.conf").write_bytes(b"\xff${as.it.is}")
    files = (
        File(path="/etc/a-new-folder/of mine/a.conf", content="inline 🚢\n"),
        File(path="/a-new-root/b.bin", content_base64=base64.b64encode(b"\0\1\2").decode(), mode=0o600),
        File(path="/a-new-root/deep/er/c.conf", source="app.conf", placeholders=(("metadata.name", "web"),)),
        File(path="/a-new-root/d.conf", source="raw.conf", mode=0o755),
        File(path="/etc/hosts", content="covered"),
        File(path=HOSTILE, content="hostile"),
    )
    before = {path: Path(path).read_bytes() for path in ("/etc/hosts", "/etc/passwd")}
    entries = {place: sorted(os.listdir(place)) for place in ("/", "/etc")}
    _, status = await started(compute, files=files)
    assert [seen_by(status, file.path).read_bytes() for file in files] == [
        "inline 🚢\n".encode(),
        b"\0\1\2",
        b"I am web, $5",
        b"\xff${as.it.is}",
        b"covered",
        b"hostile",
    ]
    assert [seen_by(status, f.path).stat().st_mode & 0o777 for f in files[:4]] == [0o644, 0o600, 0o644, 0o755]
    assert set(entries["/etc"]) <= set(os.listdir(f"/proc/{status.pid}/root/etc"))
    assert seen_by(status, "/etc/passwd").read_bytes() == before["/etc/passwd"]
    assert {path: Path(path).read_bytes() for path in before} == before
    assert {place: sorted(os.listdir(place)) for place in entries} == entries


@pytest.mark.usefixtures("way")
async def test_a_process_with_mounts_is_the_service_itself_and_gets_its_signals(
    compute: LocalCompute, ground: SupervisedWorkspace
) -> None:
    instance, status = await started(compute, files=(File(path="/a-new-root/a", content="a"),))
    assert words_of(status.pid, "cmdline") == list(SERVE)
    assert os.readlink(f"/proc/{status.pid}/cwd") == str(ground.release.folder)
    assert os.getsid(status.pid) == status.pid
    assert len(ground.processes(instance)) == 1
    await compute.stop(instance.id)
    await until_gone(compute, instance)
    assert "ended gracefully" in ground.log(instance)
    assert all(instance.id not in text for text in mounted_anywhere())


def mounted_anywhere() -> Iterator[str]:
    for entry in os.scandir("/proc"):
        try:
            yield Path(entry.path, "mountinfo").read_text() if entry.name.isdigit() else ""
        except OSError:
            continue


async def test_a_service_that_ignores_the_term_is_killed_after_its_grace_with_mounts_too(compute: LocalCompute) -> None:
    files = (File(path="/a-new-root/a", content="a"),)
    instance, status = await started(compute, files=files, mode="ignores TERM", stop_grace_seconds=0.3)
    await compute.stop(instance.id)
    await until_gone(compute, instance)
    assert not Process(status.pid, status.started_ticks).alive


async def test_a_killed_instance_finds_its_files_again(compute: LocalCompute) -> None:
    instance, before = await started(compute, files=(File(path="/a-new-root/a", content="a"),))
    os.kill(before.pid, signal.SIGKILL)
    after = await until(compute, instance, lambda s: s.state is InstanceState.READY and s.pid != before.pid)
    assert seen_by(after, "/a-new-root/a").read_text() == "a"


@pytest.mark.usefixtures("way")
async def test_a_file_cannot_be_changed_by_the_service(compute: LocalCompute, ground: SupervisedWorkspace) -> None:
    tries = script("echo changed >/a-new-root/a || echo it is protected; umask")
    instance, status = await started(compute, command=tries, files=(File(path="/a-new-root/a", content="a"),))
    await later(lambda: ground.log(instance), lambda log: "it is protected" in log)
    assert seen_by(status, "/a-new-root/a").read_text() == "a"


async def test_what_is_in_a_file_is_in_no_argument_and_no_log_and_private_on_disk(
    compute: LocalCompute, ground: SupervisedWorkspace
) -> None:
    secret = "a-secret-3f9c"
    instance = Instance(template=service_template(files=(File(path="/a-new-root/a", content=secret),)), index=0)
    arguments = set[bytes]()

    async def look() -> InstanceStatus:
        for entry in os.scandir("/proc"):
            try:
                arguments.add(Path(entry.path, "cmdline").read_bytes() if entry.name.isdigit() else b"")
            except OSError:
                continue
        (status,) = await compute.list()
        return status

    await compute.start(instance)
    await eventually(look, lambda status: status.state is InstanceState.READY)
    assert any(b"mounts-main" in words for words in arguments)  # it was looked at while they were made
    assert not any(secret.encode() in words for words in arguments)
    assert secret not in ground.log(instance)
    assert ground.layout.units.stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("way")
async def test_a_probe_that_is_a_command_sees_what_the_instance_sees(compute: LocalCompute) -> None:
    test = 'test "$(cat /a-new-root/a)" = a && test -f service.py && echo probed >/a-new-root/data/probed'
    _, status = await started(
        compute,
        readiness=Probe(command=("sh", "-c", test)),
        files=(File(path="/a-new-root/a", content="a"),),
        volumes=(Volume(path="/a-new-root/data", name="data"),),
    )
    assert seen_by(status, "/a-new-root/data/probed").read_text() == "probed\n"


# --- volumes


@pytest.mark.usefixtures("way")
async def test_a_volume_is_kept_between_versions_and_shared_by_the_instances_of_a_service(
    compute: LocalCompute, ground: SupervisedWorkspace
) -> None:
    kept = (Volume(path="/var/lib/a-new-folder/data", name="kept"), Volume(path="/a-new-root/part", name="b"))
    first, status = await started(compute, volumes=kept)
    seen_by(status, "/var/lib/a-new-folder/data/state").write_text("of the first version")
    second, status = await started(
        compute,
        mode="2",
        volumes=(Volume(path="/elsewhere", name="kept", read_only=True),),
        command=script("touch /elsewhere/x"),
    )
    assert first.template.version != second.template.version
    assert seen_by(status, "/elsewhere/state").read_text() == "of the first version"
    await later(lambda: ground.log(second), lambda log: "Read-only file system" in log)
    _, status = await started(compute, service="other", volumes=kept)
    assert list(seen_by(status, "/var/lib/a-new-folder/data").iterdir()) == []
    folder = ground.layout.volumes / "web__production" / "kept"
    assert (folder / "state").exists()
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("way")
async def test_a_part_of_a_volume_can_be_mounted_alone(compute: LocalCompute, ground: SupervisedWorkspace) -> None:
    _, status = await started(compute, volumes=(Volume(path="/a-new-root/part", name="whole", subpath="a/b"),))
    seen_by(status, "/a-new-root/part/x").write_text("x")
    assert (ground.layout.volumes / "web__production" / "whole" / "a" / "b" / "x").read_text() == "x"


async def test_a_link_in_a_volume_leads_nowhere(
    compute: LocalCompute, ground: SupervisedWorkspace, tmp_path: Path
) -> None:
    folder = ground.layout.volumes / "web__production" / "linked"
    folder.mkdir(parents=True, mode=0o700)
    (folder / "part").symlink_to(tmp_path)
    volume = Volume(path="/a-new-root/part", name="linked", subpath="part/deeper")
    error = await refused(compute, volumes=(volume,))
    assert "/a-new-root/part cannot be mounted" in error.message
    assert list(tmp_path.iterdir()) == []


async def test_a_volume_whose_part_became_a_link_later_is_not_followed(
    compute: LocalCompute, ground: SupervisedWorkspace, tmp_path: Path
) -> None:
    volume = Volume(path="/a-new-root/part", name="later", subpath="part")
    instance, status = await started(compute, volumes=(volume,))
    part = ground.layout.volumes / "web__production" / "later" / "part"
    part.rename(part.with_name("moved"))
    part.symlink_to(tmp_path)
    os.kill(status.pid, signal.SIGKILL)
    failed = await until(compute, instance, lambda s: s.state is InstanceState.FAILED)
    assert "exited with code 111" in failed.reason
    await later(lambda: ground.log(instance), lambda log: "/a-new-root/part cannot be mounted" in log)


# --- refusals


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ((File(path="/etc", content="x"),), "/etc cannot be mounted: something else is there"),
        ((File(path="/etc/passwd/x", content="x"),), "/etc/passwd/x cannot be mounted"),
        ((File(path="/a-new-root/x", source="none.conf"),), "the release has no file none.conf"),
        ((File(path="/a-new-root/x", source="link.conf"),), "the release has no file link.conf"),
        ((File(path="/a-new-root/x", source="bad.conf", placeholders=()),), "${unknown.thing}"),
        ((File(path="/a-new-root/x", source="raw.conf", placeholders=()),), "not UTF-8"),
    ],
)
async def test_what_cannot_be_mounted_is_refused_with_the_path_before_anything_starts(
    compute: LocalCompute, ground: SupervisedWorkspace, files: tuple[File, ...], words: str
) -> None:
    (ground.release.folder / "bad.conf").write_text("${unknown.thing}")
    (ground.release.folder / "raw.conf").write_bytes(b"\xff")
    link = ground.release.folder / "link.conf"
    link.unlink(missing_ok=True)
    link.symlink_to("/etc/passwd")
    error = await refused(compute, files=files)
    assert words in error.message
    assert "web cannot be started in production" in error.message


async def test_a_volume_over_a_file_is_refused(compute: LocalCompute) -> None:
    error = await refused(compute, volumes=(Volume(path="/etc/passwd", name="data"),))
    assert "/etc/passwd cannot be mounted: something else is there" in error.message


async def test_a_user_who_gets_no_namespace_is_told_so_with_the_paths(
    compute: LocalCompute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "namespace", lambda: Namespace(problem="unshare failed: Operation not permitted"))
    error = await refused(compute, files=(File(path="/app/a.conf", content="x"),))
    assert error.code is ErrorCode.FAILED_PRECONDITION
    assert "/app/a.conf" in error.message
    assert "Operation not permitted" in error.message
    assert "as root" in error.hint
    await started(compute)  # what needs none runs


# --- several containers

PORTS = (Port(name="http", target=8080), Port(name="side", target=8081))
SIDE = """\
import os, signal, sys
print("beside", os.environ["WHO"], signal.getsignal(signal.SIGINT) is signal.default_int_handler, flush=True)
def end(*_):
    print("the side ended gracefully", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
while True:
    signal.pause()
"""


def side(**changed: object) -> Container:
    fields = {
        "name": "side-car",
        "command": (sys.executable, "-I", "-S", "-c", SIDE),
        "variables": (("WHO", "it's me"),),
    }
    return Container(**{**fields, **changed})  # type: ignore[arg-type]


def both(**changed: object) -> Template:
    return service_template(ports=PORTS, beside=(side(**changed),))


async def later(look: Callable[[], T], accept: Callable[[T], object]) -> T:
    async def looked() -> T:
        return look()

    return await eventually(looked, accept)


def words_of(pid: int, file: str) -> list[str]:
    return Path(f"/proc/{pid}/{file}").read_bytes().decode().split("\0")[:-1]


def pid_of(ground: SupervisedWorkspace, instance: Instance, name: str) -> int:
    return int((ground.supervisor.directory(instance.id) / f"pid-{name}").read_text())


async def run(compute: LocalCompute, template: Template) -> tuple[Instance, InstanceStatus]:
    instance = Instance(template=template, index=0)
    await compute.start(instance)
    return instance, await until_ready(compute, instance)


async def test_containers_start_together_and_say_who_says_what(
    compute: LocalCompute, ground: SupervisedWorkspace
) -> None:
    instance, status = await run(compute, both())
    said = {f"[main] serving {status.endpoints['http'].port}", "[side-car] beside it's me True"}
    await later(lambda: {line.partition(" ")[2] for line in ground.log(instance).splitlines()}, lambda log: said <= log)
    for name, command in (("main", SERVE), ("side-car", side().command)):
        assert words_of(pid_of(ground, instance, name), "cmdline") == list(command)
        assert os.readlink(f"/proc/{pid_of(ground, instance, name)}/cwd") == str(ground.release.folder)


async def test_each_container_has_its_own_variables_files_and_volumes_and_all_ports(
    compute: LocalCompute, ground: SupervisedWorkspace
) -> None:
    template = service_template(
        ports=PORTS,
        files=(File(path="/a-new-root/a", content="of main"),),
        volumes=(Volume(path="/a-new-root/data", name="shared"),),
        beside=(
            side(
                files=(File(path="/a-new-root/a", content="of the side"),),
                volumes=(Volume(path="/a-new-root/its/data", name="shared"),),
            ),
        ),
    )
    instance, status = await run(compute, template)
    views = {name: Path(f"/proc/{pid_of(ground, instance, name)}/root/a-new-root") for name in ("main", "side-car")}
    assert {name: (view / "a").read_text() for name, view in views.items()} == {
        "main": "of main",
        "side-car": "of the side",
    }
    (views["main"] / "data" / "x").write_text("shared")
    assert (views["side-car"] / "its" / "data" / "x").read_text() == "shared"
    pid = pid_of(ground, instance, "side-car")
    await later(lambda: words_of(pid, "cmdline"), lambda words: words == list(side().command))
    found = dict(word.split("=", 1) for word in words_of(pid, "environ"))
    assert found.pop("PATH").startswith("/")
    assert found == {
        "WHO": "it's me",
        "HOME": str(ground.home(template)),
        "LANG": "C.UTF-8",
        "PORT": str(status.endpoints["http"].port),
        "PORT_SIDE": str(status.endpoints["side"].port),
        "SANTIAGO_INSTANCE": instance.id,
        "SANTIAGO_WORKSPACE_ID": ground.layout.id,
    }


async def test_an_instance_is_ready_when_all_of_its_containers_are(
    compute: LocalCompute, ground: SupervisedWorkspace
) -> None:
    probe = Probe(command=("sh", "-c", 'test -e "$HOME/side-is-ready"'))
    instance = Instance(template=both(readiness=probe), index=0)
    await compute.start(instance)
    status = await until(compute, instance, lambda s: "exited with code" in s.reason)
    assert status.reason.startswith("side-car: the probe's command")
    assert status.state is InstanceState.STARTING
    (ground.home(instance.template) / "side-is-ready").touch()
    await until_ready(compute, instance)
    (ground.home(instance.template) / "side-is-ready").unlink()


async def test_a_container_with_a_port_of_its_own_is_probed_there(compute: LocalCompute) -> None:
    serves = ("sh", "-c", 'PORT=$PORT_SIDE exec "$@"', "sh", *SERVE)
    await run(compute, both(command=serves, readiness=Probe(http_get=HttpGet(path="/healthz", port="side"))))


@pytest.mark.parametrize("name", ["main", "side-car"])
async def test_the_others_of_a_killed_container_end_gracefully_and_all_are_started_again(
    compute: LocalCompute, ground: SupervisedWorkspace, name: str
) -> None:
    instance, before = await run(compute, both())
    old = {n: pid_of(ground, instance, n) for n in ("main", "side-car")}
    os.kill(old[name], signal.SIGKILL)
    after = await until(compute, instance, lambda s: s.state is InstanceState.READY and s.pid != before.pid)
    assert after.restarts == 1
    assert not {pid_of(ground, instance, n) for n in old} & set(old.values())
    assert [pid for pid in old.values() if started_ticks(pid)] == []
    said = "[side-car] the side ended gracefully" if name == "main" else "[main] ended gracefully"
    await later(lambda: ground.log(instance), lambda log: said in log)
    assert f"the container {name} ended with code 137" in ground.log(instance)


async def test_a_container_that_ends_each_time_fails_the_instance_with_its_name(compute: LocalCompute) -> None:
    instance = Instance(template=both(command=("sh", "-c", "exit 3")), index=0)
    await compute.start(instance)
    status = await until(compute, instance, lambda s: s.state is InstanceState.FAILED)
    assert status.reason.startswith("exited with code 3, after it lost its container side-car")


async def test_stopping_ends_all_containers_gracefully(compute: LocalCompute, ground: SupervisedWorkspace) -> None:
    instance, _ = await run(compute, both())
    await compute.stop(instance.id)
    await until_gone(compute, instance)
    assert "[main] ended gracefully" in ground.log(instance)
    assert "[side-car] the side ended gracefully" in ground.log(instance)
    assert ground.processes(instance) == []


async def test_a_container_that_ignores_the_term_is_killed_after_the_grace(
    compute: LocalCompute, ground: SupervisedWorkspace
) -> None:
    stubborn = ("sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")
    template = service_template(ports=PORTS, stop_grace_seconds=0.4, beside=(side(command=stubborn),))
    instance, _ = await run(compute, template)
    await compute.stop(instance.id)
    await until_gone(compute, instance)
    assert ground.processes(instance) == []


async def test_a_killed_launcher_leaves_no_container_behind(compute: LocalCompute, ground: SupervisedWorkspace) -> None:
    instance, before = await run(compute, both())
    old = [pid_of(ground, instance, n) for n in ("main", "side-car")]
    os.kill(before.pid, signal.SIGKILL)
    await until(compute, instance, lambda s: s.state is InstanceState.READY and s.pid != before.pid)
    assert [pid for pid in old if started_ticks(pid)] == []


async def test_a_container_that_is_not_alive_restarts_the_instance_as_one(
    compute: LocalCompute, ground: SupervisedWorkspace
) -> None:
    probe = Probe(command=("sh", "-c", 'test ! -e "$HOME/side-hangs"'))
    instance, before = await run(compute, both(liveness=probe))
    hangs = ground.home(instance.template) / "side-hangs"
    hangs.touch()
    await until(compute, instance, lambda s: s.pid not in (0, before.pid))
    hangs.unlink()
    await until_ready(compute, instance)


async def test_concurrent_instances_with_containers_and_mounts_do_not_disturb_each_other(
    compute: LocalCompute, ground: SupervisedWorkspace
) -> None:
    template = both(files=(File(path="/a-new-root/a", content="a"),))
    instances = [Instance(template=template, index=index) for index in range(4)]
    await asyncio.gather(*(compute.start(instance) for instance in instances))
    for instance in instances:
        await until_ready(compute, instance)


# --- tenants


@pytest.mark.skipif(os.geteuid() != 0, reason="a tenant has a user of its own where the platform is root")
async def test_a_tenant_gets_its_files_and_volumes_as_its_own_user(ground: SupervisedWorkspace) -> None:
    settings = Settings.model_validate({"tenants": {"acme": {"services": ["web"]}}})
    compute = ground.compute(tenants=Tenants(ground.layout, lambda: settings))
    template = service_template(
        tenant="acme",
        ports=PORTS,
        command=("sh", "-c", "cat /a-new-root/private && date >/a-new-root/data/written && exec sleep 600"),
        readiness=Probe(command=("sh", "-c", "cat /a-new-root/private && test -O /a-new-root/data/written")),
        files=(File(path="/a-new-root/private", content="for its user alone\n", mode=0o600),),
        volumes=(Volume(path="/a-new-root/data", name="of-a-tenant"),),
        beside=(side(command=("sleep", "600"), files=(File(path="/a-new-root/other", content="x"),)),),
    )
    instance, _ = await run(compute, template)
    uids = {name: os.stat(f"/proc/{pid_of(ground, instance, name)}").st_uid for name in ("main", "side-car")}
    assert set(uids.values()) == {Tenants(ground.layout, lambda: settings).uid("acme")}
    await later(lambda: ground.log(instance), lambda log: "[main] for its user alone" in log)
    folder = ground.layout.volumes / "web__production" / "of-a-tenant"
    assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (uids["main"], 0o700)
    await ground.empty(compute)


async def test_the_level_of_a_line_is_known_behind_the_name_of_its_container(
    compute: LocalCompute, ground: SupervisedWorkspace
) -> None:
    says = """echo '{"level": "error", "message": "json"}'; echo 'WARN words'; exec sleep 600"""
    instance, _ = await run(compute, both(command=("sh", "-c", says)))
    logs = FileLogs(ground.layout)

    async def levels() -> dict[str, str]:
        page = await logs.read(LogFilter(instance=instance.id))
        return {line.text: line.level for line in page.lines}

    found = await eventually(levels, lambda seen: "[side-car] WARN words" in seen)
    assert found["[side-car] WARN words"] == "warning"
    assert found['[side-car] {"level": "error", "message": "json"}'] == "error"
