"""Where the Envoys listen, and what each is started with: pure functions, no files.

Both Envoys listen on every port of the ingress (SO_REUSEPORT). All listeners share one route configuration, and so one
watch of rds.json.

Source of the format: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/api
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...domain.environment import Tls
from ...domain.value import Value
from .certificate import Certificate
from .envoy_config import FLOW_CONTROL, MIRRORED, Json, Key
from .envoy_routes import METADATA, ROUTES, VERSION_HEADER

DEFAULT_SECRET = "ingress"  # noqa: S105 - a name

_ACCESS = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "service": f"%METADATA(ROUTE:{METADATA}:service)%",
    "environment": f"%METADATA(ROUTE:{METADATA}:environment)%",
    "version": f"%RESP({VERSION_HEADER})%",
    "method": "%REQ(:METHOD):16%",
    "path": "%PATH(NQ):256%",  # without the query, which may hold what is nobody's business
    "status": "%RESPONSE_CODE%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "request_id": "%REQ(X-REQUEST-ID):64%",
    "traceparent": "%REQ(TRACEPARENT):64%",
    "instance": "%UPSTREAM_HOST_NAME_WITHOUT_PORT%",
    "protocol": "%PROTOCOL%",
    "flags": "%RESPONSE_FLAGS%",
}

# What is read of an Envoy's 260 statistics a cluster: looking through the others would be most of the cost of reading.
_STATISTICS = (
    *({"prefix": f"{name}."} for name in ("http.ingress", "listener_manager", "cluster_manager", "server")),
    *(
        {"suffix": f".{kind}.upstream_rq_{name}"}
        for kind in ("external", "internal")
        for name in ("completed", "time", "1xx", "2xx", "3xx", "4xx", "5xx")
    ),
    *({"suffix": f".upstream_rq_{name}"} for name in ("active", "retry", "timeout", "pending_overflow", "tx_reset")),
    *(
        {"suffix": f".upstream_cx_{name}"}
        for name in ("active", "connect_fail", "destroy_local_with_active_rq", "protocol_error")
    ),
    *({"suffix": f".{name}"} for name in ("membership_healthy", "membership_total", "ejections_active")),
)


class IngressFile(Value):
    """ingress.json: how the ingress was set up by the last `up`. Paths of certificates are absolute."""

    port: int
    tls: Tls | None = None
    access_log: bool = True


def bootstrap(*, node: str, workspace: str, admin: Path, xds: Path, stats_port: int) -> Json:
    """An Envoy's own configuration. admin: its Unix socket; xds: the directory of the other files."""
    return {
        "node": {"id": node, "cluster": workspace},
        "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}},
        "stats_flush_interval": "1s",
        "stats_config": {
            "stats_matcher": {"inclusion_list": {"patterns": [*_STATISTICS]}},
            "stats_tags": [
                {"tag_name": "service", "regex": r"^cluster\.(([^._]+)__[^._]+__[^.]+\.)"},
                {"tag_name": "environment", "regex": r"^cluster\.([^._]+__([^._]+)__[^.]+\.)"},
                {"tag_name": "version", "regex": rf"^cluster\.([^._]+__[^._]+__([^._]+)(?:{MIRRORED})?\.)"},
            ],
            "histogram_bucket_settings": [
                {
                    "match": {"suffix": "upstream_rq_time"},
                    # Milliseconds. The last one holds all, so that counts by edge say of how many they are.
                    "buckets": [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 3600000],
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


def listeners(xds: Path, ingress: IngressFile, ports: Mapping[Key, int]) -> Json:
    """lds.json: the ingress, with TLS and without, and the ports that belong to one service each.

    HTTP/1.1 and HTTP/2 on each of them. A request may take as long as it likes (downloads, event streams), but a
    stream on which nothing moves for five minutes is ended; WebSockets are expected to ping within that.
    """
    manager: Json = {
        **_connection_manager("ingress"),
        "rds": {"route_config_name": ROUTES, "config_source": _file(xds / "rds.json")},
        "http2_protocol_options": {**FLOW_CONTROL, "max_concurrent_streams": 1000},
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
    if ingress.access_log:
        manager["access_log"] = [_access_log()]
    found = [_listener("ingress", ingress.port, manager, shared=True)]
    if ingress.tls is not None:
        found.append(_encrypted(_listener("tls", ingress.tls.port, manager, shared=True), xds, ingress.tls))
    found += [_listener(f"service-{port}", port, manager, shared=True) for port in sorted(ports.values())]
    return {"resources": found}


def secret_file(host: str) -> str:
    """The name of the file that holds the certificate of a host, or of all others where it is empty."""
    return f"secret-{host.replace('*', '_')}.json" if host else "secret.json"


def secret(host: str, certificate: Certificate) -> Json:
    """The content of `secret_file`: the pair itself, since Envoy would watch each file that is named in it."""
    return {
        "resources": [
            {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
                "name": host or DEFAULT_SECRET,
                "tls_certificate": {
                    "certificate_chain": {"inline_string": certificate.chain},
                    "private_key": {"inline_string": certificate.key},
                },
            }
        ]
    }


def _encrypted(listener: Json, xds: Path, tls: Tls) -> Json:
    """By the name that the client asks for (SNI); a client that names none gets the default certificate."""
    (chain,) = listener["filter_chains"]
    chains = []
    for host in (*sorted(tls.hosts), ""):
        match = {"filter_chain_match": {"server_names": [host]}} if host else {}
        chains.append({**chain, **match, "name": host or DEFAULT_SECRET, "transport_socket": _transport(xds, host)})
    inspector = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
    return {
        **listener,
        "filter_chains": chains,
        "listener_filters": [
            {
                "name": "envoy.filters.listener.tls_inspector",
                "typed_config": {"@type": f"type.googleapis.com/{inspector}"},
            }
        ],
    }


def _transport(xds: Path, host: str) -> Json:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "tls_certificate_sds_secret_configs": [
                    {"name": host or DEFAULT_SECRET, "sds_config": _file(xds / secret_file(host))}
                ],
            },
        },
    }


def _access_log() -> Json:
    kind = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
    return {
        "name": "envoy.access_loggers.stdout",
        "typed_config": {"@type": f"type.googleapis.com/{kind}", "log_format": {"json_format": _ACCESS}},
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
