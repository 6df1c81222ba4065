from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.ship_log import (
    GENESIS,
    Anchor,
    Chain,
    Draft,
    EntryKind,
    canonical,
    chain_hash,
    parse,
    seal,
    verify,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def draft(**fields: Any) -> Draft:
    known: dict[str, Any] = {
        "kind": EntryKind.OPENED,
        "action": "deploy_service",
        "principal": "ann",
        "role": "developer",
        "tenant": "default",
    }
    return Draft(**{**known, **fields})


def chained(count: int) -> list[bytes]:
    chain = Chain()
    return [chain.append(draft(operation=f"op-{n}"), NOW)[1] for n in range(1, count + 1)]


def located(lines: list[bytes]) -> list[tuple[str, bytes]]:
    return [(f"line {number}", line) for number, line in enumerate(lines, 1)]


@given(body=st.dictionaries(texts, json_values, max_size=4), subject=texts)
def test_whatever_is_sealed_reads_back_as_it_was_and_verifies(body: dict[str, Any], subject: str) -> None:
    entry, line = seal(draft(body=body, subject=subject), 1, NOW, GENESIS)
    assert parse(line) == entry
    assert b"\n" not in line
    assert verify([("line 1", line)]).flaws == ()


@given(body=st.dictionaries(texts, json_values, max_size=4))
def test_a_line_is_canonical_json_and_its_hash_is_that_of_its_fields(body: dict[str, Any]) -> None:
    entry, line = seal(draft(body=body), 1, NOW, GENESIS)
    fields = json.loads(line)
    assert canonical(fields) == line
    assert chain_hash(fields) == entry.hash == fields["hash"]


@settings(max_examples=200)
@given(data=st.data())
def test_no_change_of_a_single_byte_goes_unseen(data: st.DataObject) -> None:
    lines = chained(3)
    content = bytearray(lines[1])
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    found = verify(located([lines[0], bytes(content), lines[2]]))
    assert {flaw.where for flaw in found.flaws} & {"line 2", "line 3"}


@given(order=st.permutations(range(5)))
def test_only_the_order_of_writing_is_intact(order: list[int]) -> None:
    lines = chained(5)
    assert verify(located([lines[n] for n in order])).intact == (order == sorted(order))


@given(kept=st.sets(st.integers(0, 5)))
def test_a_gap_shows_and_a_cut_end_shows_against_an_anchor(kept: set[int]) -> None:
    lines = chained(6)
    last = parse(lines[-1])
    assert last is not None
    anchor = Anchor(where="commit", seq=6, hash=last.hash, signature="", key="")
    assert verify(located([lines[n] for n in sorted(kept)]), [anchor]).intact == (len(kept) == 6)


def test_an_anchor_of_another_hash_names_the_entry() -> None:
    anchor = Anchor(where="commit", seq=2, hash="f" * 64, signature="", key="")
    (flaw,) = verify(located(chained(3)), [anchor]).flaws
    assert (flaw.where, flaw.problem) == ("commit", "it names entry 2 by another hash: that entry was replaced")


def test_a_completion_without_its_opening_is_named() -> None:
    _, line = seal(draft(kind=EntryKind.COMPLETED, of=7), 1, NOW, GENESIS)
    (flaw,) = verify([("line 1", line)]).flaws
    assert flaw.problem == "entry 1 completes entry 7, which is not there"


def test_a_chain_refuses_what_would_not_verify_and_stays_as_it_was() -> None:
    chain = Chain()
    chain.append(draft(), NOW)
    before = (chain.seq, chain.hash)
    with pytest.raises(PlatformError) as caught:
        chain.append(draft(kind=EntryKind.COMPLETED, of=2), NOW)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert (chain.seq, chain.hash) == before
