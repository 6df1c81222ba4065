"""Clusters and routes as the Envoys read them, rendered from routes: pure functions, no files.

A cluster is immutable: its name ends in a digest of its endpoints, and a version whose endpoints change gets
another cluster under the same `alt_stat_name`, so that its statistics go on. Endpoints by EDS would be simpler,
but each EDS file costs every Envoy an inotify instance, a user has 128 of them by default, and an Envoy that gets
none aborts: with two Envoys that would be the end at some 60 versions.

Source of the format: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/api
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Literal

from ...domain.route import Backend, Endpoint, Route
from ...domain.value import Value

Json = dict[str, Any]
Key = tuple[str, str]  # service, environment

ROUTES = "main"  # the name of the one route configuration
VERSION_HEADER = "x-santiago-version"  # in every response: the version that answered, `none` where none did
METADATA = "santiago"  # of a route: its service and environment, for the access log
# Of HTTP/2: what a peer may send before it is read. Envoy's own default would let one stream fill 16 MiB and more.
FLOW_CONTROL = {"initial_stream_window_size": 1 << 20, "initial_connection_window_size": 4 << 20}

# Safe methods alone: PUT and DELETE are idempotent by RFC 9110, but not in every service.
_RETRIED_METHODS = "GET|HEAD|OPTIONS"
_RETRY_ALWAYS = "connect-failure,refused-stream"  # the request never reached the service
_RETRY_SAFE = f"{_RETRY_ALWAYS},reset"

# Below the keep-alive of common servers (2 s and more), so that a POST meets no connection that is being closed.
_UPSTREAM_IDLE = "1s"
# All requests in flight to an instance that is killed are retried at once: Envoy's default lets three through.
_CIRCUIT_BREAKER = {"max_connections": 10000, "max_pending_requests": 10000, "max_requests": 10000, "max_retries": 1000}


class Cluster(Value):
    """The endpoints of a version that take new requests, and how they are checked. Draining ones are not in it."""

    service: str
    environment: str
    version: str
    endpoints: tuple[Endpoint, ...]
    health_path: str
    health_host: str
    protocol: Literal["http", "h2c"] = "http"

    @classmethod
    def of(cls, route: Route, backend: Backend) -> Cluster:
        taking = [e for e in backend.endpoints if not e.draining]
        return cls(
            service=route.service,
            environment=route.environment,
            version=backend.version,
            endpoints=tuple(sorted(taking, key=lambda e: (e.instance, e.host, e.port))),
            health_path=backend.health_path,
            health_host=backend.health_host or next(iter(route.hostnames), "localhost"),
            protocol=backend.protocol,
        )

    @property
    def statistic(self) -> str:
        """No dots, which separate the parts of Envoy's statistics; no name has a `_`, so it can be parsed."""
        return f"{self.service}__{self.environment}__{self.version}"

    @cached_property
    def name(self) -> str:
        # The protocol counts where it is another one alone: names on disk are older than it.
        later = {"protocol"} if self.protocol == "http" else None
        return f"{self.statistic}__{hashlib.sha256(self.model_dump_json(exclude=later).encode()).hexdigest()[:8]}"


class VirtualHost(Value):
    """A route as the Envoys have it. shares: (version, cluster name, weight), in a fixed order."""

    service: str
    environment: str
    hostnames: tuple[str, ...]
    shares: tuple[tuple[str, str, int], ...]

    @classmethod
    def of(cls, route: Route) -> VirtualHost:
        weighted = sorted((b for b in route.backends if b.weight > 0), key=lambda b: b.version)
        return cls(
            service=route.service,
            environment=route.environment,
            hostnames=route.hostnames,
            shares=tuple((b.version, Cluster.of(route, b).name, b.weight) for b in weighted),
        )

    @property
    def weights(self) -> dict[str, int]:
        return {version: weight for version, _, weight in self.shares}


def clusters(held: Iterable[Cluster]) -> Json:
    """cds.json."""
    return {"resources": [_cluster(c) for c in sorted(held, key=lambda c: c.name)]}


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


def _cluster(cluster: Cluster) -> Json:
    if cluster.health_path:
        check: Json = {
            "http_health_check": {
                "path": cluster.health_path,
                "host": cluster.health_host,
                "expected_statuses": [{"start": 200, "end": 400}],
            }
        }
    else:
        check = {"tcp_health_check": {}}
    return {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": cluster.name,
        "alt_stat_name": cluster.statistic,
        "type": "STATIC",
        "connect_timeout": "0.25s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {
            "cluster_name": cluster.name,
            "endpoints": [{"lb_endpoints": [_endpoint(e) for e in cluster.endpoints]}],
        },
        # No request goes to an instance that is known to be ill, unless they all are: then a try that fails is followed
        # by one with another version, where without any try the answer would be 503.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
        "circuit_breakers": {"thresholds": [_CIRCUIT_BREAKER]},
        "health_checks": [
            {
                # Often while it is ill. While it is well a broken connection is retried elsewhere and ejects its host,
                # so a check looks for what hangs alone; hundreds of idle instances must cost next to nothing.
                "timeout": "0.5s",
                "interval": "2s",
                "unhealthy_interval": "0.5s",
                "no_traffic_interval": "0.5s",
                "no_traffic_healthy_interval": "2s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                **check,
            }
        ],
        "outlier_detection": {
            "consecutive_5xx": 5,
            "interval": "1s",
            "base_ejection_time": "5s",
            "max_ejection_percent": 50,
            # A health check that passes says nothing of the requests that failed.
            "successful_active_health_check_uneject_host": False,
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"idle_timeout": _UPSTREAM_IDLE},
                "explicit_http_config": (
                    {"http2_protocol_options": FLOW_CONTROL}
                    if cluster.protocol == "h2c"
                    else {"http_protocol_options": {}}
                ),
            }
        },
    }


def _endpoint(endpoint: Endpoint) -> Json:
    """hostname carries the instance's id, so that the admin's answers name instances."""
    answer: Json = {
        "address": {"socket_address": {"address": endpoint.host, "port_value": endpoint.port}},
        "hostname": endpoint.instance,
    }
    if endpoint.health_port is not None:
        answer["health_check_config"] = {"port_value": endpoint.health_port}
    return {"endpoint": answer}


def _virtual_host(host: VirtualHost, port: int | None, *, known: bool) -> Json:
    """known: it is deployed; otherwise only its port is."""
    metadata = {"filter_metadata": {METADATA: {"service": host.service, "environment": host.environment}}}
    # A host name counts with any port, the loopback address with its own alone.
    domains = [domain for name in host.hostnames for domain in (name, f"{name}:*")]
    domains += [f"127.0.0.1:{port}", f"localhost:{port}"] if port is not None else []
    shared = {"name": f"{host.service}__{host.environment}", "domains": domains}
    if not host.shares:
        lacks = "has no version with traffic" if known else "is not deployed"
        words = f"{host.service} {lacks} in {host.environment} yet\n"
        return {**shared, "routes": [{**_answer(503, words), "metadata": metadata}]}
    # The order of the clusters is fixed: another one would reshuffle who gets which version.
    weighted = [
        {"name": cluster, "weight": weight, "response_headers_to_add": [_version_header(version)]}
        for version, cluster, weight in host.shares
    ]
    safe = {"name": ":method", "string_match": {"safe_regex": {"regex": _RETRIED_METHODS}}}
    forwards = (
        {"match": {"prefix": "/", "headers": [safe]}, "route": _forward(weighted, _RETRY_SAFE)},
        {"match": {"prefix": "/"}, "route": _forward(weighted, _RETRY_ALWAYS)},
    )
    return {**shared, "routes": [{**forward, "metadata": metadata} for forward in forwards]}


def _forward(weighted: list[Json], retry_on: str) -> Json:
    other_host = "envoy.retry_host_predicates.previous_hosts"
    config = "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    return {
        "weighted_clusters": {"clusters": weighted},
        "timeout": "0s",
        "retry_policy": {
            "retry_on": retry_on,
            "num_retries": 3,
            # The instance that died may have been its version's only one: the next try is another version's.
            "refresh_cluster_on_retry": True,
            # A dead host may be picked again each time: few attempts would give up beside one that lives.
            "host_selection_retry_max_attempts": 16,
            "retry_host_predicate": [{"name": other_host, "typed_config": {"@type": config}}],
        },
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
