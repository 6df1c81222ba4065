from __future__ import annotations

import pytest

from santiago_platform.domain.disk import DiskLevel, DiskSpace, size_text
from santiago_platform.domain.environment import DiskLimits

LIMITS = DiskLimits(warn_bytes=1000, stop_bytes=400)


def space(free: int) -> DiskSpace:
    return DiskSpace(free_bytes=free, total_bytes=10_000)


@pytest.mark.parametrize(
    ("free", "level"),
    [
        (1000, DiskLevel.ENOUGH),
        (999, DiskLevel.LOW),
        (400, DiskLevel.LOW),
        (399, DiskLevel.FULL),
        (0, DiskLevel.FULL),
    ],
)
def test_the_level_follows_from_what_is_free(free: int, level: DiskLevel) -> None:
    assert space(free).level(LIMITS) is level


def test_a_limit_of_nothing_is_never_reached() -> None:
    assert space(0).level(DiskLimits(warn_bytes=0, stop_bytes=0)) is DiskLevel.ENOUGH


@pytest.mark.parametrize("before", DiskLevel)
@pytest.mark.parametrize(
    ("free", "told"),
    [
        (1250, {"enough": "enough", "low": "enough", "full": "enough"}),
        (1100, {"enough": "enough", "low": "low", "full": "low"}),
        (500, {"enough": "low", "low": "low", "full": "low"}),
        (450, {"enough": "low", "low": "low", "full": "full"}),
        (399, {"enough": "full", "low": "full", "full": "full"}),
    ],
)
def test_what_is_told_rises_at_once_and_falls_a_good_way_from_the_limit(
    before: DiskLevel, free: int, told: dict[str, str]
) -> None:
    assert space(free).told(before, LIMITS) == told[before]


def test_sizes_are_told_as_people_read_them() -> None:
    assert [size_text(n) for n in (0, 1023, 1536, 5 << 20, 3 << 40)] == [
        "0 bytes", "1023 bytes", "1.5 KiB", "5.0 MiB", "3072.0 GiB",
    ]  # fmt: skip
    assert str(DiskSpace(free_bytes=1 << 30, total_bytes=1 << 31)) == "1.0 GiB free of 2.0 GiB"
