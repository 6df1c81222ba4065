from __future__ import annotations

import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local import platform as module
from santiago_platform.adapters.local.envoy_files import load_ports, save_ports
from santiago_platform.adapters.local.platform import LocalPlatform, known_ports
from santiago_platform.adapters.local.port_registry import PortRegistry, bindable
from santiago_platform.adapters.process import started_ticks
from santiago_platform.domain.environment import Addresses
from santiago_platform.domain.errors import ErrorCode, PlatformError


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A workspace whose runtime directory lies where others may write, and that has no binaries: nothing starts."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "w").mkdir()
    return Layout(tmp_path / "w")


def up(layout: Layout, addresses: Addresses | None = None) -> PlatformError:
    """Why it does not start."""
    layout.state.mkdir(exist_ok=True)
    registry = PortRegistry(layout.root)
    given = addresses or Addresses(server_port=registry.claim("server"), ingress_port=registry.claim("ingress"))
    with pytest.raises(PlatformError) as caught:
        LocalPlatform(layout).up(given, ("true",), lambda _: None)
    return caught.value


@pytest.fixture
def runtime(layout: Layout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    place = tmp_path / "shared" / "runtime"
    monkeypatch.setattr(Layout, "runtime", property(lambda self: place))
    return place


def test_a_runtime_directory_of_its_own_is_private(layout: Layout, runtime: Path) -> None:
    assert "missing" in up(layout).message  # it came as far as the binaries
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700


@pytest.mark.parametrize("trap", ["a link", "a file", "open to others"])
def test_a_runtime_directory_that_another_could_have_laid_is_refused_and_left_alone(
    layout: Layout, runtime: Path, tmp_path: Path, trap: str
) -> None:
    (tmp_path / "private").mkdir(mode=0o700)
    if trap == "a link":
        runtime.symlink_to(tmp_path / "private")
    elif trap == "a file":
        runtime.write_text("")
        runtime.chmod(0o600)
    else:
        runtime.mkdir()
        runtime.chmod(0o777)
    refused = up(layout)
    assert refused.code is ErrorCode.FAILED_PRECONDITION
    assert f"{runtime} is not private" in refused.message
    assert "remove it" in refused.hint
    assert runtime.exists()


def test_a_link_in_its_place_is_not_followed_when_it_is_taken_down(
    layout: Layout, runtime: Path, tmp_path: Path
) -> None:
    layout.state.mkdir()
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    runtime.symlink_to(tmp_path / "precious")
    assert LocalPlatform(layout).down() == []
    assert (tmp_path / "precious" / "file").exists()


def test_a_port_of_its_own_that_another_program_took_meanwhile_is_told(layout: Layout, runtime: Path) -> None:
    up(layout)
    port = PortRegistry(layout.root).mine()["ingress"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        refused = up(layout)
    assert refused.code is ErrorCode.CONFLICT
    assert f"another program listens on 127.0.0.1:{port}, the ingress port of this workspace" in refused.message


def test_a_port_that_nobody_chose_is_replaced_where_another_program_took_it(layout: Layout, runtime: Path) -> None:
    up(layout)
    before = known_ports(layout)
    assert before is not None
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", before.prometheus))
        taken.listen()
        up(layout)
    after = known_ports(layout)
    assert after is not None
    assert after.prometheus != before.prometheus
    assert after.alertmanager == before.alertmanager
    assert bindable(after.prometheus)


def test_the_state_is_private(layout: Layout, runtime: Path) -> None:
    layout.state.mkdir(mode=0o755)
    up(layout)
    assert stat.S_IMODE(layout.state.stat().st_mode) == 0o700


def test_every_caller_looks_for_the_sockets_in_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desktop = Layout(tmp_path).runtime
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert Layout(tmp_path).runtime == desktop
    assert Layout(tmp_path / "other").runtime != desktop


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has got the pid and the start time of one of ours of before the machine was restarted."""
    process = subprocess.Popen(["/bin/sleep", "600"])
    yield process
    process.kill()
    process.wait()


def note(layout: Layout, stranger: subprocess.Popen[bytes]) -> list[Path]:
    unit = layout.units / "shop__production__a__0"
    unit.mkdir(parents=True)
    notes = [layout.state / "svscan", unit / "process", unit / "ready"]
    for path in notes:
        path.write_text(f"{stranger.pid} {started_ticks(stranger.pid)}\n")
    return notes


@pytest.mark.parametrize("what", ["up", "down"])
def test_processes_noted_before_the_machine_was_restarted_are_forgotten_and_no_stranger_is_ended(
    layout: Layout, runtime: Path, monkeypatch: pytest.MonkeyPatch, stranger: subprocess.Popen[bytes], what: str
) -> None:
    up(layout)
    notes = note(layout, stranger)
    monkeypatch.setattr(module, "boot_id", lambda: "another boot")
    if what == "up":
        up(layout)
    else:
        assert LocalPlatform(layout).down() == []
    assert [path.exists() for path in notes] == [False, False, False]
    assert stranger.poll() is None


def test_processes_noted_since_the_machine_was_started_are_kept(
    layout: Layout, runtime: Path, stranger: subprocess.Popen[bytes]
) -> None:
    notes = note(layout, stranger)  # by a version that kept no boot id
    up(layout)
    up(layout)
    assert all(path.exists() for path in notes)


def test_taking_down_what_was_never_started_makes_nothing(layout: Layout, runtime: Path) -> None:
    assert LocalPlatform(layout).down() == []
    assert not layout.state.exists()


def test_a_port_of_a_service_that_a_stranger_took_meanwhile_is_told(layout: Layout, runtime: Path) -> None:
    port = PortRegistry(layout.root).claim("service web/production")
    layout.state.mkdir(exist_ok=True)
    save_ports(layout.state, {("web", "production"): port})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        refused = up(layout)
    assert refused.code is ErrorCode.CONFLICT
    assert f"127.0.0.1:{port}, by which others call web in production" in refused.message


def test_ports_of_services_come_along_to_another_machine(layout: Layout, runtime: Path) -> None:
    """Its registry has no claims, and callers know the ports."""
    layout.state.mkdir(exist_ok=True)
    save_ports(layout.state, {("web", "production"): 29000})
    up(layout)
    assert PortRegistry(layout.root).mine()["service web/production"] == 29000


def test_a_copy_of_a_workspace_gets_ports_of_its_own_and_says_so(layout: Layout, runtime: Path, tmp_path: Path) -> None:
    original = tmp_path / "original"
    (original / ".santiago").mkdir(parents=True)
    port = PortRegistry(original).claim("service web/production")
    layout.state.mkdir(exist_ok=True)
    save_ports(layout.state, {("web", "production"): port})
    said: list[str] = []
    registry = PortRegistry(layout.root)
    addresses = Addresses(server_port=registry.claim("server"), ingress_port=registry.claim("ingress"))
    with pytest.raises(PlatformError):  # without binaries nothing starts
        LocalPlatform(layout).up(addresses, ("true",), said.append)
    moved = registry.mine()["service web/production"]
    assert moved != port
    assert load_ports(layout.state) == {("web", "production"): moved}
    assert f"service web/production is on port {moved} now, since {original} has {port}" in said[0]
    assert PortRegistry(original).mine() == {"service web/production": port}
