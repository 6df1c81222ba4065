"""The contract of ports.metrics.Metrics."""

from __future__ import annotations

import time

import pytest

from ..domain.errors import ErrorCode, PlatformError
from ..domain.signal import Signal
from ..ports.metrics import Metrics, ScrapeTarget

BAD_EXPRESSION = "sum("


def target(index: int, address: str = "127.0.0.1:1") -> ScrapeTarget:
    return ScrapeTarget(
        instance=f"web__production__v1__{index}",
        service="web",
        environment="production",
        version="v1",
        address=address,
    )


class MetricsContract:
    """Fixtures: `metrics`; `unanswering`, whose collector is down."""

    async def test_an_instant_is_one_point_a_series(self, metrics: Metrics) -> None:
        now = time.time()
        (series,) = await metrics.query("vector(1)", start=now, end=now, step=1, limit=10)
        assert [p.value for p in series.points] == [1.0]
        assert abs(series.points[0].at - now) < 1

    async def test_a_bad_expression_is_refused_with_the_words_of_the_server(self, metrics: Metrics) -> None:
        now = time.time()
        for start in (now, now - 60):
            with pytest.raises(PlatformError) as caught:
                await metrics.query(BAD_EXPRESSION, start=start, end=now, step=5, limit=10)
            assert caught.value.code is ErrorCode.INVALID_ARGUMENT
            assert "parse error" in caught.value.message

    async def test_a_collector_that_is_down_is_unavailable(self, unanswering: Metrics) -> None:
        now = time.time()
        with pytest.raises(PlatformError) as caught:
            await unanswering.query("vector(1)", start=now, end=now, step=1, limit=10)
        assert caught.value.code is ErrorCode.UNAVAILABLE
        with pytest.raises(PlatformError) as caught:
            await unanswering.scrape([target(9)])
        assert caught.value.code is ErrorCode.UNAVAILABLE

    @pytest.mark.parametrize("signal", list(Signal))
    @pytest.mark.parametrize("version", ["abc123", None])
    async def test_every_signal_has_an_expression_that_can_be_asked(
        self, metrics: Metrics, signal: Signal, version: str | None
    ) -> None:
        expression = metrics.expression(signal, "web", "production", version)
        assert "web" in expression
        now = time.time()
        await metrics.query(expression, start=now - 60, end=now, step=5, limit=10)

    async def test_targets_can_be_given_again_and_changed_and_taken_away(self, metrics: Metrics) -> None:
        for targets in ([target(0)], [target(0)], [target(0), target(1)], []):
            await metrics.scrape(targets)

    async def test_what_does_not_answer_exposes_nothing(self, metrics: Metrics) -> None:
        assert await metrics.exposes("127.0.0.1:1") is False

    async def test_of_a_version_that_nobody_knows_there_is_no_history(self, metrics: Metrics) -> None:
        end = time.time() // 5 * 5
        asked = {"start": end - 60, "end": end}
        assert await metrics.history("web", "production", "nobody", bucket_seconds=5, **asked) == ()
        assert await metrics.latencies("web", "production", "nobody", **asked) == ()

    async def test_of_a_service_that_nobody_asked_nothing_is_shown(self, metrics: Metrics) -> None:
        now = time.time()
        shown = await metrics.shown("nobody", "production", start=now - 14 * 86400, end=now)
        assert (shown.requests, shown.errors, shown.within) == (0, 0, ())

    @pytest.mark.parametrize(("start", "bucket"), [(1000.0, 0.5), (1001.0, 5.0), (1000.5, 1.0)])
    async def test_buckets_are_aligned_and_not_too_short(self, metrics: Metrics, start: float, bucket: float) -> None:
        with pytest.raises(PlatformError) as caught:
            await metrics.history("web", "production", "v1", start=start, end=2000.0, bucket_seconds=bucket)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT
