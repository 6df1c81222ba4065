from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from santiago_platform.domain.judge import Compared, Counted, Direction, Judge, Verdict
from santiago_platform.domain.sequential_test import AbortTest, Bucket, PromotionTest


def bucket(x: int, y: int, n_c: int, n_s: int) -> Bucket:
    return Bucket(canary_errors=x, stable_errors=y, canary_requests=n_c, stable_requests=n_s)


def counted(name: str = "errors", **said: object) -> Counted:
    return Counted(name=name, abort=AbortTest(horizon_minutes=60), promotion=PromotionTest(margin_ratio=0.005), **said)


def looked(judge: Judge, row: tuple[int, int, int, int], times: int, name: str = "errors") -> Judge:
    for i in range(times):
        judge = judge.look(i // 4, {name: bucket(*row)})
    return judge


def test_a_canary_as_good_as_stable_passes_with_the_figures() -> None:
    verdict = looked(Judge(counted=(counted(),)), (0, 3, 100, 900), 30).judgement()
    assert verdict.verdict is Verdict.PASS
    assert verdict.reason.startswith("canary 0.0% errors against 0.33%, e-value ")
    assert verdict.reason.endswith("limit 20; 3,000 requests")


def test_a_worse_canary_fails_with_the_figures() -> None:
    verdict = looked(Judge(counted=(counted(),)), (4, 3, 100, 900), 30).judgement()
    assert verdict.verdict is Verdict.FAIL
    assert verdict.reason.startswith("canary 4.0% errors against 0.33%, e-value ")
    assert ", limit 100; " in verdict.reason


def test_without_enough_requests_it_is_inconclusive_and_says_roughly_how_many_are_missing() -> None:
    verdict = looked(Judge(counted=(counted(),)), (0, 0, 10, 90), 2).judgement()
    assert verdict.verdict is Verdict.INCONCLUSIVE
    assert verdict.requests_needed is not None
    assert f"roughly {verdict.requests_needed:,} more requests of the canary are needed" in verdict.reason


def test_without_traffic_it_is_inconclusive() -> None:
    verdict = looked(Judge(counted=(counted(),)), (0, 0, 0, 900), 50).judgement()
    assert (verdict.verdict, verdict.requests_needed) == (Verdict.INCONCLUSIVE, None)
    assert verdict.reason == "no requests to judge errors by"


def test_what_cannot_be_settled_is_said_to_be_so() -> None:
    verdict = looked(Judge(counted=(counted(),)), (180, 20, 900, 100), 1).judgement()
    assert (verdict.verdict, verdict.requests_needed) == (Verdict.INCONCLUSIVE, None)
    assert verdict.reason.endswith("at these figures it cannot be settled")


def test_once_failed_it_stays_failed() -> None:
    failed = looked(Judge(counted=(counted(),)), (40, 3, 100, 900), 10)
    assert failed.failed
    better = looked(failed, (0, 3, 100, 900), 500).at_new_weight()
    assert better.judgement().reason == failed.failed


def test_the_guardrail_fires_within_four_buckets_of_a_canary_that_answers_next_to_nothing() -> None:
    judge = Judge(counted=(counted(),))
    after_three = looked(judge, (8, 0, 10, 90), 3)
    assert "guardrail" not in after_three.failed
    stubborn = Judge(counted=(counted(may_abort=False),))
    assert "guardrail" in looked(stubborn, (8, 0, 10, 90), 4).failed


@pytest.mark.parametrize(
    ("row", "times", "why"),
    [
        ((3, 90, 10, 90), 40, "stable is as bad"),
        ((1, 0, 5, 90), 5, "fewer than 30 requests"),
        ((2, 0, 10, 90), 40, "20% and not above"),
    ],
)
def test_the_guardrail_is_quiet_where(row: tuple[int, int, int, int], times: int, why: str) -> None:
    assert not looked(Judge(counted=(counted(may_abort=False),)), row, times).failed, why


def test_one_good_bucket_among_the_last_ones_holds_the_guardrail_back() -> None:
    judge = looked(Judge(counted=(counted(may_abort=False),)), (8, 0, 10, 90), 2)
    judge = looked(judge, (1, 0, 10, 90), 1)
    assert not looked(judge, (8, 0, 10, 90), 3).failed


def test_several_metrics_abort_by_the_weighted_mean_of_their_e_values() -> None:
    slow = counted("slower than 250 ms")
    judge = Judge(counted=(counted(), slow))
    for i in range(200):
        judge = judge.look(i // 4, {"errors": bucket(0, 3, 100, 900), "slower than 250 ms": bucket(15, 45, 100, 900)})
        if judge.failed:
            break
    assert judge.failed.startswith("canary 15.0% slower than 250 ms against 5.0%")
    alone = math.exp(judge.counted[1].abort.log_e)
    assert alone >= 199  # with two of equal weight the mean is half of it


def test_every_metric_must_pass() -> None:
    judge = Judge(counted=(counted(), counted("slower than 250 ms")))
    verdict = looked(judge, (0, 3, 100, 900), 30).judgement()
    assert (verdict.verdict, verdict.reason) == (
        Verdict.INCONCLUSIVE,
        "no requests to judge slower than 250 ms by",
    )


def test_a_dry_run_metric_reports_and_does_not_decide() -> None:
    judge = Judge(counted=(counted(), counted("slower than 250 ms", dry_run=True)))
    for i in range(60):
        judge = judge.look(i // 4, {"errors": bucket(0, 3, 100, 900), "slower than 250 ms": bucket(60, 45, 100, 900)})
    assert judge.judgement().verdict is Verdict.PASS
    assert judge.dry_runs() == ("slower than 250 ms (dry run): would abort",)


def compared(**said: object) -> Compared:
    return Compared(name="queue length", better=Direction.LOWER, tolerance_ratio=0.1, **said)


def test_a_compared_metric_fails_the_canary_that_is_worse_than_its_tolerance() -> None:
    judge = Judge(counted=(counted(dry_run=True),), compared=(compared(),))
    for i in range(20):
        judge = judge.look(i // 4, {}, {"queue length": (12, 10)})
    assert judge.failed.startswith("canary queue length 12 against 10, e-value ")


def test_a_compared_metric_passes_the_canary_that_is_within_its_tolerance() -> None:
    judge = Judge(counted=(counted(dry_run=True),), compared=(compared(),))
    assert "at least" in judge.look(0, {}, {"queue length": (10.5, 10)}).judgement().reason
    for i in range(20):
        judge = judge.look(i // 4, {}, {"queue length": (10.5, 10)})
    assert judge.judgement().verdict is Verdict.PASS


def test_higher_is_better_where_it_is_said_and_no_number_is_no_look() -> None:
    metric = compared().model_copy(update={"better": Direction.HIGHER})
    assert metric.look(8, 10).abort.log_e > 0 > metric.look(12, 10).abort.log_e
    assert metric.look(math.nan, 10) is metric


def test_a_new_weight_starts_promotion_anew_and_keeps_what_speaks_against_the_canary() -> None:
    judge = looked(Judge(counted=(counted(),), compared=(compared(),)), (1, 3, 100, 900), 8)
    judge = judge.look(3, {}, {"queue length": (20, 10)})
    anew = judge.at_new_weight()
    assert anew.counted[0].abort == judge.counted[0].abort
    assert anew.compared[0].abort == judge.compared[0].abort
    assert anew.counted[0].promotion.log_e == 0
    assert anew.judgement().verdict is Verdict.INCONCLUSIVE


rows = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 20), st.integers(0, 200), st.integers(0, 1000)).map(
        lambda r: (min(r[0], r[2]), min(r[1], r[3]), r[2], r[3])
    ),
    max_size=60,
)


@given(rows)
@settings(max_examples=60)
def test_a_stored_judge_goes_on_as_if_it_had_never_stopped(given_rows: list[tuple[int, int, int, int]]) -> None:
    through = resumed = Judge(counted=(counted(),), compared=(compared(),))
    for i, row in enumerate(given_rows):
        values = {"queue length": (float(row[0]), float(row[1]))}
        through = through.look(i // 4, {"errors": bucket(*row)}, values)
        resumed = Judge.model_validate_json(resumed.stored()).look(i // 4, {"errors": bucket(*row)}, values)
    assert resumed == through
    assert resumed.judgement() == through.judgement()


@given(rows, rows)
@settings(max_examples=60)
def test_once_failed_it_is_failed_whatever_comes_after(
    before: list[tuple[int, int, int, int]], later: list[tuple[int, int, int, int]]
) -> None:
    judge = looked(Judge(counted=(counted(),)), (40, 3, 100, 900), 10)
    for i, row in enumerate([*before, *later]):
        judge = judge.look(i, {"errors": bucket(*row)})
        judge = judge.at_new_weight() if i == len(before) else judge
        assert judge.judgement().verdict is Verdict.FAIL


@given(rows)
@settings(max_examples=60)
def test_each_request_counts_once_and_none_of_a_bucket_that_one_version_got_nothing_in(
    given_rows: list[tuple[int, int, int, int]],
) -> None:
    judge, cut = Judge(counted=(counted(), counted("slow"))), len(given_rows) // 2
    for i, row in enumerate(given_rows):
        before, judge = judge, judge.look(i // 4, {"errors": bucket(*row)})
        assert judge.counted[1] == before.counted[1], "a metric without a bucket is not looked at"
        if 0 in row[2:]:
            assert judge == before
        if i + 1 == cut:
            judge = judge.at_new_weight()
    comparable = [(i, row) for i, row in enumerate(given_rows) if 0 not in row[2:]]
    at_weight = [row for i, row in comparable if i >= cut or cut == 0]
    for total, used in (("whole", [row for _, row in comparable]), ("at_weight", at_weight)):
        sums = [sum(row[i] for row in used) for i in range(4)]
        assert getattr(judge.counted[0], total) == bucket(*sums)


@given(rows, st.integers(1, 200), st.integers(1, 1000), st.integers(0, 20), st.data())
@settings(max_examples=100)
def test_one_more_error_of_the_canary_never_speaks_for_it(
    given_rows: list[tuple[int, int, int, int]], canary: int, stable: int, errors: int, data: st.DataObject
) -> None:
    judge = Judge(counted=(counted(),))
    for i, row in enumerate(given_rows):
        judge = judge.look(i // 4, {"errors": bucket(*row)})
    fewer = data.draw(st.integers(0, canary))
    more = data.draw(st.integers(fewer, canary))
    of_stable = min(errors, stable)
    worse, better = (judge.look(20, {"errors": bucket(x, of_stable, canary, stable)}).counted[0] for x in (more, fewer))
    assert worse.promotion.log_e <= better.promotion.log_e + 1e-9
    assert worse.abort.log_e >= better.abort.log_e - 1e-9


@given(rows, st.booleans())
@settings(max_examples=40)
def test_a_metric_that_decides_nothing_or_may_not_abort_aborts_nothing(
    given_rows: list[tuple[int, int, int, int]], dry_run: bool
) -> None:
    loud = counted("slow", dry_run=True) if dry_run else counted("slow", may_abort=False)
    judge = Judge(counted=(counted(), loud))
    judge = looked(judge, (40, 3, 100, 900), 20, "slow")
    assert judge.counted[1].abort.log_e > math.log(100), "it is loud"
    for i, row in enumerate(given_rows):
        judge = judge.look(5 + i // 4, {"slow": bucket(*row)})
    assert not judge.failed
