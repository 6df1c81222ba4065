"""Metrics by a supervised Prometheus: static configuration, written and reloaded (file discovery takes 5 s)."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml

from ...domain.counters import Histogram, Samples
from ...domain.errors import ErrorCode, PlatformError
from ...domain.signal import Point, Series, Signal
from ...domain.slo_proposal import Shown
from ...ports.metrics import ScrapeTarget
from ..layout import Layout

QUERY_SECONDS = 5.0
KEPT_SECONDS = 60 * 86400  # two windows of 30 days
EXPOSES_SECONDS = 1.0
ANSWER_BYTES = 16 * 1024 * 1024
WINDOW = "15s"  # of the named signals; Envoys are scraped every 2 s
_FAILED = ',envoy_response_code_class="5"'
INSTANCE_SECONDS = 1  # between two looks at what the Envoys count of each instance

# What is used of an Envoy's statistics: 50 series a cluster instead of 265.
_ENVOY_STATISTICS = (
    r"(cluster\..*__.*(external\.upstream_rq_(completed|time|\d?xx)|upstream_rq_(active|retry|timeout|pending_overflow)"
    r"|upstream_cx_(active|connect_fail)|membership_(healthy|total)|outlier_detection\.ejections_active)"
    r"|http\.ingress\.(downstream_rq_(completed|active|\d?xx)|downstream_cx_active|no_route)|server\.(live|memory_allocated))"
)

# Clusters are named SERVICE__ENVIRONMENT__VERSION; copies of requests, whose names go on, are left out.
_CLUSTER = "([^_]+)__([^_]+)__([^_]+)"
_INSTANCE_LABELS = [
    {"source_labels": ["envoy_cluster_name"], "regex": _CLUSTER, "action": "keep"},
    *(
        {"source_labels": ["envoy_cluster_name"], "regex": _CLUSTER, "target_label": label, "replacement": f"${n}"}
        for n, label in enumerate(("service", "environment", "version"), 1)
    ),
    {"source_labels": ["envoy_endpoint_hostname"], "regex": "(.+):.+", "target_label": "instance"},
    {"source_labels": ["envoy_endpoint_hostname"], "regex": ".+:(.+)", "target_label": "cluster"},
    {"regex": "envoy_.*", "action": "labeldrop"},
]

# By these a service is judged: what the Envoys counted, and what the rules made of it. It does not count itself.
_JUDGED_BY = "envoy_cluster_.*|slo:.*|ALERTS.*"


@dataclass(frozen=True)
class PrometheusConfig:
    """What is scraped besides the instances. envoy_ports: of the Envoys' statistics, by name."""

    layout: Layout
    envoy_ports: Mapping[str, int]
    daemon_port: int
    alertmanager_port: int

    @property
    def file(self) -> Path:
        return self.layout.prometheus / "prometheus.yml"

    def write(self, targets: Sequence[ScrapeTarget] = ()) -> bool:
        """Returns whether the file has changed. Rules are read from rules/*.yaml beside it."""
        rules = self.layout.prometheus / "rules"
        rules.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = yaml.safe_dump(self._configuration(targets), sort_keys=False)
        if self.file.exists() and self.file.read_text() == text:
            return False
        temporary = self.file.with_suffix(".tmp")
        temporary.write_text(text)
        temporary.replace(self.file)
        return True

    def _configuration(self, targets: Sequence[ScrapeTarget]) -> dict[str, Any]:
        return {
            "global": {"scrape_interval": "5s", "scrape_timeout": "2s", "evaluation_interval": "2s"},
            "rule_files": ["rules/*.yaml"],
            "alerting": {"alertmanagers": [{"static_configs": [_static(self.alertmanager_port)]}]},
            "scrape_configs": [
                {
                    "job_name": "envoy",
                    "scrape_interval": "2s",
                    "scrape_timeout": "2s",
                    "metrics_path": "/stats/prometheus",
                    "params": {"filter": [_ENVOY_STATISTICS]},
                    "static_configs": [_static(p, envoy=name) for name, p in sorted(self.envoy_ports.items())],
                },
                {
                    # Two small series an instance and Envoy: a judge of releases looks for bursts second by second.
                    "job_name": "envoy-instances",
                    "scrape_interval": f"{INSTANCE_SECONDS}s",
                    "scrape_timeout": f"{INSTANCE_SECONDS}s",
                    "metrics_path": "/stats/prometheus",
                    "params": {"filter": [r"\.rq_(total|error)$"], "type": ["Counters"]},
                    "static_configs": [_static(p, envoy=name) for name, p in sorted(self.envoy_ports.items())],
                    "metric_relabel_configs": _INSTANCE_LABELS,
                },
                {"job_name": "daemon", "static_configs": [_static(self.daemon_port)]},
                {
                    "job_name": "instances",
                    # What a service says of itself is bounded, and cannot pass for another service.
                    "honor_labels": False,
                    "sample_limit": 10_000,
                    "label_limit": 64,
                    "body_size_limit": "10MB",
                    "metric_relabel_configs": [{"source_labels": ["__name__"], "regex": _JUDGED_BY, "action": "drop"}],
                    "static_configs": [
                        {
                            "targets": [t.address],
                            "labels": {
                                "service": t.service,
                                "environment": t.environment,
                                "version": t.version,
                                "instance": t.instance,
                            },
                        }
                        for t in sorted(targets, key=lambda t: t.instance)
                    ],
                },
            ],
        }


def prometheus_command(layout: Layout, binary: Path, *, port: int, kept_seconds: int = KEPT_SECONDS) -> tuple[str, ...]:
    """The argv of Prometheus; `PrometheusConfig.write` comes before. kept_seconds: of samples; never under 60 days."""
    return (
        str(binary),
        f"--config.file={layout.prometheus / 'prometheus.yml'}",
        f"--storage.tsdb.path={layout.prometheus / 'data'}",
        f"--storage.tsdb.retention.time={max(kept_seconds, KEPT_SECONDS)}s",
        "--storage.tsdb.retention.size=4GB",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-lifecycle",
        "--web.cors.origin=http://127.0.0.1",  # by default every web page may read it
        "--query.max-samples=5000000",
        f"--query.timeout={QUERY_SECONDS:.0f}s",
        # Otherwise alerts of the first seconds after a reload do not reach Alertmanager.
        "--rules.alert.resend-delay=2s",
        "--log.level=warn",
    )


class PrometheusMetrics:
    """Implements ports.metrics.Metrics. port: of Prometheus, on loopback."""

    shortest_bucket_seconds = float(INSTANCE_SECONDS)

    def __init__(self, config: PrometheusConfig, port: int) -> None:
        self._config = config
        self._client = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=QUERY_SECONDS, trust_env=False, verify=False
        )
        self._scraping = asyncio.Lock()
        self._reload_due = True  # the process before may have ended between its write and its reload

    async def close(self) -> None:
        await self._client.aclose()

    async def query(self, expression: str, *, start: float, end: float, step: float, limit: int) -> list[Series]:
        form = {"query": expression, "timeout": f"{QUERY_SECONDS:.0f}s"}
        if start == end:
            data = await self._post("/api/v1/query", {**form, "time": str(end)})
        else:
            span = {"start": str(start), "end": str(end), "step": str(step)}
            data = await self._post("/api/v1/query_range", {**form, **span})
        return _series(data, limit)

    async def history(
        self, service: str, environment: str, version: str, *, start: float, end: float, bucket_seconds: float
    ) -> tuple[Samples, ...]:
        if bucket_seconds < INSTANCE_SECONDS or start % bucket_seconds or end % bucket_seconds:
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT,
                f"no buckets of {bucket_seconds:g} s from {start:f} to {end:f}",
                f"take {INSTANCE_SECONDS} s or more, and begin and end at a multiple of it",
            )
        labels = _labels(service, environment, version)
        span = {"start": str(start), "end": str(end), "step": str(bucket_seconds)}
        moments = {start + n * bucket_seconds: n for n in range(round((end - start) / bucket_seconds) + 1)}
        found: dict[tuple[str, str, str], dict[str, list[int | None]]] = {}
        for kind in ("total", "error"):
            # The window ends what would otherwise be repeated for five minutes where nobody looked.
            asked = f"last_over_time(envoy_cluster_endpoint_rq_{kind}{{{labels}}}[{2 * INSTANCE_SECONDS}s])"
            for row in (await self._post("/api/v1/query_range", {"query": asked, **span}))["result"]:
                name = row["metric"]
                key = (name["instance"], name["cluster"], name["envoy"])
                counts = found.setdefault(key, {}).setdefault(kind, [None] * len(moments))
                for at, value in row["values"]:
                    counts[moments[at]] = int(value)
        nothing: list[int | None] = [None] * len(moments)
        return tuple(
            Samples(
                instance=instance,
                series=cluster,
                proxy=proxy,
                requests=tuple(kinds.get("total", nothing)),
                errors=tuple(kinds.get("error", nothing)),
            )
            for (instance, cluster, proxy), kinds in sorted(found.items())
        )

    async def latencies(self, service: str, environment: str, version: str, *, start: float, end: float) -> Histogram:
        bucket = f"envoy_cluster_external_upstream_rq_time_bucket{{{_labels(service, environment, version)}}}"
        return await self._histogram(f"sum by (le) (increase({bucket}[{math.ceil(end - start)}s]))", end)

    async def shown(self, service: str, environment: str, *, start: float, end: float) -> Shown:
        labels, seconds = _labels(service, environment), math.ceil(end - start)

        def gained(metric: str, more: str = "") -> str:
            """`increase` leaves out what a series began with: of rare errors that may be all of them."""
            of = f"envoy_cluster_external_upstream_rq_{metric}{{{labels}{more}}}"
            return f"increase({of}[{seconds}s]) + (min_over_time({of}[{seconds}s]) unless {of} offset {seconds}s)"

        requests = await self._number(f"sum({gained('completed')})", end)
        errors = await self._number(f"sum({gained('xx', _FAILED)})", end)
        within = await self._histogram(f"sum by (le) ({gained('time_bucket')})", end)
        return Shown(requests=requests, errors=min(errors, requests), within=within)

    async def _number(self, expression: str, at: float) -> int:
        """Zero where there is no series."""
        rows = (await self._post("/api/v1/query", {"query": expression, "time": str(at)}))["result"]
        return round(float(rows[0]["value"][1])) if rows else 0

    async def _histogram(self, expression: str, at: float) -> Histogram:
        rows = (await self._post("/api/v1/query", {"query": expression, "time": str(at)}))["result"]
        edges = {float(row["metric"]["le"]) / 1000: round(float(row["value"][1])) for row in rows}
        counts = tuple(sorted((edge, n) for edge, n in edges.items() if math.isfinite(edge)))
        return counts if edges.get(math.inf) else ()

    def expression(self, signal: Signal, service: str, environment: str, version: str | None) -> str:
        labels = _labels(service, environment, version)

        def of(metric: str, *more: str) -> str:
            return f"envoy_cluster_{metric}{{{','.join((labels, *more))}}}"

        def gained(metric: str) -> str:
            """A series appears with its first response, which `rate` would miss. A restart counts as nothing."""
            return f"sum by (version) (clamp_min(({metric} - {metric} offset {WINDOW}) or {metric}, 0))"

        completed = of("external_upstream_rq_completed")
        match signal:
            case Signal.LATENCY:
                bucket = f"rate({of('external_upstream_rq_time_bucket')}[{WINDOW}])"
                return f"histogram_quantile(0.95, sum by (version, le) ({bucket})) / 1000"
            case Signal.ERRORS:
                failed = gained(of("external_upstream_rq_xx", 'envoy_response_code_class="5"'))
                return f"({failed} or {gained(completed)} * 0) / {gained(completed)}"
            case Signal.TRAFFIC:
                return f"sum by (version) (rate({completed}[{WINDOW}]))"
            case Signal.SATURATION:
                return f"sum by (version) ({of('upstream_rq_active')})"

    async def scrape(self, targets: Sequence[ScrapeTarget]) -> None:
        async with self._scraping:
            self._reload_due |= await asyncio.to_thread(self._config.write, tuple(targets))
            if self._reload_due:
                await self._reload()
                self._reload_due = False

    async def exposes(self, address: str) -> bool:
        try:
            async with self._client.stream("GET", f"http://{address}/metrics", timeout=EXPOSES_SECONDS) as response:
                kind = response.headers.get("content-type", "")
        except (httpx2.HTTPError, httpx2.InvalidURL):
            return False
        return response.status_code == 200 and ("openmetrics-text" in kind or "version=0.0.4" in kind)

    async def _reload(self) -> None:
        try:
            response = await self._client.post("/-/reload")
        except httpx2.HTTPError as exc:
            raise _unavailable(exc) from exc
        if response.status_code != 200:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"Prometheus refuses its new configuration and keeps the former one: {response.text.strip()[:500]}",
                f"see the rules beside {self._config.file}",
            )

    async def _post(self, path: str, form: dict[str, str]) -> dict[str, Any]:
        """The `data` of the answer."""
        body = bytearray()
        try:
            async with self._client.stream("POST", path, data=form) as response:
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > ANSWER_BYTES:
                        raise PlatformError(
                            ErrorCode.INVALID_ARGUMENT,
                            f"the answer to {form['query'][:200]!r} is larger than {ANSWER_BYTES >> 20} MiB",
                            "ask for fewer series (sum by, topk), a shorter time or a larger step",
                        )
            answer = json.loads(body)
        except (httpx2.HTTPError, ValueError) as exc:
            raise _unavailable(exc) from exc
        if answer.get("status") == "success":
            data: dict[str, Any] = answer["data"]
            return data
        words = str(answer.get("error", ""))[:1000]
        if answer.get("errorType") in ("bad_data", "execution"):
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT,
                f"Prometheus refuses the query: {words}",
                "mend the expression, then ask again",
            )
        raise PlatformError(
            ErrorCode.UNAVAILABLE,
            f"Prometheus could not answer: {words}",
            "ask for less, or try again",
            retry_after=1.0,
        )


def _labels(service: str, environment: str, version: str | None = None) -> str:
    return f'service="{service}",environment="{environment}"' + (f',version="{version}"' if version else "")


def _static(port: int, **labels: str) -> dict[str, Any]:
    target: dict[str, Any] = {"targets": [f"127.0.0.1:{port}"]}
    return {**target, "labels": labels} if labels else target


def _unavailable(exc: Exception) -> PlatformError:
    return PlatformError(
        ErrorCode.UNAVAILABLE,
        "Prometheus does not answer",
        "`santiago status` says whether it runs; try again in a moment",
        internal=repr(exc),
        retry_after=1.0,
    )


def _series(data: dict[str, Any], limit: int) -> list[Series]:
    """A vector, a matrix or a scalar. NaN and infinities are left out: they are no measurements."""
    match data["resultType"]:
        case "matrix":
            found = [(row["metric"], row["values"]) for row in data["result"][:limit]]
        case "vector":
            found = [(row["metric"], [row["value"]]) for row in data["result"][:limit]]
        case "scalar":
            found = [({}, [data["result"]])]
        case kind:
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT,
                f"the expression gives a {kind}, not numbers",
                "ask for a series or a number",
            )
    return [
        Series(
            labels=labels,
            points=tuple(Point(at=at, value=float(v)) for at, v in values if math.isfinite(float(v))),
        )
        for labels, values in found
    ]
