"""JSON that a person wrote: with the line and the place of every value, for errors and for edits of a part."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from .yaml_document import DEPTH_LIMIT, LIMIT_BYTES, NODE_LIMIT, Document, Path

_SPACE = re.compile(r"[ \t\n\r]*")
_SCALAR = re.compile(r"true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class JsonDocument(Document):
    """spans: from the first to behind the last character of each value, by path."""

    spans: dict[Path, tuple[int, int]] = field(default_factory=dict)


def parse(text: str, where: str) -> JsonDocument:
    """Raises PlatformError(INVALID_ARGUMENT), beginning `WHERE:LINE: `, for what is not JSON, too big, or ambiguous."""
    if len(text.encode(errors="surrogatepass")) > LIMIT_BYTES:
        raise Document(where, None).error((), f"larger than {LIMIT_BYTES // 1024} KiB", "remove flags that nobody asks")
    reader = _Reader(text)
    try:
        value = reader.document()
    except _MalformedError as exc:
        at = Document(where, None, {(): text.count("\n", 0, exc.position) + 1})
        raise at.error((), f"is not valid JSON: {exc}", "an editor that knows JSON shows the place") from exc
    return JsonDocument(where, value, reader.lines, {}, reader.spans)


class _MalformedError(ValueError):
    def __init__(self, position: int, problem: str) -> None:
        super().__init__(problem)
        self.position = position


class _Reader:
    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self.spans: dict[Path, tuple[int, int]] = {}
        self._text = text
        self._counted = (0, 1)  # a position, and its line

    def document(self) -> Any:
        value, end = self._value(self._skip(0), ())
        if (end := self._skip(end)) != len(self._text):
            raise _MalformedError(end, "there is more behind its end")
        return value

    def _value(self, at: int, path: Path) -> tuple[Any, int]:
        if len(path) > DEPTH_LIMIT or len(self.spans) > NODE_LIMIT:
            raise _MalformedError(
                at, f"it is nested deeper than {DEPTH_LIMIT} levels, or has more than {NODE_LIMIT} values"
            )
        self.lines.setdefault(path, self._line(at))
        self.spans[path] = (at, at)  # counts while it is read
        value: Any
        match self._text[at : at + 1]:
            case "{":
                value, end = self._object(at, path)
            case "[":
                value, end = self._array(at, path)
            case '"':
                value, end = self._string(at)
            case _:
                value, end = self._scalar(at)
        self.spans[path] = (at, end)
        return value, end

    def _object(self, at: int, path: Path) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        at = self._skip(at + 1)
        while self._text[at : at + 1] != "}":
            if found:
                at = self._expect(at, ",")
            start = at
            if self._text[at : at + 1] != '"':
                raise _MalformedError(at, "a key in quotes is expected")
            key, at = self._string(at)
            if key in found:
                raise _MalformedError(start, f"the key {key!r:.60} is there twice")
            self.lines[*path, key] = self._line(start)
            found[key], at = self._value(self._expect(at, ":"), (*path, key))
            at = self._skip(at)
        return found, at + 1

    def _array(self, at: int, path: Path) -> tuple[list[Any], int]:
        found: list[Any] = []
        at = self._skip(at + 1)
        while self._text[at : at + 1] != "]":
            if found:
                at = self._expect(at, ",")
            value, at = self._value(at, (*path, len(found)))
            found.append(value)
            at = self._skip(at)
        return found, at + 1

    def _string(self, at: int) -> tuple[str, int]:
        try:
            text, end = scanstring(self._text, at + 1, True)
        except json.JSONDecodeError as exc:
            raise _MalformedError(exc.pos, exc.msg.lower()) from exc
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise _MalformedError(at, "a text in it holds half a character")
        return text, end

    def _scalar(self, at: int) -> tuple[Any, int]:
        found = _SCALAR.match(self._text, at)
        if found is None:
            raise _MalformedError(at, "a value is expected")
        try:
            value = json.loads(found[0])
        except ValueError as exc:  # a number of more digits than Python reads
            raise _MalformedError(at, str(exc)[:80]) from exc
        if isinstance(value, float) and abs(value) == float("inf"):
            raise _MalformedError(at, "a number is too large")
        return value, found.end()

    def _skip(self, at: int) -> int:
        space = _SPACE.match(self._text, at)
        return space.end() if space else at

    def _expect(self, at: int, sign: str) -> int:
        at = self._skip(at)
        if self._text[at : at + 1] != sign:
            raise _MalformedError(at, f"`{sign}` is expected")
        return self._skip(at + 1)

    def _line(self, at: int) -> int:
        """Places are asked in rising order, so each character is counted once."""
        position, line = self._counted
        line += self._text.count("\n", position, at)
        self._counted = (at, line)
        return line
