"""The contract of ports.ship_log.ShipLog."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ..domain.errors import ErrorCode, PlatformError
from ..domain.ship_log import GENESIS, Draft, Entry, EntryKind
from ..ports.ship_log import ShipLog

TOKEN = "ghp_" + "0123456789abcdefghijABCDEFGHIJ123456"  # of the form of a token, and none


def opened(number: int = 1, **fields: Any) -> Draft:
    known: dict[str, Any] = {
        "kind": EntryKind.OPENED,
        "action": "deploy_service",
        "principal": "ann",
        "role": "developer",
        "tenant": "default",
        "operation": f"op-{number}",
        "subject": "web/production",
        "body": {"request": {"git_ref": "main", "text": 'ünïcode "quoted"\n'}},
    }
    return Draft(**{**known, **fields})


def completed(entry: Entry, **fields: Any) -> Draft:
    return opened(kind=EntryKind.COMPLETED, of=entry.seq, operation=entry.operation, outcome="done", **fields)


class ShipLogContract:
    """A subclass supplies the fixture `log`: an empty one, closed afterwards."""

    async def test_an_entry_has_its_place_in_the_chain(self, log: ShipLog) -> None:
        first = await log.append(opened(1))
        second = await log.append(opened(2))
        assert (first.seq, first.prev, len(first.hash)) == (1, GENESIS, 64)
        assert (second.seq, second.prev) == (2, first.hash)
        assert (first.operation, first.body["request"]["text"]) == ("op-1", 'ünïcode "quoted"\n')

    async def test_appends_of_100_tasks_chain_in_the_order_of_their_calls(self, log: ShipLog) -> None:
        entries = await asyncio.gather(*(log.append(opened(n)) for n in range(100)))
        assert [e.seq for e in entries] == list(range(1, 101))
        assert [e.operation for e in entries] == [f"op-{n}" for n in range(100)]
        assert [e.prev for e in entries] == [GENESIS, *(e.hash for e in entries[:-1])]
        assert (await log.verify()).entries == 100

    async def test_an_entry_is_found_by_its_number(self, log: ShipLog) -> None:
        entries = [await log.append(opened(n)) for n in range(3)]
        assert [await log.entry(seq) for seq in (0, 1, 2, 3, 4)] == [None, *entries, None]

    async def test_unfinished_are_the_opened_ones_that_nothing_completes(self, log: ShipLog) -> None:
        first, second, third = [await log.append(opened(n)) for n in range(3)]
        await log.append(opened(kind=EntryKind.NOTED, action="start"))
        await log.append(completed(second))
        assert await log.unfinished() == [first, third]
        await log.append(completed(first))
        await log.append(completed(third))
        assert await log.unfinished() == []

    async def test_an_entry_is_completed_once_and_only_if_it_was_opened(self, log: ShipLog) -> None:
        entry = await log.append(opened())
        noted = await log.append(opened(kind=EntryKind.NOTED))
        attempts = [completed(entry), completed(entry), completed(noted), opened(kind=EntryKind.COMPLETED, of=99)]
        outcomes = await asyncio.gather(*(log.append(d) for d in attempts), return_exceptions=True)
        assert isinstance(outcomes[0], Entry)
        codes = [o.code for o in outcomes[1:] if isinstance(o, PlatformError)]
        assert codes == [ErrorCode.INVALID_ARGUMENT] * 3
        found = await log.verify()
        assert (found.entries, found.flaws) == (3, ())

    async def test_the_head_is_the_last_entry_and_signed(self, log: ShipLog) -> None:
        empty = await log.head()
        assert (empty.seq, empty.hash) == (0, GENESIS)
        await log.append(opened(1))
        last = await log.append(opened(2))
        head = await log.head()
        assert (head.seq, head.hash) == (2, last.hash)
        assert (len(head.key), len(head.signature)) == (64, 128)
        assert head.key == empty.key
        assert head.signature != empty.signature

    async def test_a_log_that_nobody_touched_is_intact(self, log: ShipLog) -> None:
        assert (await log.verify()).intact
        entry = await log.append(opened())
        last = await log.append(completed(entry))
        found = await log.verify()
        assert (found.intact, found.entries, found.head_seq, found.head_hash) == (True, 2, 2, last.hash)

    @pytest.mark.parametrize(
        "fields",
        [
            {"body": {"text": f"it said: token {TOKEN}"}},
            {"body": {"list": [{"deep": [f"x {TOKEN} y"]}]}},
            {"body": {f"key {TOKEN}": 1}},
            {"body": {"url": "postgres://ann:correct-horse-battery@db/web"}},
            {"body": {"header": "Authorization: Bearer correct-horse-battery-staple"}},
            {"body": {"password": "correct-horse"}},
            {
                "body": {
                    "env": {"DB_PASSWORD": "correct-horse", "API-Key": "correct-horse", "Cookie": ["correct-horse"]}
                }
            },
            {"body": {"token": {"value": "correct-horse"}}},
            {"body": {"clientSecret": "correct-horse", "accessToken": "correct-horse", "privateKey": "correct-horse"}},
            {"subject": f"web/{TOKEN}"},
            {"outcome": f"failed with {TOKEN}"},
        ],
    )
    async def test_secrets_do_not_reach_the_log(self, log: ShipLog, fields: dict[str, Any]) -> None:
        entry = await log.append(opened(**fields))
        line = entry.model_dump_json()
        assert TOKEN not in line
        assert "correct-horse" not in line
        assert [e.model_dump_json() for e in await log.unfinished()] == [line]

    async def test_what_only_looks_like_a_secret_stays_readable(self, log: ShipLog) -> None:
        body = {
            "digest": "sha256:" + "ab12" * 16,
            "operation": "op-01kx2abc3def",
            "token_id": "t-1",
            "secret": "",
            "max_tokens": 100,
            "reason": "the token has expired",
            "count": 3,
            "ratio": 0.5,
            "none": None,
        }
        assert (await log.append(opened(body=body))).body == body

    async def test_a_hostile_body_is_written_bounded_and_the_log_stays_intact(self, log: ShipLog) -> None:
        deep: Any = "end"
        for _ in range(5000):
            deep = [deep]
        bodies: list[dict[str, Any]] = [
            {"text": "x" * 1_000_000},
            {"text": "\ud800 \x00 \u2028"},
            {"deep": deep},
            {"number": 10**6000, "float": float("inf"), "nan": float("nan")},
            {"object": object(), "set": {1}, "bytes": b"\xff"},
            {"k" * 100_000: "v"},
            {"hash": GENESIS, "kind": "completed", "of": 1, '"kind":"x"': '"kind":"x"'},
        ]
        for body in bodies:
            entry = await log.append(opened(body=body, subject="\udfff"))
            assert len(entry.model_dump_json()) < 70_000
        found = await log.verify()
        assert (found.entries, found.flaws) == (len(bodies), ())
