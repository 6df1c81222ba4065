"""What everything that tells traces keeps to."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from ..domain.errors import ErrorCode, PlatformError
from ..domain.trace import operation_ids
from ..ports.traces import Kind, Traces
from .otlp_collector import SeenSpan

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class TracesContract:
    """Subclasses give the fixture `traces`, and `ended`: the spans that have ended, in that order."""

    async def ended(self, traces: Traces) -> list[SeenSpan]:
        raise NotImplementedError

    async def test_a_span_within_another_is_below_it(self, traces: Traces) -> None:
        with traces.span("outer", kind=Kind.SERVER, attributes={"n": 1}) as outer:
            await asyncio.sleep(0)
            with traces.span("inner", kind=Kind.CLIENT):
                pass
            outer.tell({"bytes": 12})
        inner, outer_seen = await self.ended(traces)
        assert (inner.name, inner.parent, inner.kind) == ("inner", outer_seen.span, "client")
        assert inner.trace == outer_seen.trace
        assert (outer_seen.parent, outer_seen.kind, outer_seen.failed) == ("", "server", False)
        assert outer_seen.attributes == {"n": 1, "bytes": 12}

    async def test_a_span_goes_on_from_its_caller(self, traces: Traces) -> None:
        with traces.span("request", caller={"traceparent": CALLER}), traces.span("below"):
            pass
        below, request = await self.ended(traces)
        assert (request.trace, request.parent) == (CALLER[3:35], CALLER[36:52])
        assert below.trace == request.trace

    @pytest.mark.parametrize("sent", ["", "00-0-0-01", "no trace", CALLER.replace("b7ad6b7169203331", "0" * 16)])
    async def test_a_caller_whose_traceparent_is_none_begins_a_trace(self, traces: Traces, sent: str) -> None:
        with traces.span("request", caller={"traceparent": sent}):
            pass
        (request,) = await self.ended(traces)
        assert request.parent == ""

    async def test_a_failure_is_told_by_its_kind_and_never_by_its_words(self, traces: Traces) -> None:
        for exc in (PlatformError(ErrorCode.NOT_FOUND, "hunter2 is not there", "hunter2"), ValueError("hunter2")):
            with pytest.raises(type(exc)), traces.span("request"):
                raise exc
        first, second = await self.ended(traces)
        assert [s.attributes["error.type"] for s in (first, second)] == ["not_found", "ValueError"]
        assert first.failed
        assert second.failed
        assert "hunter2" not in first.text + second.text

    async def test_an_operation_is_the_root_of_the_trace_that_its_id_says(self, traces: Traces) -> None:
        with traces.span("change", operation="op-1"):
            pass
        traces.step("op-1", "starting", BEGAN, BEGAN + timedelta(seconds=2), {"n": 1})
        traces.step("op-1", "proving", BEGAN + timedelta(seconds=2), BEGAN, failed=True)  # the clock went back
        traces.operation("op-1", "operation", BEGAN, BEGAN + timedelta(seconds=3))
        change, starting, proving, whole = await self.ended(traces)
        trace, root = operation_ids("op-1")
        assert (whole.trace, whole.span, whole.parent) == (f"{trace:032x}", f"{root:016x}", "")
        assert [(s.trace, s.parent) for s in (starting, proving)] == [(whole.trace, whole.span)] * 2
        assert len({whole.span, starting.span, proving.span}) == 3
        assert change.links == ((whole.trace, whole.span),)
        assert starting.began_ns == int(BEGAN.timestamp()) * 10**9
        assert starting.ended_ns - starting.began_ns == 2 * 10**9
        assert proving.ended_ns >= proving.began_ns
        assert [s.failed for s in (starting, proving, whole)] == [False, True, False]

    async def test_what_is_told_within_a_span_of_an_operation_that_ends_is_not_below_that_span(
        self, traces: Traces
    ) -> None:
        with traces.span("pass"):
            traces.step("op-1", "starting", BEGAN, BEGAN)
            traces.operation("op-1", "operation", BEGAN, BEGAN)
        step, whole, around = await self.ended(traces)
        assert step.parent == whole.span
        assert whole.parent == ""
        assert around.trace != whole.trace
