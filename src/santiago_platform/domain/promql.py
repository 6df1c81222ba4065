"""As much of PromQL as writing rules of counters needs: selectors, and series that they match."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .value import Value

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_TEXT = r'"(?:[^"\\\n]|\\.)*"' + r"|'(?:[^'\\\n]|\\.)*'"
_MATCHER = re.compile(rf"\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*({_TEXT})\s*(?:,|$)")
_SELECTOR = re.compile(rf"\s*({_NAME})\s*(?:\{{((?:[^{{}}\"']|{_TEXT})*)\}})?\s*", re.DOTALL)
_SUM = re.compile(
    r"\s*sum\s*(?:(?:by|without)\s*\([^()]*\))?\s*\((.*)\)\s*(?:(?:by|without)\s*\([^()]*\))?\s*", re.DOTALL
)
_UNESCAPED = {"n": "\n", "t": "\t"}


class Matcher(Value):
    label: str
    operator: str
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """A label that is not there is empty. A pattern that Python does not read matches nothing."""
        has = labels.get(self.label, "")
        if self.operator in ("=", "!="):
            return (has == self.value) is (self.operator == "=")
        try:
            return (re.fullmatch(self.value, has) is not None) is (self.operator == "=~")
        except re.error:
            return False

    @property
    def example(self) -> str | None:
        """A value that matches; None where none was found."""
        if self.operator == "=":
            return self.value
        if self.operator in ("!=", "!~"):
            return next((text for text in ("", "other") if self.matches({self.label: text})), None)
        return next((text for text in _spelled(self.value) if self.matches({self.label: text})), None)

    @property
    def counterexample(self) -> str | None:
        """A value that does not match; None where none was found."""
        opposite = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}[self.operator]
        return self.model_copy(update={"operator": opposite}).example


class Selector(Value):
    """An instant vector selector: a metric's name and matchers."""

    metric: str
    matchers: tuple[Matcher, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(matcher.matches(labels) for matcher in self.matchers)

    def example(self) -> dict[str, str] | None:
        """Labels of a series that it matches; None where none was found."""
        labels = {matcher.label: example for matcher in self.matchers if (example := matcher.example)}
        return labels if self.matches(labels) else None


def selector(expression: str) -> Selector | None:
    """None for what is no plain selector: an offset, a range, an operator or a function."""
    found = _SELECTOR.fullmatch(expression)
    if found is None:
        return None
    inside, matchers, at = (found[2] or "").strip(), [], 0
    while at < len(inside):
        matcher = _MATCHER.match(inside, at)
        if matcher is None:
            return None
        matchers.append(Matcher(label=matcher[1], operator=matcher[2], value=_unquoted(matcher[3])))
        at = matcher.end()
    return Selector(metric=found[1], matchers=tuple(matchers))


def summed(expression: str) -> str:
    """The selector inside `sum(...)`; the expression itself where it is no such sum."""
    found = _SUM.fullmatch(expression)
    return found[1].strip() if found is not None and selector(found[1]) is not None else expression.strip()


def series(metric: str, labels: Mapping[str, str]) -> str:
    """As promtool reads it."""
    return metric + "{" + ",".join(f"{name}={quoted(value)}" for name, value in sorted(labels.items())) + "}"


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def duration(seconds: float) -> str:
    """In the largest whole unit: `90s`, `5m`, `28d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{round(seconds / size)}{unit}"
    return f"{seconds:g}s"


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _UNESCAPED.get(found[1], found[1]), text[1:-1])


def _spelled(pattern: str) -> list[str]:
    """Texts that a simple pattern may match."""
    first = re.sub(r"[()^$]", "", re.sub(r"\([^()]*\)\?", "", pattern)).split("|")[0]
    spelled = re.sub(r"\[([^\]^])[^\]]*\][+*]?|\\d[+*]?|\.[+*]?", lambda found: found[1] or "0", first)
    return [spelled.replace("\\", ""), first, "0", "x", ""]
