from __future__ import annotations

from pathlib import Path

import pytest

from santiago_platform.adapters.artifacts.artifacts import LocalArtifacts, _make_folder
from santiago_platform.adapters.artifacts.layer import remove_tree
from santiago_platform.adapters.fake.workspace import FakeArtifacts
from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.system import SystemClock
from santiago_platform.testing.artifacts import ArtifactsContract
from santiago_platform.testing.workspace import GitWorkspace


class TestFakeArtifacts(ArtifactsContract):
    @pytest.fixture
    def artifacts(self) -> FakeArtifacts:
        return FakeArtifacts()


class TestLocalArtifacts(ArtifactsContract):
    @pytest.fixture
    def artifacts(self, tmp_path: Path) -> LocalArtifacts:
        workspace = GitWorkspace(tmp_path / "workspace")
        workspace.write("services/web/run", "#!/bin/sh\necho serving better\n", executable=True)
        workspace.commit(at=1_700_000_060)
        return LocalArtifacts(Layout.of(workspace.root), SystemClock())

    async def test_a_build_leaves_the_folder_of_another_alone_while_that_is_being_removed(
        self, artifacts: LocalArtifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        layout, still_there = Layout.of(tmp_path / "workspace"), list[bool]()

        def slowly(path: Path) -> None:
            if not still_there:
                still_there.append(False)  # so that a removal by the other build does not begin a third one
                _, lock = _make_folder(layout)
                lock.close()
                still_there[0] = path.exists()
            remove_tree(path)

        monkeypatch.setattr("santiago_platform.adapters.artifacts.artifacts.remove_tree", slowly)
        await artifacts.build("web", await artifacts.resolve("HEAD"))
        assert still_there == [True]
