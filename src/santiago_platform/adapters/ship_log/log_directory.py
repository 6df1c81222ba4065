"""The ship's log as files: one a UTC day, the signed head beside them; and their verification without a daemon.

YYYY-MM-DD.jsonl    the entries, one a line
head.json           the chain's signed end
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from ...domain.errors import ErrorCode, PlatformError
from ...domain.ship_log import Anchor, Entry, Flaw, Head, Verification, parse, verify
from .head_key import signature_holds

HEAD = "head.json"
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}\.jsonl")


class LogDirectory:
    def __init__(self, path: Path) -> None:
        self.path = path

    def files(self) -> list[Path]:
        """Oldest first."""
        return sorted(p for p in self.path.iterdir() if _DAY.fullmatch(p.name)) if self.path.is_dir() else []

    def lines(self) -> Iterator[tuple[str, bytes]]:
        """Every line with its place `FILE:NUMBER`.

        Not what follows the last newline of all: it is being written, or was torn before it was answered.
        """
        files = self.files()
        for file in files:
            with file.open("rb") as opened:
                for number, line in enumerate(opened, 1):
                    if line.endswith(b"\n") or file != files[-1]:
                        yield f"{file.name}:{number}", line.removesuffix(b"\n")

    def entry(self, seq: int) -> Entry | None:
        """Looks into one day's file: the last one that begins at or before `seq`."""
        files = self.files()
        index = bisect_right(files, seq, key=_first_seq)
        if index == 0:
            return None
        with files[index - 1].open("rb") as opened:
            found = (parse(line.removesuffix(b"\n")) for line in opened if line.endswith(b"\n"))
            return next((entry for entry in found if entry is not None and entry.seq == seq), None)

    def head(self) -> Head | None:
        """None where it is missing or unreadable."""
        with suppress(FileNotFoundError, ValidationError):
            return Head.model_validate_json((self.path / HEAD).read_bytes())
        return None

    def write_head(self, head: Head) -> None:
        """In one step, so that nobody reads half of it. Not synced: it is written after the lines that it signs are
        durable, so it may be behind after a loss of power, but never ahead."""
        fresh = self.path / f".{HEAD}.new"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, head.model_dump_json().encode() + b"\n")
        finally:
            os.close(descriptor)
        fresh.replace(self.path / HEAD)


def _first_seq(file: Path) -> int:
    with file.open("rb") as opened:
        first = parse(opened.readline().removesuffix(b"\n"))
    return first.seq if first is not None else 0


def verify_directory(
    directory: Path, public_key: bytes | None = None, anchors: Sequence[Anchor] | None = None
) -> Verification:
    """Whether the log in `directory` is whole, as far as its lines, its signed head and the anchors tell.

    public_key: the raw 32 bytes of the key that the head must be signed by; None takes the head's own word for it.
    anchors: what was written down elsewhere. They show a log that was cut or rewritten and signed again with
    another key. Raises PlatformError(NOT_FOUND) where there is no such directory.
    """
    if not directory.is_dir():
        raise PlatformError(
            ErrorCode.NOT_FOUND, f"there is no ship's log in {directory}", "the first start of the platform makes one"
        )
    log = LogDirectory(directory)
    # The head is read first: while a daemon appends, lines may then be ahead of it, but it never of them.
    head = log.head()
    known = [] if head is None else [Anchor(where=HEAD, **head.model_dump(exclude={"at"}))]
    found = verify(log.lines(), [*known, *(anchors or ())])
    flaws = list(found.flaws)
    if head is None:
        if found.entries:
            flaws.append(Flaw(where=HEAD, problem="the signed head is missing or unreadable"))
    elif public_key is not None and head.key != public_key.hex():
        flaws.append(Flaw(where=HEAD, problem="the head is signed by another key than this workspace's"))
    elif anchors and head.key not in {anchor.key for anchor in anchors}:
        flaws.append(Flaw(where=HEAD, problem="the head is signed by a key that no anchor knows: signed again"))
    flaws += [
        Flaw(where=a.where, problem=f"its signature of entry {a.seq} does not hold")
        for a in [*known, *(anchors or ())]
        if not signature_holds(a.seq, a.hash, a.signature, a.key)
    ]
    anchored = None if anchors is None else bool(anchors) and not {f.where for f in flaws} & _places(anchors)
    return found.model_copy(update={"flaws": tuple(flaws), "anchored": anchored})


def _places(anchors: Sequence[Anchor]) -> set[str]:
    return {HEAD, *(anchor.where for anchor in anchors)}
