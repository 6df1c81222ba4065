"""The contract of ports.silences.Silences: what is made is there until it ends, and is of one alert alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ..domain.errors import ErrorCode, PlatformError
from ..domain.silence import Silence
from ..ports.silences import Silences


def silence(now: datetime, alert: str = "TooSlow", minutes: float = 60) -> Silence:
    return Silence(
        alert=alert,
        service="web",
        environment="production",
        starts_at=now,
        ends_at=now + timedelta(minutes=minutes),
        by="ann",
        reason='the "new" disk\nis slow, we know',
    )


class SilencesContract:
    """Fixtures: `silences` without any; `unanswering`, of somebody who does not answer. now: by the clock of it."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def test_what_is_made_is_there_as_it_was_asked_for_until_it_is_ended(self, silences: Silences) -> None:
        asked = silence(self.now())
        id = await silences.make(asked)
        (found,) = await silences.active()
        assert found.is_made_as(asked)
        assert found.id == id
        await silences.end(id)
        assert await silences.active() == ()
        await silences.end(id)
        await silences.end("00000000-0000-0000-0000-000000000000")

    async def test_each_is_of_its_own_alert_and_ends_alone(self, silences: Silences) -> None:
        first = await silences.make(silence(self.now()))
        second = await silences.make(silence(self.now(), alert="TooMany"))
        assert {found.alert for found in await silences.active()} == {"TooSlow", "TooMany"}
        await silences.end(first)
        assert [found.alert for found in await silences.active()] == ["TooMany"]
        await silences.end(second)

    async def test_one_that_has_ended_before_it_began_is_refused(self, silences: Silences) -> None:
        with pytest.raises(PlatformError) as caught:
            await silences.make(silence(self.now() - timedelta(hours=2)))
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT
        assert await silences.active() == ()

    async def test_whoever_does_not_answer_is_unavailable(self, unanswering: Silences) -> None:
        for call in (unanswering.active(), unanswering.end("a"), unanswering.make(silence(self.now()))):
            with pytest.raises(PlatformError) as caught:
                await call
            assert caught.value.code is ErrorCode.UNAVAILABLE
