from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from santiago_platform.adapters.fake.flags import FakeFlags
from santiago_platform.adapters.local.flags import LocalFlags, claim_flag_port
from santiago_platform.adapters.local.port_registry import PortRegistry
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.flag import FlagEntry
from santiago_platform.testing.flags import NONE, OFF, ON, FlagsContract
from santiago_platform.testing.supervised import SupervisedWorkspace


class TestFakeFlags(FlagsContract):
    @pytest.fixture
    def flags(self) -> FakeFlags:
        return FakeFlags()


class TestLocalFlags(FlagsContract):
    @pytest.fixture
    def workspace(self, tmp_path: Path) -> SupervisedWorkspace:
        return SupervisedWorkspace(tmp_path / "workspace")  # not entered: nothing is started

    @pytest.fixture
    def flags(self, workspace: SupervisedWorkspace) -> LocalFlags:
        for directory in (workspace.layout.scan, workspace.layout.units):
            directory.mkdir()
        return LocalFlags(workspace.layout, workspace.supervisor, 1)

    async def test_the_file_keeps_its_mode_and_leaves_no_other_behind(
        self, flags: LocalFlags, workspace: SupervisedWorkspace
    ) -> None:
        await flags.put("new", NONE, OFF)
        file = workspace.layout.root / "flags.json"
        file.chmod(0o640)
        await flags.put("new", OFF, ON)
        assert stat.S_IMODE(file.stat().st_mode) == 0o640
        assert [path.name for path in workspace.layout.root.iterdir() if "flags" in path.name] == ["flags.json"]

    async def test_a_broken_file_is_refused_and_stays_as_it_is(
        self, flags: LocalFlags, workspace: SupervisedWorkspace
    ) -> None:
        file = workspace.layout.root / "flags.json"
        file.write_text('{"flags": {')
        for call in (flags.read(), flags.put("new", NONE, OFF)):
            with pytest.raises(PlatformError, match=r"flags\.json:1: ") as raised:
                await call
            assert raised.value.code is ErrorCode.INVALID_ARGUMENT
        assert file.read_text() == '{"flags": {'

    async def test_a_link_out_of_the_workspace_is_refused(
        self, flags: LocalFlags, workspace: SupervisedWorkspace, tmp_path: Path
    ) -> None:
        (tmp_path / "elsewhere.json").write_text('{"flags": {}}')
        (workspace.layout.root / "flags.json").symlink_to(tmp_path / "elsewhere.json")
        with pytest.raises(PlatformError, match="is a link out of the workspace"):
            await flags.put("new", NONE, OFF)
        assert (tmp_path / "elsewhere.json").read_text() == '{"flags": {}}'

    async def test_a_change_that_would_break_the_file_is_not_written(
        self, flags: LocalFlags, workspace: SupervisedWorkspace
    ) -> None:
        await flags.put("new", NONE, OFF)
        with pytest.raises(PlatformError, match="there is no variant"):
            await flags.put("new", OFF, FlagEntry(flag=OFF.flag).updated(None, default_variant="maybe"))
        assert (await flags.read()).entry("new") == OFF


class TestThePortOfFlags:
    """Programs know it as part of a URL."""

    @pytest.fixture
    def workspace(self, tmp_path: Path) -> SupervisedWorkspace:
        return SupervisedWorkspace(tmp_path / "workspace")

    def claim(self, workspace: SupervisedWorkspace, registry: Path, said: list[str]) -> int:
        layout = workspace.layout
        return claim_flag_port(layout, PortRegistry(layout.root, registry), running=False, report=said.append)

    def test_it_stays_when_the_registry_is_lost(self, workspace: SupervisedWorkspace, tmp_path: Path) -> None:
        first = self.claim(workspace, tmp_path / "a", [])
        PortRegistry(tmp_path, tmp_path / "b").claim("takes the first free port")
        (tmp_path / ".santiago").mkdir()
        assert self.claim(workspace, tmp_path / "b", []) == first

    def test_a_copy_of_the_workspace_gets_another_one_and_is_told(
        self, workspace: SupervisedWorkspace, tmp_path: Path
    ) -> None:
        first = self.claim(workspace, tmp_path / "a", [])
        copy, said = SupervisedWorkspace(tmp_path / "copy"), list[str]()
        copy.layout.flags.mkdir()
        (copy.layout.flags / "port").write_text(f"{first}\n")
        (copy.layout.root / "flags.json").write_text('{"flags": {}}')
        assert self.claim(copy, tmp_path / "a", said) != first
        assert "deploy again what reads them" in said[0]

    def test_a_stranger_on_it_is_an_error_where_there_are_flags(
        self, workspace: SupervisedWorkspace, tmp_path: Path
    ) -> None:
        port = self.claim(workspace, tmp_path / "a", [])
        with socket.socket() as stranger:
            stranger.bind(("127.0.0.1", port))
            stranger.listen()
            other = self.claim(workspace, tmp_path / "a", [])
            assert other != port, "nobody reads flags yet"
            (workspace.layout.flags / "port").write_text(f"{port}\n")
            (workspace.layout.root / "flags.json").write_text('{"flags": {}}')
            with pytest.raises(PlatformError, match="where services read their flags") as raised:
                self.claim(workspace, tmp_path / "a", [])
            assert raised.value.code is ErrorCode.CONFLICT
