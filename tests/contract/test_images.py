"""Releases with a base image: instances are containers of podman, and keep the contract of all instances."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from santiago_platform.adapters.artifacts.artifacts import LocalArtifacts
from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local.compute import LocalCompute
from santiago_platform.adapters.local.podman import problem_here, unmount_below
from santiago_platform.adapters.local.port_registry import PortRegistry
from santiago_platform.adapters.local.tenants import Tenants
from santiago_platform.adapters.process import Process, processes_of
from santiago_platform.adapters.system import SystemClock
from santiago_platform.domain.environment import Settings, Tenant
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.secret import SecretRef
from santiago_platform.domain.workload import Container, File, Instance, Limits, Probe, Template, Volume
from santiago_platform.ports.compute import Compute, InstanceState
from santiago_platform.testing.base_image import FOUND_BY_PROBES, fetch_podman, write_base_image, write_service
from santiago_platform.testing.compute import ComputeContract, Make, service_template, until, until_gone, until_ready
from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.supervised import FastClock, SupervisedWorkspace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers run where the platform is root")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SupervisedWorkspace]:
    fetch_podman()
    assert problem_here() == ("", "")
    with SupervisedWorkspace(tmp_path_factory.mktemp("images") / "workspace") as made:
        yield made
        for name in made.supervisor.names():
            made.supervisor.remove(name)
    unmount_below(made.layout.root)


@pytest.fixture(scope="module")
def artifacts(workspace: SupervisedWorkspace) -> LocalArtifacts:
    root = workspace.layout.root
    write_base_image(root / "base")
    write_service(root)
    git = ["git", "-C", str(root), "-c", "user.name=Test", "-c", "user.email=test@localhost"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "services"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "A service"], check=True)
    return LocalArtifacts(workspace.layout, SystemClock())


@pytest.fixture(scope="module")
def release(artifacts: LocalArtifacts) -> str:
    async def built() -> str:
        return (await artifacts.build("web", await artifacts.resolve("HEAD"))).digest

    return asyncio.run(built())


@pytest.fixture
def make(release: str) -> Make:
    return partial(service_template, release=release, command=("sh", "serve.sh"))


@pytest.fixture
async def compute(workspace: SupervisedWorkspace, artifacts: LocalArtifacts) -> AsyncIterator[LocalCompute]:
    registry = PortRegistry(workspace.layout.root)
    made = LocalCompute(workspace.layout, workspace.supervisor, registry, artifacts, FastClock())
    yield made
    await workspace.empty(made)


class TestContainers(ComputeContract):
    @pytest.fixture
    def dying(self, make: Make) -> Template:
        return make(mode="exits 3")

    @pytest.fixture
    def unready(self, make: Make) -> Template:
        return make(mode="listens nowhere")


def named(layout: Layout, name: str) -> list[Process]:
    return list(processes_of(layout.id, name))


async def said(workspace: SupervisedWorkspace, instance: Instance, words: str) -> None:
    await eventually(lambda: asyncio.to_thread(workspace.log, instance), lambda log: words in log)


class TestAContainer:
    async def test_its_process_is_the_services_own_in_the_image_and_ends_gracefully(
        self, compute: Compute, make: Make, workspace: SupervisedWorkspace
    ) -> None:
        instance = Instance(template=make(variables={"GREETING": "two words, a 'quote' and\na line"}), index=0)
        await compute.start(instance)
        status = await until_ready(compute, instance)
        assert Path(f"/proc/{status.pid}/cmdline").read_bytes() == b"sh\0serve.sh\0"
        assert Path(f"/proc/{status.pid}/cwd").readlink() == Path("/app")
        assert Path(f"/proc/{status.pid}/root{FOUND_BY_PROBES}").read_text() == "yes\n"
        variables = Path(f"/proc/{status.pid}/environ").read_bytes().decode().split("\0")
        assert {"PATH=/bin", "FROM_IMAGE=1", "GREETING=two words, a 'quote' and\na line"} <= set(variables)
        assert f"PORT={status.endpoints['http'].port}" in variables
        await compute.stop(instance.id)
        await until_gone(compute, instance)
        await said(workspace, instance, "ended gracefully")
        assert not named(workspace.layout, "conmon")

    @pytest.mark.parametrize("victim", ["conmon", "the launcher", "s6-supervise", "the service"])
    async def test_whatever_is_killed_one_container_serves_in_the_end(
        self, compute: Compute, make: Make, workspace: SupervisedWorkspace, victim: str
    ) -> None:
        instance = Instance(template=make(variables={"VICTIM": victim}), index=0)
        await compute.start(instance)
        before = await until_ready(compute, instance)
        unit = workspace.supervisor.status(instance.id).process
        assert unit is not None
        match victim:
            case "conmon":
                (process,) = named(workspace.layout, "conmon")
                process.send(signal.SIGKILL)
                os.kill(before.pid, signal.SIGKILL)  # nobody is left to tell podman of its end
            case "the launcher":
                unit.send(signal.SIGKILL)
            case "s6-supervise":
                words = f"s6-supervise\0{instance.id}\0".encode()
                (process,) = (p for p in processes_of(workspace.layout.id) if cmdline(p) == words)
                process.send(signal.SIGKILL)
            case "the service":
                os.kill(before.pid, signal.SIGKILL)
        await until(compute, instance, lambda s: s.state is InstanceState.READY and s.pid not in (0, before.pid))
        services = [p for p in workspace.processes(instance) if b"httpd" in cmdline(p)]
        assert len(services) == 1
        assert len(named(workspace.layout, "conmon")) == 1

    async def test_its_death_is_told_as_any_other(self, compute: Compute, make: Make) -> None:
        instance = Instance(template=make(variables={"DEATH": "1"}), index=0)
        await compute.start(instance)
        before = await until_ready(compute, instance)
        os.kill(before.pid, signal.SIGKILL)
        after = await until(compute, instance, lambda s: s.restarts == 1 and s.reason)
        assert "was ended by SIGKILL" in after.reason

    async def test_a_memory_limit_is_the_kernels_to_enforce_and_named(self, compute: Compute, make: Make) -> None:
        instance = Instance(template=make(mode="takes memory", limits=Limits(memory_bytes=32 << 20)), index=0)
        await compute.start(instance)
        failed = await until(compute, instance, lambda s: s.state is InstanceState.FAILED)
        assert "ran out of memory (limit 32Mi)" in failed.reason
        assert "memory" not in failed.not_enforced

    async def test_files_and_volumes_are_at_their_paths(
        self, compute: Compute, make: Make, workspace: SupervisedWorkspace
    ) -> None:
        template = make(
            files=(File(path="/etc/a, b/config", content="told", mode=0o640),),
            volumes=(Volume(path="/data", name="data"),),
        )
        instance = Instance(template=template, index=0)
        await compute.start(instance)
        status = await until_ready(compute, instance)
        root = Path(f"/proc/{status.pid}/root")
        assert (root / "etc/a, b/config").read_text() == "told"
        assert (root / "etc/a, b/config").stat().st_mode & 0o777 == 0o640
        (root / "data/kept").write_text("kept")
        assert (workspace.layout.volumes / "web__production" / "data" / "kept").read_text() == "kept"

    async def test_a_probes_command_runs_in_the_container(self, compute: Compute, make: Make) -> None:
        probe = Probe(command=("test", "-e", FOUND_BY_PROBES))
        instance = Instance(template=make(readiness=probe), index=0)
        await compute.start(instance)
        await until_ready(compute, instance)

    async def test_a_tenants_container_is_the_tenants_and_has_no_privileges(
        self, make: Make, workspace: SupervisedWorkspace, artifacts: LocalArtifacts
    ) -> None:
        settings = Settings(tenants={"shop": Tenant(services=("web",))})
        tenants = Tenants(workspace.layout, lambda: settings)
        registry = PortRegistry(workspace.layout.root)
        compute = LocalCompute(
            workspace.layout, workspace.supervisor, registry, artifacts, FastClock(), tenants=tenants
        )
        template = make(tenant="shop", volumes=(Volume(path="/tenants-data", name="tenants"),))
        instance = Instance(template=template, index=0)
        await compute.start(instance)
        status = await until_ready(compute, instance)
        said = dict(line.split(":\t", 1) for line in Path(f"/proc/{status.pid}/status").read_text().splitlines())
        assert set(said["Uid"].split()) == {str(tenants.uid("shop"))}
        assert {said[name] for name in ("CapEff", "CapBnd")} == {"0" * 16}
        assert said["NoNewPrivs"] == "1"
        kept = workspace.layout.volumes / "web__production" / "tenants"
        assert kept.stat().st_uid == tenants.uid("shop")
        await workspace.empty(compute)

    async def test_its_secrets_are_no_words_of_podmans_command(
        self, make: Make, workspace: SupervisedWorkspace, artifacts: LocalArtifacts
    ) -> None:
        refs = tuple(SecretRef(name=name, version=1) for name in ("password", "pem"))
        values = {str(refs[0]): " planted #'\"$x` end ", str(refs[1]): "planted\nlines"}
        compute = LocalCompute(
            workspace.layout,
            workspace.supervisor,
            PortRegistry(workspace.layout.root),
            artifacts,
            FastClock(),
            secrets=lambda _template: values,
        )
        file = File(path="/etc/pem", content=str(refs[1]))
        instance = Instance(template=make(variables={"PASSWORD": str(refs[0])}, files=(file,), secrets=refs), index=0)
        await compute.start(instance)
        status = await until_ready(compute, instance)
        variables = Path(f"/proc/{status.pid}/environ").read_bytes().decode().split("\0")
        assert f"PASSWORD={values[str(refs[0])]}" in variables
        assert Path(f"/proc/{status.pid}/root/etc/pem").read_text() == "planted\nlines"
        unit = workspace.supervisor.directory(instance.id)
        holding = {path.name for path in unit.rglob("*") if path.is_file() and b"planted" in path.read_bytes()}
        assert holding == {"variables-main", "file-main-0"}
        several_lines = make(variables={"PEM": str(refs[1])}, secrets=refs)
        with pytest.raises(PlatformError) as raised:
            await compute.start(Instance(template=several_lines, index=0))
        assert raised.value.code is ErrorCode.FAILED_PRECONDITION
        assert "planted" not in str(raised.value)
        await workspace.empty(compute)

    async def test_several_containers_are_one_instance(
        self, compute: Compute, make: Make, workspace: SupervisedWorkspace
    ) -> None:
        beside = Container(name="beside", command=("sh", "-c", "trap 'exit 0' TERM; echo here; sleep 1000 & wait"))
        template = make(beside=(beside,), limits=Limits(memory_bytes=64 << 20))
        instance = Instance(template=template, index=0)
        await compute.start(instance)
        await until_ready(compute, instance)
        await said(workspace, instance, "[beside] here")
        conmons = {process.pid for process in named(workspace.layout, "conmon")}
        assert len(conmons) == 2
        first, second = (groups_of(p) for p in workspace.processes(instance) if parent_of(p) in conmons)
        assert first == second
        assert first
        await compute.stop(instance.id)
        await until_gone(compute, instance)
        assert workspace.processes(instance) == []


def cmdline(process: Process) -> bytes:
    try:
        return Path(f"/proc/{process.pid}/cmdline").read_bytes()
    except OSError:
        return b""


def groups_of(process: Process) -> set[str]:
    """Those that the platform made."""
    lines = Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
    return {line for line in lines if "/santiago." in line}


def parent_of(process: Process) -> int:
    return int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1])
