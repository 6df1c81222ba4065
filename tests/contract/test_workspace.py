from __future__ import annotations

from pathlib import Path

import pytest

from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.adapters.workspace.workspace import FileWorkspace
from santiago_platform.testing.workspace import GitWorkspace, WorkspaceContract


class TestFakeWorkspace(WorkspaceContract):
    @pytest.fixture
    def workspace(self) -> FakeWorkspace:
        return FakeWorkspace()


class TestFileWorkspace(WorkspaceContract):
    @pytest.fixture
    def workspace(self, tmp_path: Path) -> FileWorkspace:
        return FileWorkspace(GitWorkspace(tmp_path / "workspace").root)
