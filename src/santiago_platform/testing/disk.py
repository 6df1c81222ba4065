"""What every disk keeps to."""

from __future__ import annotations

from collections.abc import Callable

from ..domain.environment import Retention
from ..ports.disk import Disk

KEEP_NOTHING = Retention(logs_days=0, logs_bytes=0)


class DiskContract:
    """Subclasses give the fixtures `disk`, and `leave`, which leaves something behind that nothing uses, by name."""

    def test_what_is_free_is_part_of_what_there_is(self, disk: Disk) -> None:
        space = disk.space()
        assert 0 <= space.free_bytes <= space.total_bytes
        assert space.total_bytes > 0

    async def test_what_nothing_uses_is_removed_once_and_told_by_its_name(
        self, disk: Disk, leave: Callable[[str], None]
    ) -> None:
        leave("shop__production__abc__0")
        (told,) = await disk.tidy(KEEP_NOTHING, set())
        assert "shop__production__abc__0" in told
        assert list(await disk.tidy(KEEP_NOTHING, set())) == []

    async def test_where_nothing_is_left_over_nothing_is_told(self, disk: Disk) -> None:
        assert list(await disk.tidy(Retention(), set())) == []
