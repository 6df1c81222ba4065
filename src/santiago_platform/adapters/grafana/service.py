"""One service: its golden signals by version, its rollouts, and what is left of its error budget."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from ...domain.slo_rules import OBJECTIVE, REMAINING, SLI
from .panel import RATIO, REQUESTS, SECONDS, SHORT, board, graph, mark, number, row, variable

HERE = 'service="$service",environment="$environment"'
WINDOW = "$__rate_interval"


def _of(metric: str, *more: str) -> str:
    return f"envoy_cluster_{metric}{{{','.join((HERE, *more))}}}"


def _by_version(expression: str) -> str:
    return f"sum by (version) (rate({expression}[{WINDOW}]))"


def _quantile(share: float) -> str:
    bucket = _of("external_upstream_rq_time_bucket")
    return f"histogram_quantile({share}, sum by (version, le) (rate({bucket}[{WINDOW}]))) / 1000"


def _present(offset: str = "") -> str:
    return f"group by (version) ({_of('membership_total')}{offset} > 0)"


def service() -> Dashboard:
    """Errors are answers of class 5xx, as the ingress counted them: a service needs no instrumentation of its own."""
    completed = _of("external_upstream_rq_completed")
    failed = _of("external_upstream_rq_xx", 'envoy_response_code_class="5"')
    slo = f"{{{HERE}}}"
    made = board(
        "service",
        "Santiago / Service",
        "Golden signals by version, rollouts, SLOs and error budgets of one service in one environment.",
        variable("environment", "Environment", "envoy_cluster_membership_total"),
        variable("service", "Service", 'envoy_cluster_membership_total{environment="$environment"}'),
    )
    made = made.annotations(
        [
            mark("Version comes", f"{_present()} unless {_present(' offset 1m')}", "version {{version}} comes", "blue"),
            mark("Version goes", f"{_present(' offset 1m')} unless {_present()}", "version {{version}} goes", "orange"),
        ]
    )
    return (
        made.with_panel(number("Requests", REQUESTS, f"sum(rate({completed}[{WINDOW}]))"))
        .with_panel(
            number(
                "Errors",
                RATIO,
                f"(sum(rate({failed}[{WINDOW}])) or vector(0)) / sum(rate({completed}[{WINDOW}]))",
                edges=(0.01, 0.05),
            )
        )
        .with_panel(
            number(
                "p95",
                SECONDS,
                "histogram_quantile(0.95, sum by (le) "
                f"(rate({_of('external_upstream_rq_time_bucket')}[{WINDOW}]))) / 1000",
            )
        )
        .with_panel(number("Healthy instances", SHORT, f"max(sum by (envoy) ({_of('membership_healthy')}))"))
        .with_panel(
            number(
                "Error budget left",
                RATIO,
                f"min({REMAINING}{slo})",
                says="Of the SLO that has the least left.",
                edges=(0.25, 0),
            )
        )
        .with_panel(number("Alerts", SHORT, f'count(ALERTS{{{HERE},alertstate="firing"}}) or vector(0)', edges=(1, 2)))
        .with_row(row("Golden signals by version"))
        .with_panel(graph("Traffic", REQUESTS, (_by_version(completed), "{{version}}")))
        .with_panel(
            graph(
                "Errors",
                RATIO,
                (f"({_by_version(failed)} or {_by_version(completed)} * 0) / {_by_version(completed)}", "{{version}}"),
                says="Share of answers of class 5xx.",
            )
        )
        .with_panel(
            graph(
                "Latency",
                SECONDS,
                (_quantile(0.5), "p50 {{version}}"),
                (_quantile(0.95), "p95 {{version}}"),
                (_quantile(0.99), "p99 {{version}}"),
            )
        )
        .with_panel(
            graph(
                "Saturation",
                SHORT,
                (f"sum by (version) ({_of('upstream_rq_active')})", "{{version}}"),
                says="Requests in flight.",
            )
        )
        .with_panel(
            graph(
                "Instances",
                SHORT,
                (f"max by (version) (sum by (version, envoy) ({_of('membership_healthy')}))", "{{version}} healthy"),
                (f"max by (version) (sum by (version, envoy) ({_of('membership_total')}))", "{{version}} all"),
            )
        )
        .with_panel(
            graph(
                "What the ingress mended",
                REQUESTS,
                (_by_version(_of("upstream_rq_retry")), "retries {{version}}"),
                (_by_version(_of("upstream_rq_timeout")), "time-outs {{version}}"),
                (_by_version(_of("upstream_cx_connect_fail")), "refused {{version}}"),
            )
        )
        .with_row(row("Service level objectives"))
        .with_panel(
            graph(
                "Service level and objective",
                RATIO,
                (f"{SLI}{slo}", "{{slo}}"),
                (f"{OBJECTIVE}{slo}", "{{slo}} objective"),
                width=12,
                from_zero=False,
            )
        )
        .with_panel(
            graph(
                "Error budget left",
                RATIO,
                (f"{REMAINING}{slo}", "{{slo}}"),
                width=12,
                from_zero=False,
            )
        )
    )
