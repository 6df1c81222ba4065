from __future__ import annotations

import pytest

from santiago_platform.domain.expression import ExpressionError, canonical, check_condition, confined, same, selectors

HERE = {"service": "web", "environment": "production"}
HELD = '{environment="production",service="web"}'


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("up==0", f"up{HELD} == 0"),
        ("sum(rate(x[5m] offset 3m)) > 1", f"sum(rate(x{HELD}[5m] offset 3m)) > 1"),
        ("(a - a offset 15s) or a", f"(a{HELD} - a{HELD} offset 15s) or a{HELD}"),
        ('{__name__=~"x.*"} > 1', '{__name__=~"x.*",environment="production",service="web"} > 1'),
        ('{__name__="x"} > 1', '{__name__="x",environment="production",service="web"} > 1'),
        ('x{service=~".+"} > 1', 'x{environment="production",service="web",service=~".+"} > 1'),
        (
            'x{path="} or {a=\\"b"} > 1',
            'x{environment="production",path="} or {a=\\"b",service="web"} > 1',
        ),
        ("max_over_time(rate(x[1m])[5m:10s]) > 1", f"max_over_time(rate(x{HELD}[1m])[5m:10s]) > 1"),
        ("absent(x)", f"absent(x{HELD})"),
    ],
)
def test_every_selector_of_a_confined_expression_is_held_to_its_labels(expression: str, expected: str) -> None:
    assert confined(expression, HERE) == expected
    assert confined(expected, HERE) == expected


@pytest.mark.parametrize(
    "expression", ['x{service="shop"} > 1', 'x > 1 and on () x{environment="staging"}', 'x{a="1" or b="2"} > 1']
)
def test_what_asks_for_another_services_series_or_offers_alternatives_is_not_confined(expression: str) -> None:
    with pytest.raises(ExpressionError):
        confined(expression, HERE)


@pytest.mark.parametrize(
    "expression",
    [
        "x > 1",
        "x and y > 2",
        "x unless y",
        "x > 1 or y < 2",
        "count(x == 0) > 3",
        "sum(x == 0)",
        "absent(x)",
        "absent_over_time(x[1h])",
        "-(x > 1)",
        "clamp_min(x > 1, 0)",
        "x > scalar(y)",
    ],
)
def test_a_condition_is_there_at_some_times_only(expression: str) -> None:
    check_condition(expression)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("x", "compares nothing"),
        ("x > bool 1", "compares nothing"),
        ("x > 1 or y", "compares nothing"),
        ("rate(x[5m])", "compares nothing"),
        ("x[5m]", "no instant vector"),
        ("scalar(x)", "no instant vector"),
        ('"x"', "no instant vector"),
        ("vector(1) > 0", "reads no series"),
        ("x > 1 and on () vector(1) > 2", "compares constants"),
        ("sum(x", "unclosed left parenthesis"),
        ("rate(x)", "expected type matrix"),
        ("(" * 50 + "x" + ")" * 50, "nested deeper"),
        ("x" * 3000, "more than 2000 characters"),
    ],
)
def test_what_always_holds_or_never_or_is_no_vector_is_no_condition(expression: str, why: str) -> None:
    with pytest.raises(ExpressionError, match=why):
        check_condition(expression)


def test_expressions_that_are_written_differently_and_mean_the_same_are_the_same() -> None:
    assert same("sum  by(a) (\n  x{b='c'})>1", 'sum by (a) (x{b="c"}) > 1')
    assert not same("x > 1", "x > 2")
    assert same("a new  syntax", "a new syntax")


def test_a_long_expression_is_written_in_one_line_and_stays_the_same() -> None:
    long = " + ".join(f'sum by (le) (rate(metric_number_{n}{{path="a ( b  c"}}[5m]))' for n in range(8)) + " > 1"
    written = canonical(long)
    assert "\n" not in written
    assert written.count('path="a ( b  c"') == 8
    assert canonical(written) == written


def test_selectors_are_told_once_with_the_labels_that_they_ask_for() -> None:
    found = selectors('rate(x{code="500",none=""}[5m] offset 1m) / rate(x{code="500",none=""}[5m]) > y')
    assert [(s.name, s.labels, s.text) for s in found] == [
        ("x", ("code",), 'x{code="500",none=""}'),
        ("y", (), "y"),
    ]
