"""What the Envoys read, rendered from routes: pure functions, no files.

Both Envoys of a workspace read one set of xDS files and listen on one ingress port (SO_REUSEPORT).

A cluster is immutable: its name ends in a digest of its endpoints, and a version whose endpoints change gets
another cluster under the same `alt_stat_name`, so that its statistics go on. Endpoints by EDS would be simpler,
but each EDS file costs every Envoy an inotify instance, a user has 128 of them by default, and an Envoy that gets
none aborts: with two Envoys that would be the end at some 60 versions.

Source of the format: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/api
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from ...domain.route import Backend, Endpoint, Route
from ...domain.value import Value

Json = dict[str, Any]

ROUTES = "main"  # the name of the one route configuration
VERSION_HEADER = "x-santiago-version"  # in every response: the version that answered, `none` where none did

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
        )

    @property
    def statistic(self) -> str:
        """No dots, which separate the parts of Envoy's statistics; no name has a `_`, so it can be parsed."""
        return f"{self.service}__{self.environment}__{self.version}"

    @cached_property
    def name(self) -> str:
        return f"{self.statistic}__{hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]}"


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


def bootstrap(*, node: str, workspace: str, admin: Path, xds: Path, stats_port: int) -> Json:
    """An Envoy's own configuration. admin: its Unix socket; xds: the directory of the other files."""
    return {
        "node": {"id": node, "cluster": workspace},
        "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}},
        "stats_flush_interval": "1s",
        "stats_config": {
            "stats_tags": [
                {"tag_name": "service", "regex": r"^cluster\.(([^._]+)__[^._]+__[^.]+\.)"},
                {"tag_name": "environment", "regex": r"^cluster\.([^._]+__([^._]+)__[^.]+\.)"},
                {"tag_name": "version", "regex": r"^cluster\.([^._]+__[^._]+__([^.]+)\.)"},
            ],
            "histogram_bucket_settings": [
                {
                    "match": {"suffix": "upstream_rq_time"},
                    "buckets": [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000],
                }
            ],
        },
        "dynamic_resources": {"lds_config": _file(xds / "lds.json"), "cds_config": _file(xds / "cds.json")},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3"
                        ".DownstreamConnectionsConfig",
                        "max_active_downstream_connections": 50000,
                    },
                }
            ]
        },
        "static_resources": {
            "listeners": [_statistics_listener(stats_port)],
            "clusters": [
                {
                    "name": "admin",
                    "type": "STATIC",
                    "connect_timeout": "0.25s",
                    "load_assignment": {
                        "cluster_name": "admin",
                        "endpoints": [
                            {"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": str(admin)}}}}]},
                        ],
                    },
                }
            ],
        },
    }


def listeners(xds: Path, ingress_port: int) -> Json:
    """lds.json: the ingress.

    A request may take as long as it likes (downloads, event streams), but a stream on which nothing moves for
    five minutes is ended; WebSockets are expected to ping within that.
    """
    manager = {
        **_connection_manager("ingress"),
        "rds": {"route_config_name": ROUTES, "config_source": _file(xds / "rds.json")},
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "stream_idle_timeout": "300s",
        "request_headers_timeout": "10s",
        # The client's id goes through as it is, bit for bit; without one, an id is made.
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": {
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
                "pack_trace_reason": False,
            }
        },
    }
    return {"resources": [_listener("ingress", ingress_port, manager, shared=True)]}


def clusters(held: Iterable[Cluster]) -> Json:
    """cds.json."""
    return {"resources": [_cluster(c) for c in sorted(held, key=lambda c: c.name)]}


def routes(published: Iterable[VirtualHost]) -> Json:
    """rds.json: one virtual host a route, and an answer that helps for every other host name."""
    hosts = [_virtual_host(route) for route in sorted(published, key=lambda r: (r.service, r.environment))]
    unknown = (
        "No service has this host name. Say which one you mean in the Host header, as NAME.ENVIRONMENT.localhost:\n"
        "  curl -H 'Host: web.production.localhost' http://127.0.0.1:PORT/\n"
    )
    return {
        "resources": [
            {
                "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
                "name": ROUTES,
                "ignore_port_in_host_matching": True,
                "virtual_hosts": [*hosts, {"name": "unknown", "domains": ["*"], "routes": [_answer(404, unknown)]}],
            }
        ]
    }


def _file(path: Path) -> Json:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}


def _listener(name: str, port: int, manager: Json, *, shared: bool) -> Json:
    """shared: other processes may listen on the port too; otherwise a taken port is an error."""
    return {
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "enable_reuse_port": shared,
        "per_connection_buffer_limit_bytes": 1 << 20,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _connection_manager(name: str) -> Json:
    base = "type.googleapis.com/envoy.extensions.filters"
    return {
        "@type": f"{base}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        # The client's address is appended to x-forwarded-for; what it claims about itself is not believed.
        "use_remote_address": True,
        "server_header_transformation": "PASS_THROUGH",
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{base}.http.router.v3.Router", "suppress_envoy_headers": True},
            }
        ],
    }


def _statistics_listener(port: int) -> Json:
    """Prometheus cannot scrape a Unix socket: one path of the admin is reachable by TCP, for reading alone."""
    manager = {
        **_connection_manager("statistics"),
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "statistics",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {
                                "path": "/stats/prometheus",
                                "headers": [{"name": ":method", "string_match": {"exact": "GET"}}],
                            },
                            "route": {"cluster": "admin"},
                        }
                    ],
                }
            ]
        },
    }
    listener = _listener("statistics", port, manager, shared=False)
    del listener["@type"]
    return listener


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
        # Without the panic threshold no request goes to an instance that is known to be ill.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": {"thresholds": [_CIRCUIT_BREAKER]},
        "health_checks": [
            {
                "timeout": "0.5s",
                "interval": "0.5s",
                "no_traffic_interval": "0.5s",
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
                "explicit_http_config": {"http_protocol_options": {}},
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


def _virtual_host(host: VirtualHost) -> Json:
    name = f"{host.service}__{host.environment}"
    domains = list(host.hostnames)
    if not host.shares:
        words = f"{host.service} has no version with traffic in {host.environment} yet\n"
        return {"name": name, "domains": domains, "routes": [_answer(503, words)]}
    # The order of the clusters is fixed: another one would reshuffle who gets which version.
    weighted = [
        {"name": cluster, "weight": weight, "response_headers_to_add": [_version_header(version)]}
        for version, cluster, weight in host.shares
    ]
    safe = {"name": ":method", "string_match": {"safe_regex": {"regex": _RETRIED_METHODS}}}
    return {
        "name": name,
        "domains": domains,
        "routes": [
            {"match": {"prefix": "/", "headers": [safe]}, "route": _forward(weighted, _RETRY_SAFE)},
            {"match": {"prefix": "/"}, "route": _forward(weighted, _RETRY_ALWAYS)},
        ],
    }


def _forward(weighted: list[Json], retry_on: str) -> Json:
    other_host = "envoy.retry_host_predicates.previous_hosts"
    config = "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    return {
        "weighted_clusters": {"clusters": weighted},
        "timeout": "0s",
        "retry_policy": {
            "retry_on": retry_on,
            "num_retries": 3,
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
