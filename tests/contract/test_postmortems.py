from __future__ import annotations

from pathlib import Path

import pytest

from santiago_platform.adapters.fake.postmortems import FakePostmortems
from santiago_platform.adapters.workspace.postmortems import FilePostmortems
from santiago_platform.domain.errors import PlatformError
from santiago_platform.testing.postmortems import NAME, PostmortemsContract


class TestFakePostmortems(PostmortemsContract):
    @pytest.fixture
    def postmortems(self) -> FakePostmortems:
        return FakePostmortems()

    def edit(self, postmortems: FakePostmortems, path: str) -> str:  # type: ignore[override]
        postmortems.files[path] += "mine\n"
        return postmortems.files[path]


class TestFilePostmortems(PostmortemsContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return tmp_path.resolve()

    @pytest.fixture
    def postmortems(self, root: Path) -> FilePostmortems:
        self.root_of = root
        return FilePostmortems(root)

    def edit(self, postmortems: FilePostmortems, path: str) -> str:  # type: ignore[override]
        with (self.root_of / path).open("a") as file:
            file.write("mine\n")
        return (self.root_of / path).read_text()

    async def test_files_are_private_and_nothing_is_left_beside_them(
        self, postmortems: FilePostmortems, root: Path
    ) -> None:
        path = await postmortems.write(NAME, "# one\n")
        assert (root / path).stat().st_mode & 0o777 == 0o600
        assert [p.name for p in (root / path).parent.iterdir()] == [NAME]

    async def test_a_link_out_of_the_workspace_is_not_followed(
        self, postmortems: FilePostmortems, root: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        outside = tmp_path_factory.mktemp("outside")
        (root / "ships-logs" / "platform").mkdir(parents=True)
        (root / "ships-logs" / "platform" / "postmortems").symlink_to(outside)
        with pytest.raises(PlatformError, match="link out of the workspace"):
            await postmortems.write(NAME, "# one\n")
        assert list(outside.iterdir()) == []
