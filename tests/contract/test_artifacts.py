from __future__ import annotations

from pathlib import Path

import pytest

from santiago_platform.adapters.artifacts.artifacts import LocalArtifacts
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
