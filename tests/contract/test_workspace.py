from __future__ import annotations

from pathlib import Path

import pytest

from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.adapters.workspace.workspace import FileWorkspace
from santiago_platform.domain.errors import PlatformError
from santiago_platform.testing.workspace import GitWorkspace, WorkspaceContract


class TestFakeWorkspace(WorkspaceContract):
    @pytest.fixture
    def workspace(self) -> FakeWorkspace:
        return FakeWorkspace()


class TestFileWorkspace(WorkspaceContract):
    @pytest.fixture
    def workspace(self, tmp_path: Path) -> FileWorkspace:
        return FileWorkspace(GitWorkspace(tmp_path / "workspace").root)

    def test_the_workspace_may_bring_a_role_card_of_its_own(self, tmp_path: Path) -> None:
        made = GitWorkspace(tmp_path / "own")
        made.write("santiago.yaml", "advisors: {role_card: docs/role.md}\n")
        with pytest.raises(PlatformError, match=r"advisors.role_card names docs/role\.md"):
            FileWorkspace(made.root).role_card()
        made.write("docs/role.md", "You are ours.")
        assert FileWorkspace(made.root).role_card() == "You are ours."
