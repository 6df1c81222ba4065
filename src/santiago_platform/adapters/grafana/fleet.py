"""All services side by side: who has traffic, who fails, who has used up its error budget."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from ...domain.slo_rules import REMAINING
from .panel import RATIO, REQUESTS, SECONDS, SHORT, board, graph, number, row, variable

HERE = 'environment=~"$environment"'
WINDOW = "$__rate_interval"
WHO = "{{service}} {{environment}}"


def _of(metric: str, *more: str) -> str:
    return f"envoy_cluster_{metric}{{{','.join((HERE, *more))}}}"


def _by_service(expression: str) -> str:
    return f"sum by (service, environment) (rate({expression}[{WINDOW}]))"


def fleet() -> Dashboard:
    completed = _of("external_upstream_rq_completed")
    failed = _of("external_upstream_rq_xx", 'envoy_response_code_class="5"')
    share = f"({_by_service(failed)} or {_by_service(completed)} * 0) / {_by_service(completed)}"
    bucket = _of("external_upstream_rq_time_bucket")
    p95 = f"histogram_quantile(0.95, sum by (service, environment, le) (rate({bucket}[{WINDOW}]))) / 1000"
    return (
        board(
            "fleet",
            "Santiago / Fleet",
            "All services: traffic, errors, latency, instances, error budgets and alerts.",
            variable("environment", "Environment", "envoy_cluster_membership_total", every=True),
        )
        .with_panel(
            number("Services", SHORT, f"count(group by (service, environment) ({_of('membership_total')} > 0))")
        )
        .with_panel(number("Requests", REQUESTS, f"sum(rate({completed}[{WINDOW}]))"))
        .with_panel(
            number("Services with errors", SHORT, f"count({share} > 0.01) or vector(0)", edges=(1, 3), says="Over 1%.")
        )
        .with_panel(
            number(
                "Without healthy instances",
                SHORT,
                f"count(max by (service, environment) ({_of('membership_healthy')}) == 0) or vector(0)",
                edges=(1,),
            )
        )
        .with_panel(
            number(
                "Overspent budgets",
                SHORT,
                f"count({REMAINING}{{{HERE}}} < 0) or vector(0)",
                edges=(1,),
            )
        )
        .with_panel(number("Alerts", SHORT, 'count(ALERTS{alertstate="firing"}) or vector(0)', edges=(1, 5)))
        .with_row(row("Signals"))
        .with_panel(graph("Traffic", REQUESTS, (f"topk(10, {_by_service(completed)})", WHO), says="The ten busiest."))
        .with_panel(graph("Errors", RATIO, (f"topk(10, {share})", WHO), says="The ten worst."))
        .with_panel(graph("p95 latency", SECONDS, (f"topk(10, {p95})", WHO), says="The ten slowest."))
        .with_panel(
            graph(
                "Saturation",
                SHORT,
                (f"topk(10, sum by (service, environment) ({_of('upstream_rq_active')}))", WHO),
                says="Requests in flight.",
            )
        )
        .with_panel(
            graph(
                "Unhealthy instances",
                SHORT,
                (
                    f"max by (service, environment) ({_of('membership_total')} - {_of('membership_healthy')})",
                    WHO,
                ),
            )
        )
        .with_panel(
            graph(
                "Versions at once",
                SHORT,
                (
                    f"count by (service, environment) (group by (service, environment, version) "
                    f"({_of('membership_total')} > 0)) > 1",
                    WHO,
                ),
                says="More than one: a rollout goes on, or the version before is kept warm.",
            )
        )
        .with_row(row("Error budgets"))
        .with_panel(
            graph(
                "Error budget left",
                RATIO,
                (f"bottomk(10, {REMAINING}{{{HERE}}})", "{{service}} {{environment}} {{slo}}"),
                says="The ten that have the least.",
                width=24,
                from_zero=False,
            )
        )
    )
