from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from santiago_platform.domain.route import MATCHES_AT_MOST, Backend, Match, Mirror, Route

ONE = Backend(version="v1", endpoints=(), weight=1)


def route(**more: Any) -> Route:
    return Route(service="web", environment="production", hostnames=("h",), backends=(ONE,), **more)


@pytest.mark.parametrize(
    "condition",
    [
        {"header": ("x-canary", "always")},
        {"header": ("X-Canary", "*.+$ (a|b) \"quoted\"; c='d'")},
        {"cookie": ("beta", "1")},
        {"cookie": ("beta", "eyJhIjoxfQ==.a-b_c")},
        {"query": ("beta", "1.0_a~b-c")},
        {"header": ("a", "1"), "cookie": ("b", "2"), "query": ("c", "3")},
    ],
)
def test_a_match_takes_values_as_they_are(condition: dict[str, Any]) -> None:
    match = Match(version="v1", **condition)
    assert Match.model_validate_json(match.stored()) == match


@pytest.mark.parametrize(
    "condition",
    [
        {},
        {"header": (":method", "GET")},
        {"header": ("x canary", "1")},
        {"header": ("x-canary", "")},
        {"header": ("x-canary", " 1")},
        {"header": ("x-canary", "1\n")},
        {"header": ("x-canary", "1\r\nset-cookie: a=b")},
        {"header": ("x-canary", "\x00")},
        {"header": ("x-canary", "é")},
        {"header": ("x-canary", "a" * 257)},
        {"header": ("x" * 65, "a")},
        {"cookie": ("a=b", "1")},
        {"cookie": ("a", "1; b=2")},
        {"cookie": ("a", "1,2")},
        {"cookie": ("a", '"1"')},
        {"query": ("a", "1&b=2")},
        {"query": ("a", "%31")},
        {"query": ("a b", "1")},
    ],
)
def test_a_match_refuses_what_no_request_can_carry(condition: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Match(version="v1", **condition)


def test_the_name_of_a_header_has_no_case() -> None:
    assert Match(version="v1", header=("X-Canary", "A")).header == ("x-canary", "A")


@pytest.mark.parametrize("percent", [0, -1, 100.1, float("nan"), float("inf")])
def test_a_mirror_takes_some_requests_and_at_most_all(percent: float) -> None:
    with pytest.raises(ValidationError):
        Mirror(version="v1", percent=percent)


def test_a_match_and_the_mirror_name_backends_of_the_route() -> None:
    for more in ({"matches": (Match(version="v2", header=("a", "b")),)}, {"mirror": Mirror(version="v2", percent=1)}):
        with pytest.raises(ValidationError, match="v2, which is no backend"):
            route(**more)
    assert route(mirror=Mirror(version="v1", percent=1)).mirror


def test_matches_are_bounded() -> None:
    match = Match(version="v1", header=("a", "b"))
    assert len(route(matches=(match,) * MATCHES_AT_MOST).matches) == MATCHES_AT_MOST
    with pytest.raises(ValidationError):
        route(matches=(match,) * (MATCHES_AT_MOST + 1))


def test_a_route_that_uses_none_of_it_is_stored_as_it_was_before_there_was_any() -> None:
    assert route().model_dump_json(exclude_defaults=True) == (
        '{"service":"web","environment":"production","hostnames":["h"],'
        '"backends":[{"version":"v1","endpoints":[],"weight":1}]}'
    )
