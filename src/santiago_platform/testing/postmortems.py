"""What everything that keeps post-mortems keeps to."""

from __future__ import annotations

import hashlib

import pytest

from ..domain.errors import ErrorCode, PlatformError
from ..ports.postmortems import Postmortems

NAME = "2026-01-01-in-1.md"


class PostmortemsContract:
    """Subclasses give the fixture `postmortems`: an empty one; and `edit(path)`, which adds a line to a file."""

    def edit(self, postmortems: Postmortems, path: str) -> str:
        raise NotImplementedError

    async def test_a_draft_is_read_back_and_the_same_one_again_changes_nothing(self, postmortems: Postmortems) -> None:
        path = await postmortems.write(NAME, "# one\n")
        assert path.endswith(NAME)
        assert await postmortems.write(NAME, "# one\n") == path
        assert await postmortems.read(path) == "# one\n"
        assert await postmortems.read(path.replace("in-1", "in-2")) is None

    async def test_a_draft_that_nobody_has_changed_is_replaced(self, postmortems: Postmortems) -> None:
        path = await postmortems.write(NAME, "# one\n")
        again = await postmortems.write(NAME, "# two\n", replaces=hashlib.sha256(b"# one\n").hexdigest())
        assert again == path
        assert await postmortems.read(path) == "# two\n"

    async def test_what_somebody_has_written_stays_and_the_draft_goes_beside_it(self, postmortems: Postmortems) -> None:
        path = await postmortems.write(NAME, "# one\n")
        edited = self.edit(postmortems, path)
        beside = await postmortems.write(NAME, "# two\n", replaces=hashlib.sha256(b"# one\n").hexdigest())
        assert beside != path
        assert await postmortems.read(path) == edited
        assert await postmortems.read(beside) == "# two\n"

    @pytest.mark.parametrize("name", ["../in-1.md", "2026-01-01-in-1.txt", "2026-01-01-IN 1.md", ""])
    async def test_a_name_that_is_none_is_refused(self, postmortems: Postmortems, name: str) -> None:
        with pytest.raises(PlatformError) as raised:
            await postmortems.write(name, "# one\n")
        assert raised.value.code is ErrorCode.INVALID_ARGUMENT
