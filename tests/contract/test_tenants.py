"""Tenants on the real thing: each a user of its own where the tests run as root; the refusal where they do not."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local.compute import LocalCompute
from santiago_platform.adapters.local.jobs import LocalJobs
from santiago_platform.adapters.local.launcher import Launcher
from santiago_platform.adapters.local.port_registry import PortRegistry
from santiago_platform.adapters.local.supervisor import Supervisor
from santiago_platform.adapters.local.tenants import FIRST_UID, LAST_UID, Tenants
from santiago_platform.adapters.process import processes_of, user_of
from santiago_platform.adapters.system import SystemClock
from santiago_platform.domain.environment import Settings, Tenant
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.secret import SecretRef
from santiago_platform.domain.workload import File, Instance, Probe, Template
from santiago_platform.ports.compute import InstanceState, InstanceStatus
from santiago_platform.ports.jobs import JobState
from santiago_platform.testing.compute import UnpackedRelease, service_template, until_gone, until_ready
from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.jobs import shell_run
from santiago_platform.testing.jobs import until as ended
from santiago_platform.testing.jobs import until_gone as until_run_gone
from santiago_platform.testing.lifeline import Lifeline

SETTINGS = Settings(tenants={"shop": Tenant(services=("till",)), "bank": Tenant(services=("vault",))})
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be other users")

# It tells what it is and what it can reach, and goes on to serve.
LOOKS = """\
import json, os, sys
def reads(path):
    try:
        return os.listdir(path) if os.path.isdir(path) else open(path).read()
    except OSError as exc:
        return exc.strerror
def shows(pid):
    return os.path.exists(f"/proc/{pid}")
open(os.path.join(os.environ["HOME"], "kept"), "w").write(os.environ["TILL"])
print("SEEN", json.dumps({
    "ids": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
    "home": os.environ["HOME"], "kept": reads(os.path.join(os.environ["HOME"], "kept")),
    "place": os.getcwd(), "release": "serving" in reads("service.py"),
    "reached": {path: reads(path) for path in sys.argv[1:]},
    "parent": shows(os.getppid()), "status": open("/proc/self/status").read(),
}), flush=True)
exec(open("service.py").read())
"""


class Ground:
    def __init__(self, root: Path, lifeline: Lifeline) -> None:
        root.mkdir()
        lifeline.watch(root)
        self.layout = Layout.of(root)
        self.layout.state.mkdir(mode=0o700)
        self.supervisor = Supervisor(self.layout)
        self.supervisor.start_tree()
        self.release = UnpackedRelease(self.layout.state / "unpacked" / "release")
        self.settings = SETTINGS

    @property
    def tenants(self) -> Tenants:
        return Tenants(self.layout, lambda: self.settings)

    def home(self, template: Template) -> Path:
        return self.layout.state / "home" / f"{template.service}__{template.environment}"

    async def seen(self, instance: Instance) -> dict[str, object]:
        """What the instance tells of itself."""
        log = self.layout.logs / instance.id / "current"

        async def lines() -> list[str]:
            return [line for line in log.read_text().splitlines() if " SEEN " in line] if log.exists() else []

        found = await eventually(lines)
        told: dict[str, object] = json.loads(found[-1].partition(" SEEN ")[2])
        return told


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, binary: Callable[[str], Path]) -> Iterator[Ground]:
    binary("s6-svscan")
    lifeline = Lifeline()
    made = Ground(tmp_path_factory.mktemp("tenants") / "workspace", lifeline)
    yield made
    made.supervisor.stop_tree(5)
    lifeline.close()
    assert list(processes_of(made.layout.id)) == []


@pytest.fixture
async def compute(ground: Ground) -> AsyncIterator[LocalCompute]:
    registry = PortRegistry(ground.layout.root)
    compute = LocalCompute(
        ground.layout, ground.supervisor, registry, ground.release, SystemClock(), tenants=ground.tenants
    )
    yield compute
    for status in await compute.list():
        await compute.stop(status.instance.id)
    await eventually(compute.list, lambda listed: not listed)


def template(service: str, *reached: Path, **changed: object) -> Template:
    return service_template(
        service,
        tenant=SETTINGS.tenant_of(service),
        command=("python3", "-I", "-S", "-c", LOOKS, *map(str, reached)),
        **{"variables": {"TILL": service}, **changed},
    )


async def started(compute: LocalCompute, template: Template) -> tuple[Instance, InstanceStatus]:
    instance = Instance(template=template, index=0)
    await compute.start(instance)
    return instance, await until_ready(compute, instance)


@pytest.mark.e2e
@as_root
class TestAsRoot:
    async def test_each_runs_as_its_own_user_in_its_release_with_a_home_of_its_own(
        self, compute: LocalCompute, ground: Ground
    ) -> None:
        users = []
        for service in ("till", "vault"):
            made = template(service)
            instance, status = await started(compute, made)
            told = await ground.seen(instance)
            uid = os.stat(f"/proc/{status.pid}").st_uid
            users.append(uid)
            assert FIRST_UID <= uid <= LAST_UID
            assert told["ids"] == [uid] * 6
            assert told["kept"] == service
            assert told["release"] is True
            home = ground.home(made)
            assert (home / "kept").read_text() == service
            assert (home.stat().st_uid, stat.S_IMODE(home.stat().st_mode)) == (uid, 0o700)
            assert stat.S_IMODE((home / "kept").stat().st_mode) & 0o077 == 0
        assert users[0] != users[1]
        assert [ground.tenants.uid(tenant) for tenant in ("shop", "bank")] == users

    async def test_a_job_runs_as_the_user_of_its_tenant_and_is_ended_at_its_time_out(self, ground: Ground) -> None:
        launcher = Launcher(ground.layout, ground.supervisor, ground.release, tenants=ground.tenants)
        jobs = LocalJobs(ground.layout, ground.supervisor, launcher)
        mine = {"service": "till", "tenant": "shop", "stop_grace_seconds": 1.0}
        run = shell_run('id -u >"$HOME/uid"; trap "" TERM; sleep 300', timeout_seconds=1, template=mine)
        await jobs.start(run)
        assert (await ended(jobs, run, JobState.FAILED)).reason == "ran out of time (1 s)"
        uid = ground.tenants.uid("shop")
        assert (ground.home(run.workload) / "uid").read_text() == f"{uid}\n"
        assert list(processes_of(ground.layout.id, "sleep")) == []
        await until_run_gone(jobs, run)

    async def test_it_is_not_ready_while_its_launcher_is_on_the_way_to_its_user(
        self, ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gate, way = tmp_path / "gate", Tenants.prefix
        wait = ("sh", "-c", 'until [ -e "$1" ]; do sleep 0.02; done; shift; exec "$@"', "wait", str(gate))
        monkeypatch.setattr(Tenants, "prefix", lambda *words: (*wait, *way(*words)))
        registry, tenants = PortRegistry(ground.layout.root), ground.tenants
        compute = LocalCompute(
            ground.layout, ground.supervisor, registry, ground.release, SystemClock(), tenants=tenants
        )
        # Nothing to ask for but whether it runs: without ports and without a probe.
        instance = Instance(template=template("till", ports=(), readiness=Probe()), index=0)
        await compute.start(instance)
        held = await eventually(compute.list, lambda listed: bool(listed and listed[0].pid))
        for _ in range(5):
            held = await compute.list()
            assert (held[0].state, held[0].reason) == (InstanceState.STARTING, "it is being started")
        gate.touch()
        ready = await until_ready(compute, instance)
        assert ready.pid == held[0].pid, "the launcher became the program"
        assert user_of(ready.pid) == tenants.uid("shop")
        await compute.stop(instance.id)
        await eventually(compute.list, lambda listed: not listed)

    async def test_it_reaches_nothing_of_another_and_nothing_of_the_platform(
        self, compute: LocalCompute, ground: Ground
    ) -> None:
        vault, held = await started(compute, template("vault"))
        await ground.seen(vault)
        secrets = [
            ground.home(vault.template) / "kept",
            ground.home(vault.template),
            ground.layout.state,
            ground.layout.state / "tenants.json",
            ground.supervisor.directory(vault.id) / "run",
            Path(f"/proc/{held.pid}/environ"),
            Path(f"/proc/{held.pid}/root/run/santiago-{ground.layout.id}/home/kept"),
            Path("/etc/shadow"),
        ]
        instance, _ = await started(compute, template("till", *secrets))
        told = await ground.seen(instance)
        reached = told["reached"]
        assert isinstance(reached, dict)
        assert set(reached.values()) <= {"Permission denied", "No such file or directory"}

    async def test_its_secrets_reach_it_alone_by_no_command_line_and_a_tenant_reads_no_other_ones(
        self, ground: Ground
    ) -> None:
        ref = SecretRef(name="password", version=1)
        values = {str(ref): "planted 'value' $x"}
        compute = LocalCompute(
            ground.layout,
            ground.supervisor,
            PortRegistry(ground.layout.root),
            ground.release,
            SystemClock(),
            tenants=ground.tenants,
            secrets=lambda template: values if template.secrets else {},
        )
        opens = (
            "import hashlib, os, signal\n"
            "held = os.environ['PASSWORD'], open('/etc/password-of-santiago').read()\n"
            "shape = os.stat('/etc/password-of-santiago')\n"
            "print(*(hashlib.sha256(text.encode()).hexdigest() for text in held), shape.st_uid == os.getuid(), "
            "oct(shape.st_mode), flush=True)\n"
            "signal.pause()\n"
        )
        vault = service_template(
            "vault",
            tenant="bank",
            command=("python3", "-I", "-S", "-c", opens),
            variables={"PASSWORD": f"u:{ref}"},
            files=(File(path="/etc/password-of-santiago", mode=0o400, content=f"u:{ref}"),),
            secrets=(ref,),
            ports=(),
            readiness=Probe(command=("sh", "-c", "[ ${#PASSWORD} -eq 20 ]")),
        )
        instance, status = await started(compute, vault)
        log = ground.layout.logs / instance.id / "current"
        digest = hashlib.sha256(f"u:{values[str(ref)]}".encode()).hexdigest()
        await eventually(
            lambda: asyncio.to_thread(log.read_text), lambda text: f"{digest} {digest} True 0o100400" in text
        )
        unit = ground.supervisor.directory(instance.id)
        holding = {path.name: path for path in unit.rglob("*") if path.is_file() and b"planted" in path.read_bytes()}
        assert holding.keys() == {"environment", "file-main-0"}
        assert holding["environment"].stat().st_mode & 0o777 == 0o600
        reader, _ = await started(compute, template("till", *holding.values(), Path(f"/proc/{status.pid}/environ")))
        reached = (await ground.seen(reader))["reached"]
        assert isinstance(reached, dict)
        assert set(reached.values()) <= {"Permission denied", "No such file or directory"}
        for status in await compute.list():
            await compute.stop(status.instance.id)
        await eventually(compute.list, lambda listed: not listed)

    async def test_it_has_no_privilege_left_and_can_get_none(self, compute: LocalCompute, ground: Ground) -> None:
        instance, _ = await started(compute, template("till"))
        told = str((await ground.seen(instance))["status"])
        fields = dict(line.split(":\t", 1) for line in told.splitlines() if ":\t" in line)
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(fields[kind], 16) == 0, kind
        assert fields["NoNewPrivs"] == "1"

    async def test_its_variables_are_nothing_to_what_makes_it_the_tenant(
        self, compute: LocalCompute, ground: Ground, tmp_path: Path
    ) -> None:
        """A search path or a library of its author must not run as root."""
        planted = tmp_path / "bin"
        planted.mkdir()
        for name in ("unshare", "sh", "mount", "setpriv", "env", "mkdir"):
            (planted / name).write_text(f"#!/bin/sh\nid -u >{tmp_path}/owned\n")
            (planted / name).chmod(0o755)
        variables = {"TILL": "till", "PATH": f"{planted}:/usr/bin:/bin", "LD_PRELOAD": "/none.so", "ENV": "/none"}
        made = template("till", variables=variables, readiness=Probe(command=("true",)))
        instance, _ = await started(compute, made)
        await ground.seen(instance)
        assert not (tmp_path / "owned").exists()

    async def test_the_command_of_its_probe_is_the_tenants_too(self, compute: LocalCompute, ground: Ground) -> None:
        probe = Probe(command=("sh", "-c", 'id -u >"$HOME/probed"; test -f service.py'))
        instance, status = await started(compute, template("till", readiness=probe))
        await ground.seen(instance)
        probed = ground.home(instance.template) / "probed"
        assert int(probed.read_text()) == probed.stat().st_uid == os.stat(f"/proc/{status.pid}").st_uid

    async def test_it_ends_gracefully_and_nothing_stays_mounted(self, compute: LocalCompute, ground: Ground) -> None:
        instance, _ = await started(compute, template("till"))
        await compute.stop(instance.id)
        await until_gone(compute, instance)
        assert "ended gracefully" in (ground.layout.logs / instance.id / "current").read_text()
        assert f"santiago-{ground.layout.id}" not in Path("/proc/self/mountinfo").read_text()

    async def test_a_home_of_another_user_is_handed_over_whole_and_no_link_is_followed(
        self, compute: LocalCompute, ground: Ground, tmp_path: Path
    ) -> None:
        made = template("till", environment="staging")
        home, outside = ground.home(made), tmp_path / "outside"
        (home / "deep").mkdir(parents=True)
        (home / "deep" / "file").write_text("old")
        outside.write_text("not its own")
        (home / "link").symlink_to(outside)
        _, status = await started(compute, made)
        uid = os.stat(f"/proc/{status.pid}").st_uid
        assert {path.lstat().st_uid for path in (home, home / "deep", home / "deep/file", home / "link")} == {uid}
        assert outside.stat().st_uid == 0

    async def test_the_workspaces_own_tenant_has_a_user_too_once_there_are_others(self, compute: LocalCompute) -> None:
        _, status = await started(compute, template("web"))
        assert os.stat(f"/proc/{status.pid}").st_uid >= FIRST_UID

    async def test_without_other_tenants_services_run_as_the_platforms_user(
        self, compute: LocalCompute, ground: Ground, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ground, "settings", Settings())
        _, status = await started(compute, template("web", environment="staging"))
        assert os.stat(f"/proc/{status.pid}").st_uid == os.geteuid()

    async def test_its_disk_is_measured(self, compute: LocalCompute, ground: Ground) -> None:
        instance, _ = await started(compute, template("vault"))
        home = ground.home(instance.template)
        before = await compute.disk_bytes(["vault"])
        (home / "large").write_bytes(os.urandom(3 << 20))
        os.link(home / "large", home / "again")
        (home / "sparse").touch()
        os.truncate(home / "sparse", 1 << 30)
        assert await compute.disk_bytes(["vault"]) - before == pytest.approx(3 << 20, abs=64 << 10)
        assert await compute.disk_bytes([]) == 0
        assert await compute.disk_bytes(["nobody"]) == 0

    async def test_users_are_the_same_for_ever_and_no_other_workspace_has_them(
        self, ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        made = {}
        for name in ("one", "two"):
            layout = Layout.of(tmp_path / name)
            layout.state.mkdir(parents=True)
            PortRegistry(layout.root).claim("server")
            first = [Tenants(layout, lambda: SETTINGS).uid(tenant) for tenant in ("shop", "bank")]
            again = [Tenants(layout, lambda: SETTINGS).uid(tenant) for tenant in ("shop", "bank")]
            assert first == again
            made[name] = set(first)
        assert not made["one"] & made["two"]
        assert len(made["one"] | made["two"]) == 4


def test_without_root_a_second_tenant_is_refused_with_the_reason(tmp_path: Path) -> None:
    tenants = Tenants(Layout.of(tmp_path), lambda: SETTINGS, root=False)
    tenants.admit("default")
    with pytest.raises(PlatformError) as caught:
        tenants.admit("shop")
    assert caught.value.code is ErrorCode.FAILED_PRECONDITION
    assert "does not run as root" in caught.value.message
    assert caught.value.hint
    assert tenants.uid("default") is None


def test_a_single_tenant_needs_no_root(tmp_path: Path) -> None:
    tenants = Tenants(Layout.of(tmp_path), Settings, root=False)
    tenants.admit("default")
    tenants.admit("of-another-day")
