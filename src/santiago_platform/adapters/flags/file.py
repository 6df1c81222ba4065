"""flags.json: read whole or refused with the line, and edited in place: only what a change is about is written anew."""

from __future__ import annotations

import json
import re
from typing import Any

from ...domain.flag import FlagEntry, FlagError, FlagFile, check_file
from ..workspace.json_document import JsonDocument, parse
from ..workspace.yaml_document import Path, validate

FLAGS_FILE = "flags.json"
EMPTY = '{\n  "$schema": "https://flagd.dev/schema/v0/flags.json",\n  "flags": {}\n}\n'
HINT = "docs/guides/flags.md has the form; flags go on as they were until it is mended"


def parse_flags(text: str, where: str = FLAGS_FILE) -> FlagFile:
    """Raises PlatformError(INVALID_ARGUMENT), beginning `WHERE:LINE: `, for what cannot be evaluated."""
    document = parse(text, where)
    file = validate(document, FlagFile)
    _check(file, document)
    return file


def _check(file: FlagFile, document: JsonDocument) -> None:
    try:
        check_file(file)
    except FlagError as exc:
        raise document.error(exc.path, f"{'.'.join(map(str, exc.path))}: {exc}", HINT) from exc


def with_entry(text: str, key: str, entry: FlagEntry) -> str:
    """`text` with another entry for the flag `key`, everything else byte for byte the same.

    Raises PlatformError(INVALID_ARGUMENT) where `text`, or what it would become, cannot be evaluated.
    """
    before = parse_flags(text)
    wanted = before.with_entry(key, entry)
    edited = _with_member(text, ("flags",), key, entry.flag.written() if entry.flag else None)
    for environment in {*before.environments, *entry.environments}:
        override = entry.environments.get(environment)
        path: Path = ("environments", environment)
        if override is not None or key in before.environments.get(environment, {}):
            edited = _with_member(edited, path, key, override.written() if override else None)
    assert parse_flags(edited) == wanted  # noqa: S101 - else the edit itself is wrong, and nothing is written
    return edited


def _with_member(text: str, path: Path, key: str, value: Any) -> str:
    """With `value` as member `key` of the object at `path`, which is made where it is missing; None removes it."""
    document = parse(text, FLAGS_FILE)
    if path not in document.spans:
        return text if value is None else _with_member(text, path[:-1], str(path[-1]), {key: value})
    start, end = document.spans[path]
    places = [document.spans[*path, name] for name in _at(document.value, path)]
    names = list(_at(document.value, path))
    if value is None:
        return text if key not in names else _without(text, start, end, places, names.index(key))
    written = _written(value, text, len(path) + 1)
    if key in names:
        start, end = document.spans[*path, key]
        return text[:start] + written + text[end:]
    lead, close = _breaks(text, len(path))
    member = f"{json.dumps(key, ensure_ascii=False)}: {written}"
    if not places:
        return f"{text[:start]}{{{lead}{member}{close}}}{text[end:]}"
    last = places[-1][1]
    return f"{text[:last]},{lead or ' '}{member}{text[last:]}"


def _at(value: Any, path: Path) -> Any:
    for part in path:
        value = value[part]
    return value


def _without(text: str, start: int, end: int, places: list[tuple[int, int]], index: int) -> str:
    if len(places) == 1:
        return f"{text[:start]}{{}}{text[end:]}"
    if index == 0:  # with the comma behind it, up to the space before the next one
        return text[: start + 1] + text[text.index(",", places[0][1]) + 1 :]
    return text[: places[index - 1][1]] + text[places[index][1] :]


def _unit(text: str) -> str:
    """What one level is indented by; empty for a file in one line."""
    found = re.search(r"^([ \t]+)\S", text, re.MULTILINE)
    return found[1] if found else "  " if text.strip().count("\n") else ""


def _breaks(text: str, depth: int) -> tuple[str, str]:
    """What comes before a member of an object at `depth`, and before its closing brace."""
    unit = _unit(text)
    return (f"\n{unit * (depth + 1)}", f"\n{unit * depth}") if unit else ("", "")


def _written(value: Any, text: str, depth: int) -> str:
    """Objects over lines, lists in one line each where they fit."""
    unit = _unit(text)
    if not unit:
        return json.dumps(value, ensure_ascii=False)
    return _pretty(value, unit, depth)


def _pretty(value: Any, unit: str, depth: int) -> str:
    short = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list)) or not value or len(short) <= (80 if isinstance(value, dict) else 240):
        return short
    inner = f"\n{unit * (depth + 1)}"
    if isinstance(value, dict):
        parts = [f"{json.dumps(k, ensure_ascii=False)}: {_pretty(v, unit, depth + 1)}" for k, v in value.items()]
    else:
        parts = [_pretty(item, unit, depth + 1) for item in value]
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    return f"{opening}{inner}{f',{inner}'.join(parts)}\n{unit * depth}{closing}"
