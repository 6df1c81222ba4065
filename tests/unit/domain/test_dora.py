from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from santiago_platform.domain.dora import Band, Deploy, Metric, Standing, Trend, measured

END = datetime(2026, 6, 30, tzinfo=UTC)
MONTH = timedelta(days=30)
HOUR, DAY = 3600.0, 86400.0


def deploy(days_ago: float, **fields: object) -> Deploy:
    at = END - timedelta(days=days_ago)
    known = {"operation": f"op-{days_ago}", "service": "web", "environment": "production", "tenant": "default"}
    made = {"succeeded": True, "reached_users": True, "ended_at": at, "reached_at": at}
    return Deploy.model_validate({**known, **made, **fields})


def committed(days_ago: float, *hours: float) -> Deploy:
    at = END - timedelta(days=days_ago)
    return deploy(days_ago, committed=tuple(at - timedelta(hours=h) for h in hours))


def failing(days_ago: float, recovered_after_minutes: float | None, **fields: object) -> Deploy:
    at = END - timedelta(days=days_ago)
    over = None if recovered_after_minutes is None else at + timedelta(minutes=recovered_after_minutes)
    return deploy(days_ago, failed="errors", recovered_at=over, **fields)


def test_lead_time_is_the_median_over_commits_and_not_over_deploys() -> None:
    # Two deploys: one of three slow commits, one of a quick one. The median of their medians would be 12.75 h.
    found = measured([committed(3, 20, 25, 30), committed(2, 0.5)], end=END, period=MONTH).of(Metric.LEAD_TIME)
    assert (found.value, found.samples) == (22.5 * HOUR, 4)
    assert (found.standing, found.band) == (Standing.NOT_MET, Band.ELITE)


def test_a_commit_of_a_deploy_that_did_not_take_over_has_no_lead_time_yet() -> None:
    lost = deploy(2, succeeded=False, committed=(END - MONTH,))
    assert measured([lost], end=END, period=MONTH).of(Metric.LEAD_TIME).value is None


def test_frequency_counts_successful_deploys_over_all_days_of_the_period() -> None:
    known = [deploy(50, first=True), deploy(1), deploy(2), deploy(3), deploy(4, succeeded=False)]
    found = measured(known, end=END, period=MONTH).of(Metric.FREQUENCY)
    assert (found.value, found.samples) == (3 / 30, 3)
    assert (found.standing, found.band) == (Standing.NOT_MET, Band.MEDIUM)


def test_the_days_of_a_new_service_begin_with_its_first_deploy() -> None:
    found = measured([deploy(4, first=True), *(deploy(d) for d in (3, 2, 1))], end=END, period=MONTH)
    assert found.days == 4
    assert found.of(Metric.FREQUENCY).value == 1
    assert found.of(Metric.FREQUENCY).standing is Standing.MET


def test_a_service_of_this_morning_has_one_day() -> None:
    found = measured([deploy(0.1, first=True), deploy(0.05)], end=END, period=MONTH)
    assert (found.days, found.of(Metric.FREQUENCY).value) == (1, 2)


def test_once_a_day_meets_the_target_and_is_high_not_elite() -> None:
    found = measured([deploy(d) for d in range(30)], end=END, period=MONTH).of(Metric.FREQUENCY)
    assert (found.value, found.standing, found.band) == (1, Standing.MET, Band.HIGH)


def test_recovery_is_the_median_of_failed_deploys_alone() -> None:
    known = [failing(5, 10), failing(4, 20), failing(3, 90), deploy(2)]
    found = measured(known, end=END, period=MONTH).of(Metric.RECOVERY_TIME)
    assert (found.value, found.samples, found.standing, found.band) == (1200, 3, Standing.MET, Band.ELITE)


def test_a_failure_that_is_not_over_counts_as_failed_and_has_no_recovery_time() -> None:
    found = measured([failing(5, None), deploy(2)], end=END, period=MONTH)
    assert found.of(Metric.RECOVERY_TIME).standing is Standing.NO_DATA
    assert found.of(Metric.FAIL_RATE).value == 0.5


def test_deploys_that_no_user_met_are_in_no_rate_and_are_told_on_their_own() -> None:
    stopped = deploy(5, succeeded=False, reached_users=False)
    found = measured([stopped, failing(4, 1), deploy(3)], end=END, period=MONTH)
    assert (found.deploys, found.stopped_before_users) == (2, 1)
    assert found.of(Metric.FAIL_RATE).value == 0.5


def test_a_canary_that_nobody_noticed_is_no_failure_and_is_told_on_its_own() -> None:
    aborted = {"self_aborted": True, "succeeded": False}
    known = [deploy(5, **aborted), failing(4, 1, **aborted), deploy(3), deploy(2)]
    found = measured(known, end=END, period=MONTH)
    assert (found.canaries_aborted, found.canaries_aborted_unnoticed, found.failed) == (2, 1, 1)
    assert found.of(Metric.FAIL_RATE).value == 0.25


def test_the_rework_rate_is_of_deploys_that_were_said_to_fix_an_incident() -> None:
    found = measured([deploy(5, fixes="inc-1"), deploy(3)], end=END, period=MONTH).of(Metric.REWORK_RATE)
    assert (found.value, found.standing, found.band) == (0.5, Standing.NO_TARGET, None)


def test_exactly_five_percent_are_elite_and_do_not_meet_less_than_five_percent() -> None:
    known = [failing(20, 1), *(deploy(d) for d in range(19))]
    found = measured(known, end=END, period=MONTH).of(Metric.FAIL_RATE)
    assert (found.value, found.standing, found.band) == (0.05, Standing.NOT_MET, Band.ELITE)


@pytest.mark.parametrize(
    ("hours", "band"), [(23, Band.ELITE), (24, Band.HIGH), (8 * 24, Band.MEDIUM), (31 * 24, Band.LOW)]
)
def test_lead_times_have_bands(hours: float, band: Band) -> None:
    assert measured([committed(1, hours)], end=END, period=MONTH).of(Metric.LEAD_TIME).band is band


def test_the_trend_is_against_the_period_before() -> None:
    known = [committed(40, 10), committed(35, 10), deploy(33), committed(5, 2), failing(4, 1)]
    found = measured(known, end=END, period=MONTH)
    assert found.of(Metric.LEAD_TIME).trend is Trend.BETTER
    assert found.of(Metric.FREQUENCY).trend is Trend.WORSE
    assert found.of(Metric.FAIL_RATE).trend is Trend.WORSE
    assert found.of(Metric.REWORK_RATE).trend is Trend.SAME
    assert found.of(Metric.RECOVERY_TIME).trend is Trend.NO_DATA


def test_nothing_deployed_is_a_frequency_of_none_a_day_and_no_data_for_the_rest() -> None:
    found = measured([], end=END, period=MONTH)
    assert found.of(Metric.FREQUENCY).value == 0
    assert {m.standing for m in found.measures if m.metric is not Metric.FREQUENCY} == {
        Standing.NO_DATA,
        Standing.NO_TARGET,
    }


deploys = st.builds(
    lambda ago, lead, succeeded, reached, failed, minutes: deploy(
        ago,
        succeeded=succeeded,
        reached_users=reached or succeeded,
        failed="errors" if failed and (reached or succeeded) else "",
        recovered_at=END - timedelta(days=ago) + timedelta(minutes=minutes),
        committed=(END - timedelta(days=ago, hours=lead),),
    ),
    st.floats(0, 59),
    st.floats(0, 5000),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.floats(0, 5000),
)


@given(st.lists(deploys, max_size=30))
def test_rates_are_shares_and_counts_add_up(known: list[Deploy]) -> None:
    found = measured(known, end=END, period=MONTH)
    within = [d for d in known if END - MONTH < d.ended_at <= END]
    assert found.deploys + found.stopped_before_users == len(within)
    assert 0 <= found.failed <= found.deploys
    rate = found.of(Metric.FAIL_RATE)
    assert rate.value is None if not found.deploys else rate.value == found.failed / found.deploys
    assert all(m.value is None or m.value >= 0 for m in found.measures)
    assert all((m.value is None) == (m.samples == 0) for m in found.measures if m.metric is not Metric.FREQUENCY)


@given(st.lists(deploys, max_size=20), st.randoms())
def test_the_order_of_records_does_not_matter(known: list[Deploy], random: object) -> None:
    shuffled = list(known)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert measured(shuffled, end=END, period=MONTH) == measured(known, end=END, period=MONTH)


@given(st.lists(deploys, min_size=1, max_size=20))
def test_one_more_failure_never_betters_the_fail_rate(known: list[Deploy]) -> None:
    before = measured(known, end=END, period=MONTH).of(Metric.FAIL_RATE).value
    after = measured([*known, failing(1, 1)], end=END, period=MONTH).of(Metric.FAIL_RATE).value
    assert after is not None
    assert after >= (before or 0)
