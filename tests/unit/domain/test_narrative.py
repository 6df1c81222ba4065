from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.narrative import Fact, Narrative, Paragraph, check_narrative, plain_narrative

T = datetime(2026, 3, 1, 14, 2, 11, tzinfo=UTC)
FACTS = (
    Fact(id="alert-1", at=T, text="web in production fails 12.5% of 1204 requests"),
    Fact(id="op-7", at=T - timedelta(minutes=5), text="deploy of version 43c0 by ann"),
    Fact(id="slo", text="the target is 99.5%"),
)


def told(text: str, *facts: str) -> Narrative:
    return Narrative(paragraphs=(Paragraph(text=text, facts=facts),))


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("Version 43c0 was deployed by ann, five minutes before it failed.", ("op-7", "alert-1")),
        ("At 14:02 it failed 12.5% of 1,204 requests.", ("alert-1",)),
        ("It failed 12.50%, 12 of a hundred, at 14:02:11.", ("alert-1",)),
        ("On 1 March the target of 99.5% was missed.", ("slo", "alert-1")),
    ],
)
def test_a_paragraph_may_say_what_its_facts_say(text: str, facts: tuple[str, ...]) -> None:
    check_narrative(told(text, *facts), FACTS)


@pytest.mark.parametrize(
    ("text", "facts", "why"),
    [
        ("The database was down.", ("db-1",), "there is no fact db-1"),
        ("At 14:09 it failed.", ("alert-1",), "the figure 9"),
        ("It failed 12.5% of 1204 requests.", ("op-7",), "the figure 12.5, 1204"),
        ("It failed 125% of requests.", ("alert-1",), "the figure 125"),
        ("It failed 5% of requests.", ("alert-1",), "the figure 5"),
        ("It failed ½ of requests.", ("alert-1",), "the figure ½"),
        ("It failed 12⁵ times.", ("alert-1",), "the figure ⁵"),
        ("It cost 3000 customers.", ("alert-1", "op-7", "slo"), "the figure 3000"),
    ],
)
def test_what_no_fact_says_is_refused_with_its_paragraph(text: str, facts: tuple[str, ...], why: str) -> None:
    with pytest.raises(PlatformError, match=f"paragraph 1: .*{why}") as caught:
        check_narrative(told(text, *facts), FACTS)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_without_an_advisor_the_facts_are_told_in_the_order_of_time() -> None:
    narrative = plain_narrative(FACTS)
    assert [p.facts for p in narrative.paragraphs] == [("op-7",), ("alert-1",), ("slo",)]
    assert str(narrative).startswith("2026-03-01T13:57:11+00:00 deploy of version 43c0 by ann\n\n2026-03-01T14:02:11")


@given(
    st.lists(
        st.builds(
            Fact,
            id=st.integers(0, 10**6).map(str),
            text=st.text(min_size=1, max_size=2000),
            at=st.none() | st.datetimes(timezones=st.just(UTC)),
        ),
        min_size=1,
        max_size=30,
        unique_by=lambda fact: fact.id,
    )
)
def test_what_is_told_plainly_always_holds(facts: list[Fact]) -> None:
    check_narrative(plain_narrative(facts), facts)
