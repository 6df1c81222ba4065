"""Routes as the Envoys read them: pure functions, no files.

A request meets the routes of its virtual host in order, and the first one that fits takes it: matches, then clients
that have no cookie yet where the route is sticky, then the weights. Each of these comes twice, since safe methods are
retried more often.

Source of the format: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/api
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...domain.route import Match, Mirror, Route, sticky_cookie
from ...domain.value import Value
from .envoy_config import Cluster, Json, Key

ROUTES = "main"  # the name of the one route configuration
VERSION_HEADER = "x-santiago-version"  # in every response: the version that answered, `none` where none did
MIRROR_HEADER = "x-santiago-mirror"  # in every copy of a request, so that a service can tell it from a real one
METADATA = "santiago"  # of a route: its service and environment, for the access log
# Shares of a sticky route have always this sum: a hash modulo another one would send everybody somewhere else.
STICKY_TOTAL = 10_000_000

# Safe methods alone: PUT and DELETE are idempotent by RFC 9110, but not in every service.
_RETRIED_METHODS = "GET|HEAD|OPTIONS"
_RETRY_ALWAYS = "connect-failure,refused-stream"  # the request never reached the service
_RETRY_SAFE = f"{_RETRY_ALWAYS},reset"

_SAFE: Json = {"name": ":method", "string_match": {"safe_regex": {"regex": _RETRIED_METHODS}}}
# Of what is copied. A copy that nobody reads holds up its request once it is larger than what Envoy keeps of it.
_COPY_BYTES = 256 << 10
_NO_UPGRADE: Json = {"name": "upgrade", "present_match": True, "invert_match": True}
_SMALL: Json = {"name": "content-length", "range_match": {"start": 0, "end": _COPY_BYTES}}
_NOT_LARGE: Json = {
    "name": "content-length",
    "range_match": {"start": _COPY_BYTES, "end": (1 << 63) - 1},
    "invert_match": True,
    "treat_missing_header_as_empty": True,
}
_GRPC: Json = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}  # never says its length
# An id of another form comes from the client, and could not be a cookie's value.
_FIT_FOR_COOKIE: Json = {"name": "x-request-id", "string_match": {"safe_regex": {"regex": "[0-9a-zA-Z-]+"}}}
Share = tuple[str, str, int]


class VirtualHost(Value):
    """A route as the Envoys have it. shares: (version, cluster name, weight), in a fixed order.

    matches, mirror: each with the name of its cluster.
    """

    service: str
    environment: str
    hostnames: tuple[str, ...]
    shares: tuple[tuple[str, str, int], ...]
    matches: tuple[tuple[Match, str], ...] = ()
    sticky: bool = False
    mirror: tuple[Mirror, str] | None = None
    retries_elsewhere: bool = True

    @classmethod
    def of(cls, route: Route) -> VirtualHost:
        weighted = sorted((b for b in route.backends if b.weight > 0), key=lambda b: b.version)
        own = {b.version: Cluster.of(route, b).name for b in route.backends}
        copied = {c.version: c.name for c in Cluster.all_of(route) if c.mirrored}
        return cls(
            service=route.service,
            environment=route.environment,
            hostnames=route.hostnames,
            shares=tuple((b.version, own[b.version], b.weight) for b in weighted),
            matches=tuple((m, own[m.version]) for m in route.matches),
            sticky=route.sticky,
            mirror=(route.mirror, copied[route.mirror.version]) if route.mirror else None,
            retries_elsewhere=route.retries_elsewhere,
        )

    @property
    def clusters(self) -> frozenset[str]:
        """The names of those that requests go to."""
        mirrored = {self.mirror[1]} if self.mirror else set()
        return frozenset({c for _, c, _ in self.shares} | {c for _, c in self.matches} | mirrored)

    @property
    def weights(self) -> dict[str, int]:
        return {version: weight for version, _, weight in self.shares}


def routes(published: Iterable[VirtualHost], ports: Mapping[Key, int]) -> Json:
    """rds.json: one virtual host a service and environment, and an answer that helps for every other host name.

    ports: those of 127.0.0.1 that lead to one service each; it may not be deployed yet.
    """
    found = {(host.service, host.environment): host for host in published}
    hosts = []
    for key in sorted({*found, *ports}):
        host = found.get(key) or VirtualHost(service=key[0], environment=key[1], hostnames=(), shares=())
        hosts.append(_virtual_host(host, ports.get(key), known=key in found))
    unknown = (
        "No service has this host name. Say which one you mean in the Host header, as NAME.ENVIRONMENT.localhost:\n"
        "  curl -H 'Host: web.production.localhost' http://127.0.0.1:PORT/\n"
    )
    return {
        "resources": [
            {
                "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
                "name": ROUTES,
                "virtual_hosts": [*hosts, {"name": "unknown", "domains": ["*"], "routes": [_answer(404, unknown)]}],
            }
        ]
    }


def _virtual_host(host: VirtualHost, port: int | None, *, known: bool) -> Json:
    """known: it is deployed; otherwise only its port is."""
    metadata = {"filter_metadata": {METADATA: {"service": host.service, "environment": host.environment}}}
    # A host name counts with any port, the loopback address with its own alone.
    domains = [domain for name in host.hostnames for domain in (name, f"{name}:*")]
    domains += [f"127.0.0.1:{port}", f"localhost:{port}"] if port is not None else []
    shared = {"name": f"{host.service}__{host.environment}", "domains": domains}
    routes = _forwards(host)
    if not host.shares:
        lacks = "has no version with traffic" if known else "is not deployed"
        routes.append(_answer(503, f"{host.service} {lacks} in {host.environment} yet\n"))
    return {**shared, "routes": [{**route, "metadata": metadata} for route in routes]}


def _forwards(host: VirtualHost) -> list[Json]:
    found, refresh = [], host.retries_elsewhere
    for match, cluster in host.matches:
        conditions, to = _conditions(match), _weighted([(match.version, cluster, 1)])
        found += [
            _forward([_SAFE], to, _RETRY_SAFE, conditions, refresh=refresh),
            _forward([], to, _RETRY_ALWAYS, conditions, refresh=refresh),
        ]
    if not host.shares:
        return found
    kinds: list[tuple[list[Json], str, list[Json]]] = [([_SAFE], _RETRY_SAFE, []), ([], _RETRY_ALWAYS, [])]
    if host.mirror is not None:
        mirror, copies = host.mirror[0], [_copies(*host.mirror)]
        also = [([_NO_UPGRADE, fit], _RETRY_ALWAYS, copies) for fit in (_SMALL, _GRPC) if mirror.all_methods]
        kinds = [([_SAFE, _NO_UPGRADE, _NOT_LARGE], _RETRY_SAFE, copies), *also, *kinds]
    if not host.sticky:
        to = _weighted(host.shares)
        return found + [
            _forward(headers, {**to, **_mirrored(copies)}, retry, {}, refresh=refresh)
            for headers, retry, copies in kinds
        ]
    cookie = sticky_cookie(host.service, host.environment)
    to = {**_weighted(_scaled(host.shares), by_hash=True), "hash_policy": _hash_policy(cookie)}
    without = {"cookies": [{"name": cookie, "string_match": {"safe_regex": {"regex": ".+"}}, "invert_match": True}]}
    for headers, retry, copies in kinds:
        first = _forward([*headers, _FIT_FOR_COOKIE], {**to, **_mirrored(copies)}, retry, without, refresh=refresh)
        found.append({**first, "response_headers_to_add": [_set_cookie(cookie)]})
    return found + [
        _forward(headers, {**to, **_mirrored(copies)}, retry, {}, refresh=refresh) for headers, retry, copies in kinds
    ]


def _conditions(match: Match) -> Json:
    """Of a route's match, all of which must hold."""
    given = (("headers", match.header), ("cookies", match.cookie), ("query_parameters", match.query))
    return {
        kind: [{"name": condition[0], "string_match": {"exact": condition[1]}}]
        for kind, condition in given
        if condition is not None
    }


def _forward(headers: Sequence[Json], to: Json, retry_on: str, conditions: Json, *, refresh: bool) -> Json:
    """headers, conditions: of the requests. to: where they go. refresh: the next try may be another version's."""
    other_host = "envoy.retry_host_predicates.previous_hosts"
    config = "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    asked = [*conditions.get("headers", ()), *headers]
    return {
        "match": {"prefix": "/", **conditions, **({"headers": asked} if asked else {})},
        "route": {
            **to,
            "timeout": "0s",
            "retry_policy": {
                "retry_on": retry_on,
                "num_retries": 3,
                "refresh_cluster_on_retry": refresh,
                # A dead host may be picked again each time: few attempts would give up beside one that lives.
                "host_selection_retry_max_attempts": 16,
                "retry_host_predicate": [{"name": other_host, "typed_config": {"@type": config}}],
            },
        },
    }


def _weighted(shares: Iterable[Share], *, by_hash: bool = False) -> Json:
    """The order of the clusters is fixed: another one would reshuffle who gets which version."""
    clusters = [
        {"name": cluster, "weight": weight, "response_headers_to_add": [_version_header(version)]}
        for version, cluster, weight in shares
    ]
    return {"weighted_clusters": {"clusters": clusters, **({"use_hash_policy": True} if by_hash else {})}}


def _scaled(shares: Sequence[Share]) -> list[Share]:
    """With the sum STICKY_TOTAL. The bounds between the shares are rounded, so that they move one way with a share."""
    total = sum(weight for _, _, weight in shares)
    found, before, bound = [], 0, 0
    for version, cluster, weight in shares:
        before += weight
        until = round(STICKY_TOTAL * before / total)
        found.append((version, cluster, until - bound))
        bound = until
    return found


def _hash_policy(cookie: str) -> list[Json]:
    """A client's cookie is the id of its first request: both have the same hash, so it stays where it was."""
    return [{"cookie": {"name": cookie}, "terminal": True}, {"header": {"header_name": "x-request-id"}}]


def _set_cookie(cookie: str) -> Json:
    """Until the browser ends: longer would be an identity, and no rollout needs one."""
    value = f"{cookie}=%REQ(X-REQUEST-ID)%; Path=/; HttpOnly; SameSite=Lax"
    return {"header": {"key": "set-cookie", "value": value}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}


def _mirrored(copies: list[Json]) -> Json:
    return {"request_mirror_policies": copies} if copies else {}


def _copies(mirror: Mirror, cluster: str) -> Json:
    share = {"numerator": max(1, round(mirror.percent * 10_000)), "denominator": "MILLION"}
    mark = {"header": {"key": MIRROR_HEADER, "value": "true"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    return {
        "cluster": cluster,
        "runtime_fraction": {"default_value": share},
        "disable_shadow_host_suffix_append": True,  # the service is to answer as it would to the client
        "request_headers_mutations": [{"append": mark}],
    }


def _answer(status: int, text: str) -> Json:
    return {
        "match": {"prefix": "/"},
        "direct_response": {"status": status, "body": {"inline_string": text}},
        "response_headers_to_add": [_version_header("none")],
    }


def _version_header(version: str) -> Json:
    return {
        "header": {"key": VERSION_HEADER, "value": version},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
