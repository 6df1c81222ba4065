"""Finds the lines that a filter means: fast in a block of raw bytes, then exactly in what a reader is shown.

What is looked for in the bytes may find too much, never too little: so the answer depends on the shown text alone, and a
search cannot find out piece by piece what is redacted. RE2 takes time linear in the text, whatever the expression is, and
lets other threads run meanwhile.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import ahocorasick_rs
import re2

from ...domain.errors import ErrorCode, PlatformError
from ...domain.log_text import canonical, level_of, level_pattern
from ...ports.logs import LogFilter
from .log_files import Block

MASK = re.compile(r"<redacted>|<SECRET_\d+>")  # what stands in place of what was hidden
REGEX_MEMORY_BYTES = 8 << 20
LETTERS_TO_SPELL = 4  # in both cases: 16 spellings
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
        self._gate: ahocorasick_rs.BytesAhoCorasick | None = None
        if words:
            self._raw = _compiled(f"(?i){words}")
            self._gate = _gate([_spellings(_stretch(word)) for word in filter.ids])
        elif self._text:
            self._raw = _compiled(f"(?i){re2.escape(self._text)}")
            self._gate = _gate([_spellings(_stretch(self._text))])
        elif filter.regex:
            self._raw = _compiled(_without_assertions(filter.regex))
            self._gate = _gate([[filter.regex.encode()]]) if not _META & set(filter.regex) else None
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
            if self._gate is not None and not self._gate.find_matches_as_indexes(text):
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


def _stretch(text: str) -> str:
    """The longest part of a text that has few letters, and all of ASCII: it has few spellings, and is found fastest."""
    best, begin = "", 0
    for end in range(1, len(text) + 1):
        if not text[end - 1].isascii():
            begin = end
        while sum(c.isalpha() for c in text[begin:end]) > LETTERS_TO_SPELL:
            begin += 1
        best = max(best, text[begin:end], key=len)
    return best


def _spellings(text: str) -> list[bytes]:
    return ["".join(spelt).encode() for spelt in itertools.product(*({c.lower(), c.upper()} for c in text))]


def _gate(words: list[list[bytes]]) -> ahocorasick_rs.BytesAhoCorasick | None:
    """Tells whether a block is worth a closer look. None where a word is too short to tell."""
    spelt = [word for spellings in words for word in spellings]
    return ahocorasick_rs.BytesAhoCorasick(spelt) if min(map(len, spelt)) > 1 else None
