"""By behaviour, through promtool: series in, values and alerts out."""

from __future__ import annotations

import pytest

from santiago_platform.adapters.local.promtool import check_rules
from santiago_platform.domain.burn_rate import burn_rate, usual_alerts
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.rules import RuleTest
from santiago_platform.domain.slo import (
    DAY,
    HOUR,
    BurnAlert,
    Calendar,
    Events,
    Indicator,
    Method,
    Ratio,
    Slo,
    Threshold,
)
from santiago_platform.domain.slo_cases import rule_tests
from santiago_platform.domain.slo_rules import rule_groups

ENVOY = 'job="envoy",instance="a"'
OTHER = 'job="envoy",instance="b"'
LABELS = '{environment="production",service="web",slo="availability"}'
MINUTE = 60.0
SLO = Slo(
    service="web",
    environment="production",
    name="availability",
    indicator=Events(bad='answers{class="5"}', total="completed"),
    target=0.999,
    period_seconds=30 * DAY,
)
KINDS = (
    Events(bad='answers{class="5"}', total="sum(answers)"),
    Events(good='answers{class!~"5|4"}', total="answers"),
    Events(good='taken_bucket{le=~"250(\\\\.0)?"}', total="taken_count"),
    Events(bad="sum(rate(failed[1m]))", total="sum(rate(asked[1m]))", counter=False),
    Ratio(expression="errors:ratio", of_failures=True),
    Ratio(expression="avg(success:ratio)", of_failures=False),
    Threshold(expression="queue", operator="<=", value=10),
)


async def shows(slo: Slo, series: dict[str, str], minute: int, **values: float) -> None:
    """up: that the targets are scraped; values: by the recorded name, `__` for `:`, to six digits."""
    scraped = {f"up{{{target}}}": "1x2000" for target in (ENVOY, OTHER)}
    expected = tuple(
        (f"round({name.replace('__', ':')}, 1e-6)", minute * MINUTE, {LABELS: value}) for name, value in values.items()
    )
    await check_rules(rule_groups(slo), [RuleTest(name="golden", series={**scraped, **series}, values=expected)])


async def test_a_quiet_hour_of_errors_weighs_by_its_traffic_and_not_by_its_length() -> None:
    """2 h of 6,000 requests a minute without errors, 2 h of 60 with 10%: a mean of ratios says 4.84%."""
    await shows(
        SLO,
        {
            f"completed{{{ENVOY}}}": "0+6000x120 720060+60x119",
            f'answers{{class="5",{ENVOY}}}': "_x120 6+6x119",
        },
        240,
        slo__sli__ratio=0.99901,
        slo__error_budget_remaining__ratio=0.009901,
    )


async def test_idle_minutes_are_no_numbers_that_are_none() -> None:
    await shows(
        SLO,
        {f"completed{{{ENVOY}}}": "0+100x10 1000x30", f'answers{{class="5",{ENVOY}}}': "0+1x10 10x30"},
        39,
        slo__burn_rate__5m=0,
        slo__sli__ratio=0.99,
    )


async def test_without_an_error_series_nothing_has_failed() -> None:
    await shows(
        SLO, {f"completed{{{ENVOY}}}": "0+100x20"}, 20, slo__burn_rate__5m=0, slo__error_budget_remaining__ratio=1
    )


async def test_an_error_series_that_appears_counts_its_first_errors() -> None:
    await shows(
        SLO,
        {f"completed{{{ENVOY}}}": "0+100x20", f'answers{{class="5",{ENVOY}}}': "_x9 50x11"},
        20,
        slo__period_bad_events__sum=50,
        slo__period_total_events__sum=2000,
    )


async def test_a_target_that_is_new_itself_does_not_count_what_it_had_counted_before() -> None:
    await shows(
        SLO,
        {f"completed{{{ENVOY}}}": "0+100x20", 'completed{job="envoy",instance="c"}': "_x9 700000+100x11"},
        20,
        slo__period_total_events__sum=2000 + 1100,
    )


async def test_counters_that_begin_anew_neither_jump_nor_take_back() -> None:
    await shows(
        SLO,
        {
            f"completed{{{ENVOY}}}": "0+100x10 30+100x9",
            f'answers{{class="5",{ENVOY}}}': "0+10x10 3+10x9",
        },
        20,
        slo__period_total_events__sum=1000 + 30 + 900,
        slo__period_bad_events__sum=100 + 3 + 90,
    )


async def test_two_envoys_are_summed_each_with_its_own_restarts() -> None:
    await shows(
        SLO,
        {f"completed{{{ENVOY}}}": "0+100x20", f"completed{{{OTHER}}}": "0+50x10 0+50x9"},
        20,
        slo__period_total_events__sum=2000 + 500 + 450,
    )


async def test_what_a_gap_in_scraping_hid_is_counted_when_it_ends() -> None:
    await shows(SLO, {f"completed{{{ENVOY}}}": "0+100x10 _x3 1400+100x6"}, 20, slo__period_total_events__sum=2000)


async def test_a_slice_is_good_or_bad_as_a_whole() -> None:
    """Of four slices of five minutes, one has 20% failing."""
    slices = SLO.model_copy(
        update={"method": Method.TIMESLICES, "slice_seconds": 300, "slice_target": 0.9, "target": 0.5}
    )
    series = {f"completed{{{ENVOY}}}": "0+100x20", f'answers{{class="5",{ENVOY}}}': "0x5 20+20x4 100x10"}
    await shows(slices, series, 20, slo__period_bad_events__sum=1)
    ratios = slices.model_copy(update={"method": Method.RATIO_TIMESLICES})
    await shows(ratios, series, 20, slo__period_bad_events__sum=0.2)


async def test_a_calendar_window_begins_with_its_day_in_its_time_zone() -> None:
    """The day begins at 02:00 in a zone that is an hour ahead: 60 minutes after 1970 began."""
    day = Calendar(start=2 * HOUR, offsets=((0, HOUR),))
    calendar = SLO.model_copy(update={"calendar": day, "period_seconds": DAY})
    series = {f"completed{{{ENVOY}}}": "0+100x100", f'answers{{class="5",{ENVOY}}}': "0+1x59 59x60"}
    await shows(calendar, series, 59, slo__period_bad_events__sum=59)
    await shows(calendar, series, 80, slo__period_bad_events__sum=0, slo__period_total_events__sum=2100)


async def test_clocks_that_are_set_back_move_the_day() -> None:
    changed = Calendar(start=2 * HOUR, offsets=((0, HOUR), (1800, 0)))
    calendar = SLO.model_copy(update={"calendar": changed, "period_seconds": DAY})
    series = {f"completed{{{ENVOY}}}": "0+100x200"}
    await shows(calendar, series, 119, slo__period_total_events__sum=11900)
    await shows(calendar, series, 129, slo__period_total_events__sum=1000)


async def test_a_calendar_month_begins_at_the_moment_that_it_is_said_to() -> None:
    month = Calendar(months=1, start=HOUR)
    calendar = SLO.model_copy(update={"calendar": month, "period_seconds": 31 * DAY})
    series = {f"completed{{{ENVOY}}}": "0+100x100"}
    await shows(calendar, series, 59, slo__period_total_events__sum=5900)
    await shows(calendar, series, 69, slo__period_total_events__sum=1000)


@pytest.mark.parametrize("indicator", KINDS, ids=lambda indicator: indicator.kind)
@pytest.mark.parametrize("method", Method)
async def test_every_kind_does_what_its_generated_cases_say(indicator: Indicator, method: Method) -> None:
    slo = SLO.model_copy(update={"indicator": indicator, "method": method, "slice_target": 0.95})
    tests = rule_tests(slo)
    assert tests
    await check_rules(rule_groups(slo), tests)


@pytest.mark.parametrize(("period", "target"), [(28 * DAY, 0.9999), (7 * DAY, 0.99), (HOUR, 0.9), (90 * DAY, 0.5)])
async def test_every_window_and_target_pages_and_opens_tickets(period: int, target: float) -> None:
    slo = SLO.model_copy(update={"period_seconds": period, "target": target})
    tests = rule_tests(slo)
    fired = {str(labels["severity"]) for test in tests for _, _, expected in test.alerts for labels in expected}
    assert fired == {"page", "ticket"}
    await check_rules(rule_groups(slo), tests)


async def test_rules_that_do_not_do_what_a_case_says_are_refused() -> None:
    wrong = RuleTest(name="wrong", series={"completed": "0+1x10"}, alerts=(("ErrorBudgetBurn", 600, (SLO.labels,)),))
    with pytest.raises(PlatformError, match="promtool refuses the rules") as refused:
        await check_rules(rule_groups(SLO), [wrong])
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT


def test_the_rates_are_those_of_the_source_scaled_to_the_period() -> None:
    of_month = [alert.conditions for alert in usual_alerts(30 * DAY, 0.001)]
    assert of_month == [
        ((14.4, (3600, 300)), (6.0, (21600, 1800))),
        ((3.0, (86400, 7200)), (1.0, (259200, 21600))),
    ]
    rates = [rate for alert in usual_alerts(28 * DAY, 0.001) for rate, _ in alert.conditions]
    assert rates == [13.44, 5.6, 2.8, 0.933333]
    assert burn_rate(0.02, HOUR, 30 * DAY) == pytest.approx(14.4)


def test_no_alert_waits_for_more_than_an_outage_of_half_the_requests_burns() -> None:
    rates = [rate for alert in usual_alerts(30 * DAY, 0.1) for rate, _ in alert.conditions]
    assert rates == [5.0, 5.0, 3.0, 1.0]


async def test_an_alert_of_the_file_replaces_the_usual_ones() -> None:
    own = BurnAlert(name="FastBurn", severity="page", conditions=((2.0, (HOUR,)),), for_seconds=300)
    absent = own.model_copy(update={"name": "FastBurn-no-data", "no_data": True})
    slo = SLO.model_copy(update={"alerts": (own, absent)})
    await check_rules(rule_groups(slo), rule_tests(slo))
    silent = RuleTest(
        name="no data",
        series={},
        alerts=(("FastBurn-no-data", 600, ({**slo.labels, "severity": "page"},)), ("FastBurn", 600, ())),
    )
    await check_rules(rule_groups(slo), [silent])


async def test_words_of_the_file_are_no_templates() -> None:
    """Prometheus expands those of labels and annotations, and they may query the series of everybody."""
    query = '{{ query "secret" | first | value }}'
    hostile = SLO.model_copy(update={"name": f"x-{query}", "title": query, "runbook_url": query, "owner": query})
    series = {f"completed{{{ENVOY}}}": "0+60x60", f'answers{{class="5",{ENVOY}}}': "0+60x60", "secret": "42x60"}
    for rule in rule_groups(hostile)[0].rules:
        assert query not in [*(rule.labels.values() if rule.alert else ()), *rule.annotations.values()]
    labels = {**hostile.labels, "owner": query, "severity": "page"}
    case = RuleTest(name="literal", series=series, alerts=(("ErrorBudgetBurn", 30 * MINUTE, (labels,)),))
    page = hostile.model_copy(update={"alerts": usual_alerts(30 * DAY, hostile.budget_ratio)[:1]})
    await check_rules(rule_groups(page), [case])
