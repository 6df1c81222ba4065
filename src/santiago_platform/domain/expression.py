"""PromQL as far as rules are checked by it: its one way of writing, what it reads, whether it is a condition. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import promql_parser
from promql_parser import MatchOp, VectorSelector

from .value import Value

LONGEST_CHARACTERS = 2000
DEEPEST_PARENTHESES = 40
_MATCHERS = re.compile(r'[^{"]*\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\}')
_NAMED = re.compile(r'__name__="([a-zA-Z_:][a-zA-Z0-9_:]*)"')
COMPARISONS = frozenset({"==", "!=", ">", "<", ">=", "<="})


class Selector(Value):
    """Series that an expression reads. name: of the metric, empty where the matchers say it. text: as it is written,
    without offset. sample: labels of a series that it reads, as far as that can be told."""

    name: str
    labels: tuple[str, ...]
    text: str
    sample: dict[str, str] = {}


class ExpressionError(ValueError):
    """What is wrong with an expression, in the parser's words or ours."""


def canonical(expression: str) -> str:
    """In one line, as Prometheus writes it too; two expressions that are written alike mean the same.

    Raises ExpressionError for what does not parse, or whose types do not fit.
    """
    return _written(_parsed(expression))


def same(one: str, other: str) -> bool:
    """Whether both are written alike. What this parser does not know is compared as text."""
    try:
        return canonical(one) == canonical(other)
    except ExpressionError:
        return one.split() == other.split()


def selectors(expression: str) -> tuple[Selector, ...]:
    """What it reads, each once. Raises ExpressionError."""
    found: dict[str, Selector] = {}

    def visit(node: Any) -> None:
        if isinstance(node, VectorSelector):
            text = _head(node)
            labels = tuple(m.name for m in node.matchers.matchers if m.name != "__name__" and m.value)
            sample = {
                m.name: value
                for m in node.matchers.matchers
                if m.name != "__name__" and (value := _sample(m)) is not None
            }
            named = _NAMED.search(text)
            name = node.name or (named[1] if named else "")
            found.setdefault(text, Selector(name=name, labels=labels, text=text, sample=sample))

    promql_parser.walk(_parsed(expression), pre_visit=visit)
    return tuple(found.values())


def numbers(expression: str) -> tuple[float, ...]:
    """Those that are written in it, each once. Raises ExpressionError."""
    return tuple(dict.fromkeys(float(node.val) for node in _nodes(_parsed(expression), promql_parser.NumberLiteral)))


def longest_seconds(expression: str) -> float:
    """How far back it looks at most, ranges, subqueries and offsets together. Raises ExpressionError."""
    parsed = _parsed(expression)
    spans = [
        node.range
        for kind in (promql_parser.MatrixSelector, promql_parser.SubqueryExpr)
        for node in _nodes(parsed, kind)
    ]
    spans += [node.offset for kind in (VectorSelector, promql_parser.SubqueryExpr) for node in _nodes(parsed, kind)]
    return float(sum(span.total_seconds() for span in spans if span is not None and span.total_seconds() > 0))


def confined(expression: str, labels: Mapping[str, str]) -> str:
    """The expression with every selector held to `labels` as well: it cannot read any other series.

    Raises ExpressionError where a selector asks for another value of one of them, or offers an alternative.
    """

    def visit(node: Any) -> Any:
        return _held(node, labels) if isinstance(node, VectorSelector) else None

    held = promql_parser.transform(_parsed(expression), pre_visit=visit)
    text = _written(held)
    for selector in _nodes(_parsed(text), VectorSelector):  # what was written is what will be read
        found = {m.name: m.value for m in selector.matchers.matchers if m.op == MatchOp.Equal}
        if selector.matchers.or_matchers or any(found.get(name) != value for name, value in labels.items()):
            raise ExpressionError(f"{selector.prettify()} cannot be confined to {dict(labels)}")
    return text


def check_condition(expression: str) -> None:
    """Raises ExpressionError unless it is an instant vector that is there at some times, and not at others."""
    parsed = _parsed(expression)
    if not _is_vector(parsed):
        raise ExpressionError("it gives no instant vector: an alert fires for each series that its expression gives")
    if not _nodes(parsed, VectorSelector):
        raise ExpressionError("it reads no series: it always holds, or never")
    for node in _nodes(parsed, promql_parser.BinaryExpr):
        if str(node.op) in COMPARISONS and not _nodes(node, VectorSelector):
            raise ExpressionError(f"{_written(node)} compares constants: it always holds, or never")
    if not _is_condition(parsed):
        raise ExpressionError("it compares nothing, so that it would fire whatever the value is: compare it, as `> 0`")


def _parsed(expression: str) -> Any:
    if len(expression) > LONGEST_CHARACTERS:
        raise ExpressionError(f"it has more than {LONGEST_CHARACTERS} characters")
    depth = deepest = 0
    for character in expression:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    if deepest > DEEPEST_PARENTHESES:
        raise ExpressionError(f"its parentheses are nested deeper than {DEEPEST_PARENTHESES}")
    try:
        return promql_parser.parse(expression)
    except ValueError as exc:
        raise ExpressionError(str(exc)[:300]) from exc


def _written(node: Any) -> str:
    """A newline within a label's value is written `\\n`: the others are the parser's own."""
    text = re.sub(r"\(\s*\n\s*", "(", node.prettify().strip())
    return re.sub(r"\s*\n\s*", " ", re.sub(r"\s*\n\s*\)", ")", text))


def _nodes(node: Any, kind: type) -> list[Any]:
    found: list[Any] = []

    def visit(each: Any) -> None:
        if isinstance(each, kind):
            found.append(each)

    promql_parser.walk(node, pre_visit=visit)
    return found


def _head(node: VectorSelector) -> str:
    """The selector without offset and `@`, which come after its matchers."""
    text = node.prettify()
    found = _MATCHERS.match(text)
    return found[0] if found else node.name or text


def _held(node: VectorSelector, labels: Mapping[str, str]) -> Any:
    if node.matchers.or_matchers:
        raise ExpressionError(f"{node.prettify()} offers alternatives: write a selector for each")
    given = {m.name: m.value for m in node.matchers.matchers if m.op == MatchOp.Equal}
    for name, value in labels.items():
        if given.get(name, value) != value:
            raise ExpressionError(f'{node.prettify()} reads {name}="{given[name]}", and the alert is of {name} {value}')
    missing = ",".join(f'{name}="{value}"' for name, value in labels.items() if name not in given)
    if not missing:
        return None
    text = node.prettify()
    if _MATCHERS.match(text):  # the first brace opens them: no metric's name has one
        return promql_parser.parse(text.replace("{", "{" + missing + ",", 1))
    name = node.name or ""
    return promql_parser.parse(f"{name}{{{missing}}}{text.removeprefix(name)}")


def _sample(matcher: Any) -> str | None:
    """A value that it takes: of a pattern its first alternative, where that is plain."""
    if matcher.op == MatchOp.Equal:
        return str(matcher.value) or None
    if matcher.op == MatchOp.Re:
        first = str(matcher.value).strip("()").split("|")[0].replace(".*", "x").replace(".+", "x")
        return first if first and re.escape(first).replace("\\", "") == first else None
    return None


def _is_vector(node: Any) -> bool:
    match node:
        case promql_parser.VectorSelector() | promql_parser.AggregateExpr():
            return True
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            return _is_vector(node.expr)
        case promql_parser.BinaryExpr():
            return _is_vector(node.lhs) or _is_vector(node.rhs)
        case promql_parser.Call():
            return bool(node.func.return_type == promql_parser.ValueType.Vector)
    return False


def _is_condition(node: Any) -> bool:
    """Whether it may give nothing although the series that it reads are there."""
    match node:
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.AggregateExpr():
            return _is_condition(node.expr)
        case promql_parser.BinaryExpr():
            op, sides = str(node.op), (node.lhs, node.rhs)
            if op in COMPARISONS:
                return not (node.modifier is not None and node.modifier.return_bool)
            if op == "unless":
                return True
            return all(map(_is_condition, sides)) if op == "or" else any(map(_is_condition, sides))
        case promql_parser.Call():
            name = node.func.name
            return name in ("absent", "absent_over_time") or any(_is_condition(argument) for argument in node.args)
    return False
