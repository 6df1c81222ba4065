"""Finds the lines that a filter means: fast in a block of raw bytes, then exactly in what a reader is shown.

What is looked for in the bytes may find too much, never too little: so the answer depends on the shown text alone, and
a search cannot find out piece by piece what is redacted. RE2 takes time linear in the text, whatever the expression is,
and lets other threads run meanwhile.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Iterator, Sequence

import ahocorasick_rs
import re2  # type: ignore[import-untyped]

from ...domain.errors import ErrorCode, PlatformError
from ...domain.log_text import canonical, level_of, level_pattern
from ...ports.logs import LogFilter
from .log_files import Block

MASK = re.compile(r"<redacted>|<SECRET_\d+>")  # what stands in place of what was hidden
REGEX_MEMORY_BYTES = 8 << 20
SAMPLE_BYTES = 64 * 1024
SPELT_CHARACTERS = 4  # in both cases: 16 spellings
_ASSERTION = re.compile(
    r"\\Q.*?(?:\\E|\Z)"  # a literal text
    r"|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]"  # a class
    r"|(?P<assertion>\\[AzbB]|\^|\$)"
    r"|\\.|.",
    re.DOTALL,
)
_META = frozenset(r"\.+*?()|[]{}^$")


class LineSearch:
    """Of one filter. Raises PlatformError(INVALID_ARGUMENT) for a regular expression that is none of RE2."""

    def __init__(self, filter: LogFilter) -> None:
        self.level = canonical(filter.level) if filter.level else None
        self._text = (filter.text or "").lower()
        self._regex = _compiled(filter.regex) if filter.regex else None
        words = "|".join(re2.escape(word) for word in filter.ids)
        self._ids = _compiled(rf"(?i)(?:^|[^0-9A-Za-z])(?:{words})(?:[^0-9A-Za-z]|$)") if words else None
        self._gate: Gate | None = None
        if words:
            self._raw = _compiled(f"(?i){words}")
            self._gate = Gate(filter.ids)
        elif self._text:
            self._raw = _compiled(f"(?i){re2.escape(self._text)}")
            self._gate = Gate([self._text])
        elif filter.regex:
            self._raw = _compiled(_without_assertions(filter.regex))
            self._gate = Gate([filter.regex], any_case=False) if not _META & set(filter.regex) else None
        else:
            self._raw = _compiled(level_pattern(self.level)) if self.level else None

    @property
    def takes_all(self) -> bool:
        return self._raw is None

    def candidates(self, block: Block) -> Iterator[tuple[int, int]]:
        """From where to where in the block's data they go, newest first."""
        if self._raw is None:
            return block.lines()
        with memoryview(block.data) as view, view[: block.end] as text:
            if self._gate is not None and not self._gate.opens(text):
                return iter(())
            found, position = [], block.begin
            while match := self._raw.search(text, position):
                start = max(block.begin, block.data.rfind(b"\n", block.begin, match.start()) + 1)
                end = block.data.find(b"\n", match.start(), block.end)
                found.append((start, end if end >= 0 else block.end))
                if end < 0:
                    break
                position = end + 1
            return reversed(found)

    def may_show(self, text: str) -> bool:
        """Whether the level of a line is the one that is asked for. text: of the whole line, before it is redacted."""
        return self.level is None or level_of(text) == self.level

    def shows(self, text: str) -> bool:
        """text: redacted. What was hidden is part of nothing that is found."""
        if self._text and not any(self._text in part for part in MASK.split(text.lower())):
            return False
        if self._regex is None and self._ids is None:
            return True
        masked = MASK.sub("\n", text)  # which never matches
        return all(regex is None or regex.search(masked) for regex in (self._regex, self._ids))


def _compiled(pattern: str) -> re2._Regexp:
    options = re2.Options()
    options.never_nl, options.log_errors, options.max_mem = True, False, REGEX_MEMORY_BYTES
    try:
        return re2.compile(pattern, options)
    except re2.error as exc:
        said = exc.args[0].decode(errors="replace") if isinstance(exc.args[0], bytes) else str(exc.args[0])
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            f"{pattern[:100]!r} is not a regular expression of RE2: {said[:200]}",
            "RE2 has no look-around and no back-references; `text` looks for a text as it is",
        ) from exc


def _without_assertions(pattern: str) -> str:
    """Matches wherever the pattern does, also in a line of which it sees more or less at both ends."""
    return _ASSERTION.sub(lambda part: "(?:)" if part["assertion"] else part[0], pattern)


class Gate:
    """Tells in a tenth of the time whether a block is worth a closer look: whether a part of a word is in it, that has
    few spellings and begins with a character that is rare there."""

    def __init__(self, words: Sequence[str], *, any_case: bool = True) -> None:
        self._words = words
        self._any_case = any_case
        self._parts: ahocorasick_rs.BytesAhoCorasick | None = None
        self._chosen = threading.Lock()

    def opens(self, text: memoryview) -> bool:
        with self._chosen:
            if self._parts is None:
                sample = bytes(text[:SAMPLE_BYTES]).lower()
                self._parts = ahocorasick_rs.BytesAhoCorasick(
                    [spelling for word in self._words for spelling in self._spellings(word, sample)]
                )
        return bool(self._parts.find_matches_as_indexes(text))

    def _spellings(self, word: str, sample: bytes) -> list[bytes]:
        if not self._any_case:
            return [word.encode()]
        if plain := max(re.findall(r"[0-9 -@]{3,}", word), key=len, default=""):
            return [plain.encode()]  # without letters
        word = word.lower()
        starts = [n for n in range(max(1, len(word) - 1)) if word[n : n + 2].isascii()] or [0]
        start = min(starts, key=lambda n: sample.count(word[n].encode()))
        part = "".join(itertools.takewhile(str.isascii, word[start : start + SPELT_CHARACTERS])) or word
        return ["".join(spelt).encode() for spelt in itertools.product(*({c, c.upper()} for c in part))]
