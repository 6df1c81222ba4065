"""What a line of a log says of itself: its level, and the ids of the request that it is about."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

NAMES = ("trace", "debug", "info", "notice", "warning", "error", "critical")
_SYNONYMS = {
    **{name: name for name in NAMES},
    "verbose": "trace",
    "information": "info",
    "warn": "warning",
    "err": "error",
    "severe": "error",
    "fatal": "critical",
    "crit": "critical",
    "panic": "critical",
    "alert": "critical",
    "emerg": "critical",
    "emergency": "critical",
}
# bunyan's and pino's tens, syslog's 0 to 7 (GELF, <N> of systemd), OpenTelemetry's severity numbers.
_TENS = {10: "trace", 20: "debug", 30: "info", 40: "warning", 50: "error", 60: "critical"}
_SYSLOG = {0: "critical", 1: "critical", 2: "critical", 3: "error", 4: "warning", 5: "notice", 6: "info", 7: "debug"}
_OTEL = ((1, "trace"), (5, "debug"), (9, "info"), (13, "warning"), (17, "error"), (21, "critical"))
_KLOG = {"I": "info", "W": "warning", "E": "error", "F": "critical"}

# Of JSON objects: common names, logback's, ECS's, python-json-logger's, Serilog's, OpenTelemetry's.
_KEYS = ("level", "severity", "lvl", "log.level", "levelname", "level_name", "@l", "severityText", "severity_text")
_NUMBER_KEYS = ("severityNumber", "severity_number")
_WORDS = "|".join(sorted(_SYNONYMS, key=len, reverse=True))
_NO_FIRST_WORDS = ("information", "verbose", "alert", "emergency")  # sentences begin with them
_FIRST_WORDS = "|".join(word for word in _WORDS.split("|") if word not in _NO_FIRST_WORDS)

BEGINNING = 300  # characters: a level is looked for no further in text
_LEADING = re.compile(
    r"(?:[\[(]?\d[\d:.,/TZ+ -]*[\])]?\s*)?"  # a time of the service's own
    r"(?:- )?(?:[\w.]{1,60} - )?(?:\[[\w .:/-]{1,60}\] ){0,2}"  # the logger's name, the thread
    rf"[\"\[(<]?({_FIRST_WORDS})\b",
    re.IGNORECASE,
)
_FIELD = re.compile(rf"\b(?:level|severity|lvl)=\"?({_WORDS}|\d{{1,2}})\b", re.IGNORECASE)
_KLOG_LINE = re.compile(r"([IWEF])[01]\d[0-3]\d \d\d:\d\d:\d\d")
_PRIORITY = re.compile(r"<([0-7])>")
_CONTAINER = re.compile(r"\A\[[a-z0-9-]+\] ")  # of several in one instance

_ID = r"[0-9A-Za-z][0-9A-Za-z_-]{7,127}"
_TRACEPARENT = re.compile(r"\b[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}\b")
_NAMED_ID = re.compile(
    rf"\b(?:x[-_])?(?:request|trace|correlation)[-_. ]?id[\"']?\s*[:=]\s*[\"']?({_ID})(?![0-9A-Za-z_-])", re.IGNORECASE
)


def canonical(level: str) -> str:
    """The name among NAMES of a level that somebody asks for; one that is none of them stays as it is."""
    return _named(level) or level.lower()


def level_of(text: str) -> str:
    """A name among NAMES, or empty where the line does not say: of a field of a JSON object, of logfmt, of klog, of
    systemd's <N>, or of a word at the beginning, behind a time, a logger's name or a thread at most."""
    return _level(text) or (_level(text[shown.end() :]) if (shown := _CONTAINER.match(text)) else "")


def _level(text: str) -> str:
    if text.startswith("{"):
        return _of_fields(_json(text))
    start = text[:BEGINNING]
    if match := _KLOG_LINE.match(start):
        return _KLOG[match[1]]
    if match := _PRIORITY.match(start):
        return _SYSLOG[int(match[1])]
    match = _LEADING.match(start) or _FIELD.search(start)
    return _named(match[1]) if match else ""


def _json(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _of_fields(fields: dict[str, Any]) -> str:
    nested = fields.get("log")
    found = [fields.get(key) for key in _KEYS] + [nested.get("level") if isinstance(nested, dict) else None]
    for value in found:
        if isinstance(value, str | int) and (level := _named(str(value))):
            return level
    for key in _NUMBER_KEYS:
        if isinstance(number := fields.get(key), int) and 1 <= number <= 24:
            return [name for least, name in _OTEL if number >= least][-1]
    return ""


def _named(value: str) -> str:
    if value.isascii() and value.isdecimal() and len(value) <= 2:
        return _TENS.get(int(value), "") or _SYSLOG.get(int(value), "")
    return _SYNONYMS.get(value.lower(), "")


def level_pattern(level: str) -> str:
    """A regular expression (RE2's, over bytes) that each line matches of which `level_of` says `level`, and others."""
    words = [word for word, name in _SYNONYMS.items() if name == level]
    numbers = [str(n) for known in (_TENS, _SYSLOG) for n, name in known.items() if name == level]
    least = [n for n, name in _OTEL if name == level]
    numbers += [str(n) for n in range(least[0], least[0] + 4)] if least else []
    parts = [rf"(?i:{'|'.join(words) or level})"]
    if numbers:
        keys = r"level|severity|lvl|level_?name|number|@l|text"
        parts.append(rf"(?i:{keys})\"?\s*[:=]\s*\"?(?:{'|'.join(numbers)})\b")
    parts += [f"<{number}>" for number in numbers if len(number) == 1]
    parts += [rf" {letter}[01]\d" for letter, name in _KLOG.items() if name == level]
    return "|".join(parts)


def request_ids(text: str) -> Iterator[str]:
    """Ids of the request that a line is about: what stands behind request_id, x-request-id, trace_id, correlation_id or
    the like, in JSON or in text, and the trace id of a traceparent (W3C Trace Context)."""
    yield from (match[1] for match in _TRACEPARENT.finditer(text))
    for match in _NAMED_ID.finditer(text):
        yield match[1]
