"""The ship's log: what is written of every change, chained so that tampering shows.

Each line is one JSON object in canonical form: keys sorted, no blanks, UTF-8. `hash` is the SHA-256 of the line
without `hash`; it covers `prev`, the hash of the line before (across files; "0" * 64 before the first).
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from .errors import ErrorCode, PlatformError
from .value import Value

GENESIS = "0" * 64
COMPLETED_KEPT = 100


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


class Anchor(Value):
    """A signed head as it was written down elsewhere. where: the place, such as a commit. Fields as in Head."""

    where: str
    seq: int
    hash: str
    signature: str
    key: str


class Verification(Value):
    """intact: no flaw. entries: lines that were read. head: the last readable line's (seq, hash).

    anchored: whether there were anchors and all of them hold; None where nobody asked for them.
    """

    entries: int
    head_seq: int
    head_hash: str
    flaws: tuple[Flaw, ...] = ()
    anchored: bool | None = None

    @property
    def intact(self) -> bool:
        return not self.flaws


class Chain:
    """The end of the log as its writer knows it, and what is still open in it."""

    def __init__(
        self, seq: int = 0, hash: str = GENESIS, opened: Iterable[Entry] = (), completed: Iterable[Entry] = ()
    ) -> None:
        self.seq = seq
        self.hash = hash
        self._open = {entry.seq: entry for entry in opened}
        self._completed = deque(completed, maxlen=COMPLETED_KEPT)

    @property
    def unfinished(self) -> list[Entry]:
        """Opened entries that nothing completes, oldest first."""
        return list(self._open.values())

    @property
    def completed(self) -> list[Entry]:
        """The newest entries that complete another, oldest first: COMPLETED_KEPT at most."""
        return list(self._completed)

    def copy(self) -> Chain:
        return Chain(self.seq, self.hash, self._open.values(), self._completed)

    def append(self, draft: Draft, at: datetime) -> tuple[Entry, bytes]:
        """The draft as the next entry, and its line without the newline.

        Raises PlatformError(INVALID_ARGUMENT) where it completes an entry that is not open.
        """
        if draft.kind is EntryKind.COMPLETED and draft.of not in self._open:
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT,
                f"entry {draft.of} of the ship's log is not open: it cannot be completed",
                "an entry is completed once, by the one who opened it",
            )
        entry, line = seal(draft, self.seq + 1, at, self.hash)
        self.follow(entry)
        return entry, line

    def follow(self, entry: Entry) -> None:
        """Takes an entry that is already written as the new end."""
        self.seq, self.hash = entry.seq, entry.hash
        if entry.kind is EntryKind.OPENED:
            self._open[entry.seq] = entry
        elif entry.kind is EntryKind.COMPLETED:
            self._open.pop(entry.of, None)
            self._completed.append(entry)


_read: Callable[[bytes], Entry] = Entry.__pydantic_validator__.validate_json
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(value: object) -> bytes:
    return _canonical.encode(value).encode()


def chain_hash(fields: dict[str, Any]) -> str:
    """The hash of a line's fields (JSON types), `hash` itself left out."""
    return hashlib.sha256(canonical({k: v for k, v in fields.items() if k != "hash"})).hexdigest()


def seal(draft: Draft, seq: int, at: datetime, prev: str) -> tuple[Entry, bytes]:
    """The draft in its place of the chain, and its line without the newline."""
    fields = draft.model_dump(mode="json")
    content = canonical({**fields, "seq": seq, "at": at.isoformat(), "prev": prev})
    hash = hashlib.sha256(content).hexdigest()
    # `hash` goes where the order of keys has it: before `kind`, which does not occur behind it again.
    before, kind, after = content.rpartition(b'"kind":')
    line = b"".join((before, f'"hash":"{hash}",'.encode(), kind, after))
    return _read(line), line


def parse(line: bytes) -> Entry | None:
    """The entry of a line; None where it is none, or of a form that this version does not know."""
    try:
        return _read(line)
    except ValidationError:
        return None


def verify(lines: Iterable[tuple[str, bytes]], anchors: Sequence[Anchor] = ()) -> Verification:
    """Follows the chain through (where, line) pairs; names each line that was changed, removed, inserted or moved.

    anchors: each must name a line that is there, with its hash. Their signatures are not looked at.
    """
    flaws: list[Flaw] = []
    chain, count = Chain(), 0
    opened: set[int] = set()
    wanted = {anchor.seq for anchor in anchors}
    hashes = {0: GENESIS}
    for where, line in lines:
        entry = parse(line)
        if entry is None:
            problem = "not an entry of the ship's log: unreadable or of another form"
        else:
            count += 1
            problem = _problem(entry, line, chain)
            if not problem and entry.kind is EntryKind.COMPLETED and entry.of not in opened:
                problem = f"entry {entry.seq} completes entry {entry.of}, which is not there"
            if entry.kind is EntryKind.OPENED:
                opened.add(entry.seq)
            if entry.seq in wanted:
                hashes[entry.seq] = entry.hash
            chain.seq, chain.hash = entry.seq, entry.hash
        if problem:
            flaws.append(Flaw(where=where, problem=problem))
    flaws += [Flaw(where=a.where, problem=p) for a in anchors if (p := _broken(a, hashes.get(a.seq)))]
    return Verification(entries=count, head_seq=chain.seq, head_hash=chain.hash, flaws=tuple(flaws))


def _problem(entry: Entry, line: bytes, before: Chain) -> str:
    # The hash is cut out of the line as it stands: a line in another order or spacing was changed too.
    content = line.replace(b'"hash":"%b",' % entry.hash.encode(), b"", 1)
    if hashlib.sha256(content).hexdigest() != entry.hash:
        return f"entry {entry.seq} was changed: its hash does not fit its content"
    if entry.seq != before.seq + 1:
        kind = "removed before it" if entry.seq > before.seq + 1 else "inserted, repeated or moved"
        return f"entry {entry.seq} follows entry {before.seq}: lines were {kind}"
    if entry.prev != before.hash:
        return f"entry {entry.seq} does not continue entry {before.seq}: that one was replaced"
    return ""


def _broken(anchor: Anchor, hash: str | None) -> str:
    if hash is None:
        return f"it names entry {anchor.seq}, which is not there: the log was cut"
    if hash != anchor.hash:
        return f"it names entry {anchor.seq} by another hash: that entry was replaced"
    return ""
