from __future__ import annotations

from typing import Any

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.alert import Alert, AlertSpec
from santiago_platform.domain.alert_notification import notification
from santiago_platform.domain.environment import Environment, Settings, Tenant
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.operations.incidents import receive_alerts
from santiago_platform.operations.read_alerts import read_alerts
from santiago_platform.operations.silence import SilenceRequest, silence_alert
from santiago_platform.testing.alerts import alert, webhook

ANN = Principal(name="ann", role=Role.DEVELOPER)
PLACE: dict[str, Any] = {"service": "web", "environment": "production"}


@pytest.fixture
async def platform() -> FakePlatform:
    """With an alert of web in production."""
    platform = FakePlatform()
    platform.workspace.current = Settings(
        environments={"production": Environment()}, tenants={"bank": Tenant(services=("vault",))}
    )
    made = Alert(
        name="TooManyErrors", expression="up > 1", spec=AlertSpec(), by="ann", at=platform.clock.now(), **PLACE
    )
    await platform.store.write(lambda tx: tx.save_alert(made))
    return platform


async def silence(platform: FakePlatform, who: Principal = ANN, **fields: Any) -> Any:
    known = {"name": "TooManyErrors", **PLACE, "reason": "we replace the disk"}
    return await silence_alert(platform.ports, who, SilenceRequest.model_validate({**known, **fields}))


async def refused(platform: FakePlatform, code: ErrorCode, who: Principal = ANN, **fields: Any) -> str:
    with pytest.raises(PlatformError) as caught:
        await silence(platform, who, **fields)
    assert caught.value.code is code
    assert await platform.ship_log.unfinished() == []
    return caught.value.message


async def test_a_silence_is_of_one_alert_says_who_and_why_and_is_listed_and_logged(platform: FakePlatform) -> None:
    (made,) = await silence(platform, for_seconds=600)
    assert made.labels == {"alertname": "TooManyErrors", **PLACE}
    assert (made.by, made.reason) == ("ann", "we replace the disk")
    assert (made.ends_at - platform.clock.now()).total_seconds() == 600
    assert (await read_alerts(platform.ports, ANN)).silences == (made,)
    last = platform.ship_log.entries[-1]
    assert (last.action, last.outcome, last.body["silence"]) == ("silence_alert", "done", made.id)


async def test_another_silence_takes_the_place_of_the_former_and_ending_it_ends_all(platform: FakePlatform) -> None:
    await silence(platform)
    (longer,) = await silence(platform, for_seconds=7200)
    assert [s.id for s in await platform.silences.active()] == [longer.id]
    assert await silence(platform, action="unsilence", reason="") == ()
    assert await platform.silences.active() == ()
    await refused(platform, ErrorCode.NOT_FOUND, action="unsilence")


async def test_what_is_no_alert_of_the_service_has_no_reason_or_is_not_ones_own_is_refused(
    platform: FakePlatform,
) -> None:
    assert "no alert Typo" in await refused(platform, ErrorCode.NOT_FOUND, name="Typo")
    await refused(platform, ErrorCode.INVALID_ARGUMENT, reason="  ")
    await refused(platform, ErrorCode.NOT_FOUND, service="vault")
    await refused(platform, ErrorCode.PERMISSION_DENIED, Principal(name="eve", role=Role.OBSERVER))
    await refused(platform, ErrorCode.PERMISSION_DENIED, Principal(name="quinn", role=Role.QA))
    assert await platform.silences.active() == ()


@pytest.mark.parametrize("seconds", [0, 59, 30 * 86400 + 1])
def test_a_silence_lasts_a_minute_at_least_and_thirty_days_at_most(seconds: float) -> None:
    with pytest.raises(ValueError, match="for_seconds"):
        SilenceRequest(name="TooManyErrors", **PLACE, for_seconds=seconds)


async def test_an_open_incident_of_the_alert_says_that_it_is_silenced_and_others_do_not(
    platform: FakePlatform,
) -> None:
    now = platform.clock.now()
    other = alert(now, alertname="TooSlow")
    for message in (webhook(alert(now)), webhook(other)):
        await receive_alerts(platform.ports, notification(message))
    (made,) = await silence(platform)
    incidents = await platform.store.read(lambda view: view.incidents())
    said = {i.cause: [e.text for e in i.events if e.text.startswith("silenced:")] for i in incidents}
    assert said == {"TooManyErrors": [f"silenced: {made.said()}"], "TooSlow": []}


async def test_while_alertmanager_is_down_nothing_is_silenced_and_reads_say_that_it_is_not_known(
    platform: FakePlatform,
) -> None:
    platform.silences.down = True
    await refused(platform, ErrorCode.UNAVAILABLE)
    assert (await read_alerts(platform.ports, ANN)).silences is None


async def test_a_silence_that_is_said_and_not_made_is_found_out(platform: FakePlatform) -> None:
    platform.silences.sabotaged = True
    assert "DRIFT" in await refused(platform, ErrorCode.DATA_CORRUPT)
    assert platform.ship_log.entries[-1].outcome == "refused"
