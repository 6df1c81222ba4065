"""The ship's log: what is written of every change, chained so that tampering shows.

Each line is one JSON object. `hash` is the SHA-256 of the line's canonical JSON without `hash`, which holds
`prev`, the hash of the line before (across files; "0" * 64 before the first).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from .value import Value

GENESIS = "0" * 64


class EntryKind(StrEnum):
    OPENED = "opened"  # before the change
    COMPLETED = "completed"  # after it; `of` is the sequence number of the opened entry
    NOTED = "noted"  # an event without a change of its own: a start, a stop, a repair


class Entry(Value):
    """seq: from 1, without gaps. of: the seq of the entry that this one completes, else 0."""

    seq: int
    at: datetime
    kind: EntryKind
    of: int = 0
    action: str
    principal: str
    role: str
    tenant: str
    operation: str = ""
    subject: str = ""
    outcome: str = ""
    body: dict[str, Any] = {}
    prev: str = GENESIS
    hash: str = ""


class Draft(Value):
    """An entry before it has its place in the chain."""

    kind: EntryKind
    of: int = 0
    action: str
    principal: str
    role: str
    tenant: str
    operation: str = ""
    subject: str = ""
    outcome: str = ""
    body: dict[str, Any] = {}


class Head(Value):
    """The chain's end, signed. signature: Ed25519 over `seq:hash`, hex; key: its public key, hex."""

    seq: int
    hash: str
    at: datetime
    key: str = ""
    signature: str = ""


class Flaw(Value):
    """A place where the chain does not hold. where: file and line."""

    where: str
    problem: str


class Verification(Value):
    """intact: no flaw. entries: lines that were read. head: the last good line's (seq, hash)."""

    entries: int
    head_seq: int
    head_hash: str
    flaws: tuple[Flaw, ...] = ()
    anchored: bool | None = None

    @property
    def intact(self) -> bool:
        return not self.flaws


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def chain_hash(fields: dict[str, Any]) -> str:
    """The hash of a line's fields (JSON types), `hash` itself left out."""
    return hashlib.sha256(canonical({k: v for k, v in fields.items() if k != "hash"})).hexdigest()


def seal(draft: Draft, seq: int, at: datetime, prev: str) -> tuple[Entry, bytes]:
    """The draft in its place of the chain, and its line without the newline."""
    fields = Entry(seq=seq, at=at, prev=prev, **draft.model_dump()).model_dump(mode="json")
    fields["hash"] = chain_hash(fields)
    return Entry.model_validate(fields), canonical(fields)


def verify(lines: Iterable[tuple[str, bytes]]) -> Verification:
    """Follows the chain through (where, line) pairs; names each line that was changed, removed, inserted or moved."""
    flaws: list[Flaw] = []
    seq, prev, count = 0, GENESIS, 0
    opened: set[int] = set()
    for where, fields in _parsed(lines, flaws):
        count += 1
        found = fields.get("seq")
        if chain_hash(fields) != fields.get("hash"):
            flaws.append(Flaw(where=where, problem=f"entry {found} was changed: its hash does not fit its content"))
        elif found != seq + 1:
            kind = "removed before it" if isinstance(found, int) and found > seq + 1 else "inserted, repeated or moved"
            flaws.append(Flaw(where=where, problem=f"entry {found} follows entry {seq}: lines were {kind}"))
        elif fields.get("prev") != prev:
            flaws.append(
                Flaw(where=where, problem=f"entry {found} does not continue entry {seq}: that one was replaced")
            )
        if isinstance(found, int):
            seq = found
        prev = str(fields.get("hash"))
        if fields.get("kind") == EntryKind.OPENED:
            opened.add(seq)
        elif fields.get("kind") == EntryKind.COMPLETED and fields.get("of") not in opened:
            flaws.append(
                Flaw(
                    where=where,
                    problem=f"entry {found} completes entry {fields.get('of')}, which is not there",
                )
            )
    return Verification(entries=count, head_seq=seq, head_hash=prev, flaws=tuple(flaws))


def _parsed(lines: Iterable[tuple[str, bytes]], flaws: list[Flaw]) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, line in lines:
        try:
            fields = json.loads(line)
            Entry.model_validate(fields)
        except (ValueError, ValidationError):
            flaws.append(Flaw(where=where, problem="not an entry of the ship's log: unreadable or of another form"))
            continue
        yield where, fields
