"""What an Envoy's routes do to requests, read from its `config_dump`. It shares no code with what writes them.

The routes of a host are walked in order, as Envoy does, for requests of a safe method and of another one, from clients
with the cookie of a sticky route and without. What differs between them where it should not is told apart by ` | `.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...domain.effect import RETRIES_STAY, match_text, mirror_text, weights_text

_KINDS = {"headers": "header", "cookies": "cookie", "query_parameters": "query"}
_MILLION = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}
_SAMPLES = {"safe": {":method": "GET"}, "other": {":method": "POST", "content-length": "2"}}
_NEWCOMER = {"x-request-id": "00000000-0000-4000-8000-000000000000"}


def weights(dump: Mapping[str, Any], host: str) -> str:
    """Canonical weights of a host name, for requests that no match takes."""
    found = {_shares(route) for route in _routes(dump, host) if not _conditions(route)}
    return " | ".join(sorted(found)) or "none"


def rules(dump: Mapping[str, Any], host: str, cookie: str) -> str:
    """Canonical text of what is done besides. cookie: of a sticky route."""
    routes = _routes(dump, host)
    safe, other = (_matches(routes, headers) for headers in _SAMPLES.values())
    found = safe if safe == other else [" | ".join(("; ".join(safe) or "none", "; ".join(other) or "none"))]
    taken = {
        kind: [_first(routes, headers, cookies) for cookies in ({}, {cookie: "1"})]
        for kind, headers in _SAMPLES.items()
    }
    sticky = {_sticky(first, second, cookie) for first, second in taken.values()}
    copies = {kind: {_copies(route) for route in both} for kind, both in taken.items()}
    stay = _differing({_retries(route) for route in routes if _versions(route)} or {""})
    return "; ".join([*found, *_differing(sticky), *stay, *_mirror(copies["safe"], copies["other"])]) or "none"


def _routes(dump: Mapping[str, Any], host: str) -> list[dict[str, Any]]:
    for config in dump.get("configs", ()):
        for virtual in config.get("route_config", {}).get("virtual_hosts", ()):
            if host in virtual["domains"]:
                return list(virtual.get("routes", ()))
    return []


def _shares(route: Mapping[str, Any]) -> str:
    return weights_text(_versions(route))


def _versions(route: Mapping[str, Any]) -> dict[str, int]:
    """Clusters are named SERVICE__ENVIRONMENT__VERSION__DIGEST."""
    shares: dict[str, int] = {}
    for cluster in route.get("route", {}).get("weighted_clusters", {}).get("clusters", ()):
        version = cluster["name"].split("__")[2]
        shares[version] = shares.get(version, 0) + int(cluster.get("weight", 0))
    return shares


def _conditions(route: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """What a request must have to be matched, by kind: (name, value). What proxies ask for themselves is no value."""
    found: dict[str, list[tuple[str, str]]] = {}
    for field, kind in _KINDS.items():
        for asked in route.get("match", {}).get(field, ()):
            value = asked.get("string_match", {}).get("exact")
            if value is not None:
                found.setdefault(kind, []).append((asked["name"], value))
    return found


def _matches(routes: list[dict[str, Any]], headers: Mapping[str, str]) -> list[str]:
    """Those that come before a route without conditions, which takes all that is left."""
    found = []
    for route in routes:
        conditions = _conditions(route)
        own = {name for name, _ in conditions.get("header", ())}
        asked = [h for h in route["match"].get("headers", ()) if h["name"] not in own]
        if not all(_holds(h, headers.get(h["name"])) for h in asked):
            continue
        if not conditions:
            if not route["match"].get("cookies"):
                break
            continue
        (version, *more) = _versions(route) or {"nobody": 0}
        several = any(len(each) > 1 for each in conditions.values())
        text = match_text(version, **{kind: each[0] for kind, each in conditions.items()})
        text += " and more" if more or several else ""
        if text not in found:  # a route for every method follows the one for safe methods
            found.append(text)
    return found


def _first(routes: list[dict[str, Any]], headers: Mapping[str, str], cookies: Mapping[str, str]) -> dict[str, Any]:
    """The route that takes a request which meets no condition of a match."""
    has = {**_NEWCOMER, **headers}
    for route in routes:
        asked = route["match"]
        if (
            not _conditions(route)
            and all(_holds(h, has.get(h["name"])) for h in asked.get("headers", ()))
            and all(_holds(c, cookies.get(c["name"])) for c in asked.get("cookies", ()))
        ):
            return route
    return {}


def _holds(asked: Mapping[str, Any], value: str | None) -> bool:
    """Whether a header or a cookie is as asked for."""
    if value is None and asked.get("treat_missing_header_as_empty"):
        value = ""
    text = asked.get("string_match", {})
    if "present_match" in asked:
        holds = value is not None
    elif value is None:
        holds = False
    elif "range_match" in asked:
        span = asked["range_match"]
        holds = value.isdecimal() and int(span.get("start", 0)) <= int(value) < int(span["end"])
    elif "safe_regex" in text:
        holds = re.fullmatch(text["safe_regex"]["regex"], value) is not None
    elif "prefix" in text:
        holds = value.startswith(text["prefix"])
    else:
        holds = value == text.get("exact")
    return holds is not bool(asked.get("invert_match"))


def _sticky(newcomer: Mapping[str, Any], known: Mapping[str, Any], cookie: str) -> str:
    hashed = [_hashes(route, cookie) for route in (newcomer, known)]
    given = [_gives(route, cookie) for route in (newcomer, known)]
    if not any(hashed) and not any(given):
        return ""
    return "sticky" if all(hashed) and given == [True, False] else "sticky in part"


def _hashes(route: Mapping[str, Any], cookie: str) -> bool:
    """By the cookie alone where there is one."""
    action = route.get("route", {})
    first: dict[str, Any] = next(iter(action.get("hash_policy", ())), {})
    by_cookie = first.get("cookie", {}).get("name") == cookie and bool(first.get("terminal"))
    return by_cookie and bool(action["weighted_clusters"].get("use_hash_policy"))


def _gives(route: Mapping[str, Any], cookie: str) -> bool:
    headers = [each["header"] for each in route.get("response_headers_to_add", ())]
    return any(h["key"] == "set-cookie" and h["value"].startswith(f"{cookie}=") for h in headers)


def _retries(route: Mapping[str, Any]) -> str:
    elsewhere = route["route"].get("retry_policy", {}).get("refresh_cluster_on_retry")
    return "" if elsewhere else RETRIES_STAY


def _copies(route: Mapping[str, Any]) -> tuple[str, float] | None:
    """(version, percent); several are more than anybody asked for."""
    policies = route.get("route", {}).get("request_mirror_policies", ())
    if not policies:
        return None
    share = policies[0].get("runtime_fraction", {}).get("default_value", {"numerator": 100})
    percent = 100 * int(share.get("numerator", 0)) / _MILLION[share.get("denominator", "HUNDRED")]
    return "+".join(p["cluster"].split("__")[2] for p in policies), percent


def _mirror(safe: set[tuple[str, float] | None], other: set[tuple[str, float] | None]) -> list[str]:
    if safe == other == {None}:
        return []
    if len(safe) == 1 and (other in (safe, {None})):
        ((version, percent),) = [each for each in safe if each]
        return [mirror_text(version, percent, all_methods=other == safe)]
    return [f"copies that differ: {safe} | {other}"]


def _differing(found: set[str]) -> list[str]:
    return [" | ".join(sorted(each or "none" for each in found))] if found != {""} else []
