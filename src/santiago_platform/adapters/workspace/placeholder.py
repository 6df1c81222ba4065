"""Placeholders in Score texts: `${metadata.name}`, `${resources.NAME.OUTPUT}`; `$$` is a dollar sign.

Source of the grammar: score-spec/score-go, framework/substitution.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_TOKEN = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<reference>[^}]*)\}|(?P<open>\{))")


class PlaceholderError(ValueError):
    """What is wrong with a placeholder, and what to write instead."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint


def expand(text: str, lookup: Callable[[tuple[str, ...]], str]) -> str:
    """`text` with each `${a.b.c}` replaced by `lookup(("a", "b", "c"))` and each `$$` by `$`, in one pass.

    A dot within a part is written `\\.`. What a lookup returns is not expanded again.
    Raises PlaceholderError for an unclosed placeholder, and what `lookup` raises.
    """

    def replace(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        if match["open"]:
            raise PlaceholderError("`${` is not closed", "close it with `}`, or write `$${` for the text itself")
        return lookup(_parts(match["reference"]))

    return _TOKEN.sub(replace, text)


def escape(text: str) -> str:
    """A text that expands to `text`."""
    return text.replace("$", "$$")


def _parts(reference: str) -> tuple[str, ...]:
    return tuple(part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", reference))
