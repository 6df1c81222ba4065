"""What of a draft may be written to the ship's log: without secrets, bounded, and always encodable."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import redact_secret
from pydantic_core import to_json, to_jsonable_python

from ..domain.ship_log import Draft

BODY_LIMIT_BYTES = 64 * 1024
DEPTH_LIMIT = 32
INTEGER_LIMIT_BITS = 1024  # Python refuses to print very long ones
KEYS_LIMIT = 20
SHORT_CHARACTERS = 100
HARMLESS_KEPT = 1000
SHORTEST_SECRET = 8  # the scanner finds nothing in less, and most texts of a body are shorter
REDACTED = "<redacted>"

# Short texts that the scanner found nothing in: bodies repeat the same names, and a scan takes longer than the rest.
_harmless: set[str] = set()

# A key that holds a credential, in any spelling; `token_id`, `secret_sha256` and the like name one without giving it.
_SECRET_KEY = re.compile(
    r"(password|passwd|pwd|passphrase|token|secret|authorization|cookie|credential"
    r"|(api|access|private|secret|signing|encryption)[_\-. ]?key)s?$",
    re.IGNORECASE,
)


def redacted(draft: Draft, hide: Callable[[str], str] = lambda text: text) -> Draft:
    """The draft with every secret in its free texts replaced, and a body above 64 KiB cut down to a marker.

    hide: takes known values out of a text. What names things (subject, action, principal) is none of the free texts.
    """
    body = _hidden(_clean(draft.body, 0), hide)
    size = len(to_json(body))
    if size > BODY_LIMIT_BYTES:
        keys = [key[:SHORT_CHARACTERS] for key in list(body)[:KEYS_LIMIT]]
        body = {"cut": f"the body had {size} bytes, more than {BODY_LIMIT_BYTES}", "keys": keys}
    texts = {name: _encodable(getattr(draft, name)) for name in ("action", "principal", "role", "tenant", "operation")}
    return draft.model_copy(
        update={**texts, "body": body, "subject": _text(draft.subject), "outcome": _text(draft.outcome)}
    )


def _hidden(value: Any, hide: Callable[[str], str]) -> Any:
    """value: of plain dicts, lists and scalars."""
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, dict):
        return {key: _hidden(item, hide) for key, item in value.items()}
    return [_hidden(item, hide) for item in value] if isinstance(value, list) else value


def redacted_text(text: str) -> str:
    """Text with every secret in it replaced; what holds a lone surrogate is made encodable."""
    return _text(text)


def _encodable(text: str) -> str:
    # A lone surrogate cannot be encoded, and whoever sends one must not thereby stay out of the log.
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _text(text: str) -> str:
    text = _encodable(text)
    if len(text) < SHORTEST_SECRET or text in _harmless:
        return text
    clean = redact_secret.scan_and_redact(text, policy=_redact_all).text
    if clean == text and len(text) <= SHORT_CHARACTERS:
        if len(_harmless) >= HARMLESS_KEPT:
            _harmless.clear()
        _harmless.add(text)
    return clean


def _redact_all(finding: redact_secret.DetectedFinding, context: redact_secret.PolicyContext) -> str:
    return "redact"


def _clean(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= INTEGER_LIMIT_BITS else f"<integer of {value.bit_length()} bits>"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth >= DEPTH_LIMIT:
        return f"<nested deeper than {DEPTH_LIMIT} levels>"
    if isinstance(value, Mapping):
        return {_text(str(key)): _clean_item(str(key), item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item, depth + 1) for item in value]
    return _clean(to_jsonable_python(value, bytes_mode="base64", fallback=repr), depth + 1)


def _clean_item(key: str, item: Any, depth: int) -> Any:
    given = bool(item) and not isinstance(item, int | float)  # `max_tokens: 100` gives none away
    return REDACTED if given and _names_secret(key[-SHORT_CHARACTERS:]) else _clean(item, depth)


@lru_cache(maxsize=1000)
def _names_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None
