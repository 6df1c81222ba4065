"""Quantities as people write them: "128Mi" of memory, "500m" of a core."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import StringConstraints

_SUFFIXES: dict[str, int] = {"": 1} | {
    unit + suffix: int(base**power)
    for power, unit in enumerate("KMGTPE", start=1)
    for suffix, base in (("", 1000), ("i", 1024))
}
_BINARY = [suffix for suffix in reversed(_SUFFIXES) if suffix.endswith("i")]
_DECIMAL = [suffix for suffix in reversed(_SUFFIXES) if not suffix.endswith("i")]

# Bytes, with an optional suffix; as in Score.
ByteQuantity = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,18}(\.[0-9]{1,18})?([KMGTPE]i?)?$")]


def memory_bytes(quantity: str) -> int:
    """Bytes of a memory quantity: "128Mi" is 134217728, "1.5G" is 1500000000; a part of a byte is cut off."""
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", quantity)
    if match is None or match[2] not in _SUFFIXES:
        raise ValueError(f"{quantity!r} is not a quantity")
    whole, _, fraction = match[1].partition(".")
    # In integers: a float has too few digits for an exabyte.
    return int(int(whole + fraction) * _SUFFIXES[match[2]] // 10 ** len(fraction))


def memory_text(count: int) -> str:
    """Bytes as people write a limit: 134217728 is "128Mi", 1500000000 is "1500M"; exact."""
    for suffix in (*_BINARY, *_DECIMAL):
        if count and count % _SUFFIXES[suffix] == 0:
            return f"{count // _SUFFIXES[suffix]}{suffix}"
    return str(count)


def memory_rounded(count: int) -> str:
    """Bytes for people who compare: 13002342 is "12.4Mi"."""
    for suffix in _BINARY:
        if count >= _SUFFIXES[suffix]:
            return f"{count / _SUFFIXES[suffix]:.1f}".removesuffix(".0") + suffix
    return str(count)


def cpu_cores(quantity: str) -> float:
    """Cores of a CPU quantity: "500m" and "0.5" are 0.5."""
    return int(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)
