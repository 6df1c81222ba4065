"""What every clock keeps to."""

from __future__ import annotations

import re
from datetime import UTC

from ..ports.clock import Clock


class ClockContract:
    """Subclasses give the fixture `clock`."""

    def test_now_is_aware_and_in_utc(self, clock: Clock) -> None:
        assert clock.now().tzinfo is UTC

    async def test_monotonic_never_goes_back_and_sleep_moves_it(self, clock: Clock) -> None:
        before = clock.monotonic()
        await clock.sleep(0.01)
        assert clock.monotonic() >= before + 0.01

    def test_names_are_fresh_sortable_by_time_and_of_lower_case_letters_and_digits(self, clock: Clock) -> None:
        names = [clock.new_id("op") for _ in range(1000)]
        assert len(set(names)) == 1000
        assert all(re.fullmatch(r"op-[a-z0-9]+", name) for name in names)
        assert names[0] < names[-1]
