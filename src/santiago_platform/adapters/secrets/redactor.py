"""Takes known values out of texts that people and agents read."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

SHORTEST = 6  # what is shorter is part of too many words
SHORTEST_LINE = 12
HIDDEN = "<redacted>"


class Redactor:
    """Of some values: as they are, and as JSON, URLs and base64 write them; of several lines, each long one too."""

    def __init__(self, values: Iterable[str]) -> None:
        found = {form for value in values for form in _forms(value)}
        longest_first = sorted(found, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if found else None

    def hide(self, text: str) -> str:
        return self._pattern.sub(HIDDEN, text) if self._pattern else text


def _forms(value: str) -> Iterator[str]:
    lines = [line for line in value.splitlines() if len(line) >= SHORTEST_LINE]
    for part in {value, value.strip(), *lines}:
        if len(part) >= SHORTEST:
            yield from (part, json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1], quote(part, safe=""))
            yield base64.b64encode(part.encode()).decode().rstrip("=")
