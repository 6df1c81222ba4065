"""Metrics of this server itself, in a registry of its own, for Prometheus to scrape at /metrics."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    generate_latest,
)

# Around the objectives: p95 under 50 ms is the aim, under 500 ms the contract. Waiting calls end up in +Inf.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class ServerMetrics:
    """outcome: `ok`, or the code of the error. tool: `unknown` for a name that there is not."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._calls = Counter(
            "santiago_tool_calls", "Tool calls that were answered.", ["tool", "outcome"], registry=self.registry
        )
        self._seconds = Histogram(
            "santiago_tool_call_seconds",
            "Time from a tool call's arguments to its answer.",
            ["tool"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._in_flight = Gauge(
            "santiago_tool_calls_in_flight", "Tool calls that are being answered.", registry=self.registry
        )
        self._passes = Counter(
            "santiago_reconcile_passes", "Passes of the loops.", ["loop", "outcome"], registry=self.registry
        )
        self._pass_seconds = Histogram(
            "santiago_reconcile_pass_seconds",
            "Time of a pass: `rollout` over one service, `sweep` a look at all whether there is anything to do.",
            ["loop"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._job_runs = Counter(
            "santiago_job_runs",
            "Runs of jobs that no rollout waited for.",
            ["state"],
            registry=self.registry,
        )
        self._alerts = Counter(
            "santiago_alerts_received", "Alerts that Alertmanager sent.", ["status"], registry=self.registry
        )

    def tool_begun(self) -> None:
        """`tool_called` follows, whatever happens."""
        self._in_flight.inc()

    def tool_called(self, tool: str, outcome: str, seconds: float) -> None:
        self._in_flight.dec()
        self._calls.labels(tool, outcome).inc()
        self._seconds.labels(tool).observe(seconds)

    def reconciled(self, loop: str, outcome: str, seconds: float) -> None:
        """outcome: `ok` or `failed`."""
        self._passes.labels(loop, outcome).inc()
        self._pass_seconds.labels(loop).observe(seconds)

    def job_ended(self, state: str) -> None:
        """state: of domain.job.RunState."""
        self._job_runs.labels(state).inc()

    def alerts_received(self, status: str, count: int) -> None:
        """status: `firing` or `resolved`."""
        self._alerts.labels(status).inc(count)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
