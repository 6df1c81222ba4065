"""What everything that knows incidents keeps to."""

from __future__ import annotations

from ..domain.errors import ErrorCode, PlatformError
from ..ports.incidents import Incidents


class IncidentsContract:
    """Subclasses give the fixture `incidents`, in which nothing of `quiet` is open."""

    async def test_it_answers_for_a_service_that_is_well_or_says_that_it_keeps_none(self, incidents: Incidents) -> None:
        try:
            found, code = list(await incidents.open("quiet", "production")), None
        except PlatformError as exc:
            found, code = [], exc.code
        assert found == []
        assert code in (None, ErrorCode.UNSUPPORTED)
