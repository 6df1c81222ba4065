"""Clusters as the Envoys read them, rendered from routes: pure functions, no files.

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
from typing import Any, Literal

from ...domain.route import Backend, Endpoint, Route
from ...domain.value import Value

Json = dict[str, Any]
Key = tuple[str, str]  # service, environment

MIRRORED = "__mirrored"  # ends the statistics of what copies of requests do to a version
# Of HTTP/2: what a peer may send before it is read. Envoy's own default would let one stream fill 16 MiB and more.
FLOW_CONTROL = {"initial_stream_window_size": 1 << 20, "initial_connection_window_size": 4 << 20}

# Below the keep-alive of common servers (2 s and more), so that a POST meets no connection that is being closed.
_UPSTREAM_IDLE = "1s"
# All requests in flight to an instance that is killed are retried at once: Envoy's default lets three through.
_CIRCUIT_BREAKER = {"max_connections": 10000, "max_pending_requests": 10000, "max_requests": 10000, "max_retries": 1000}
# Copies that a hanging version does not answer pile up to here alone, and not for longer.
_MIRROR_CIRCUIT_BREAKER = {"max_connections": 100, "max_pending_requests": 100, "max_requests": 100}
_MIRROR_SECONDS = "10s"


class Cluster(Value):
    """The endpoints of a version that take new requests, and how they are checked. Draining ones are not in it.

    mirrored: it takes copies of requests. These have a cluster of their own, so that they can neither take the room of
    real requests, nor have an instance ejected from it, nor count among them.
    """

    service: str
    environment: str
    version: str
    endpoints: tuple[Endpoint, ...]
    health_path: str
    health_host: str
    protocol: Literal["http", "h2c"] = "http"
    mirrored: bool = False

    @classmethod
    def of(cls, route: Route, backend: Backend, *, mirrored: bool = False) -> Cluster:
        taking = [e for e in backend.endpoints if not e.draining]
        return cls(
            service=route.service,
            environment=route.environment,
            version=backend.version,
            endpoints=tuple(sorted(taking, key=lambda e: (e.instance, e.host, e.port))),
            health_path=backend.health_path,
            health_host=backend.health_host or next(iter(route.hostnames), "localhost"),
            protocol=backend.protocol,
            mirrored=mirrored,
        )

    @classmethod
    def all_of(cls, route: Route) -> tuple[Cluster, ...]:
        own = tuple(cls.of(route, b) for b in route.backends)
        mirror = route.mirror.version if route.mirror else None
        return own + tuple(cls.of(route, b, mirrored=True) for b in route.backends if b.version == mirror)

    @property
    def statistic(self) -> str:
        """No dots, which separate the parts of Envoy's statistics; no name has a `_`, so it can be parsed."""
        own = f"{self.service}__{self.environment}__{self.version}"
        return f"{own}{MIRRORED}" if self.mirrored else own

    @cached_property
    def name(self) -> str:
        # What is younger than names on disk counts only where it is not what all were before.
        later = {"protocol"} if self.protocol == "http" else set()
        later |= set() if self.mirrored else {"mirrored"}
        digest = hashlib.sha256(self.model_dump_json(exclude=later).encode()).hexdigest()[:8]
        return f"{self.service}__{self.environment}__{self.version}__{digest}"


def clusters(held: Iterable[Cluster]) -> Json:
    """cds.json."""
    return {"resources": [_cluster(c) for c in sorted(held, key=lambda c: c.name)]}


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
    longest = {"max_stream_duration": _MIRROR_SECONDS} if cluster.mirrored else {}
    return {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": cluster.name,
        "alt_stat_name": cluster.statistic,
        "track_cluster_stats": {"per_endpoint_stats": True},  # for the history of each instance
        "type": "STATIC",
        "connect_timeout": "0.25s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {
            "cluster_name": cluster.name,
            "endpoints": [{"lb_endpoints": [_endpoint(e, cluster) for e in cluster.endpoints]}],
        },
        # No request goes to an instance that is known to be ill, unless they all are: then a try that fails is followed
        # by one with another version, where without any try the answer would be 503.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
        "circuit_breakers": {"thresholds": [_MIRROR_CIRCUIT_BREAKER if cluster.mirrored else _CIRCUIT_BREAKER]},
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
                "common_http_protocol_options": {"idle_timeout": _UPSTREAM_IDLE, **longest},
                "explicit_http_config": (
                    {"http2_protocol_options": FLOW_CONTROL}
                    if cluster.protocol == "h2c"
                    else {"http_protocol_options": {}}
                ),
            }
        },
    }


def _endpoint(endpoint: Endpoint, cluster: Cluster) -> Json:
    """hostname: the instance's id, so that the admin's answers name instances, and the cluster's digest after a colon.

    Two clusters of a version may hold an instance at the same time, and have the same name in statistics: without the
    digest their counts of it would be two values of one series.
    """
    answer: Json = {
        "address": {"socket_address": {"address": endpoint.host, "port_value": endpoint.port}},
        "hostname": f"{endpoint.instance}:{cluster.name.rpartition('__')[2]}",
    }
    if endpoint.health_port is not None:
        answer["health_check_config"] = {"port_value": endpoint.health_port}
    return {"endpoint": answer}
