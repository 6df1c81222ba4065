"""The platform itself: its tool calls, its loops, its ingress, and what it takes."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from .panel import BYTES, RATIO, REQUESTS, SECONDS, SHORT, board, graph, number, row

WINDOW = "$__rate_interval"
_INGRESS = 'envoy_http_conn_manager_prefix="ingress"'


def _quantile(share: float, metric: str, by: str) -> str:
    """by: a label beside `le`; empty for none."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket[{WINDOW}])))"


def server() -> Dashboard:
    calls = f"rate(santiago_tool_calls_total[{WINDOW}])"
    failed = f'rate(santiago_tool_calls_total{{outcome=~"internal|unavailable|data_corrupt"}}[{WINDOW}])'
    return (
        board("platform", "Santiago / Platform", "Tool calls, loops, ingress and resources of the platform itself.")
        .with_panel(number("Up", SHORT, 'min(up{job="daemon"})', edges=(1, 0.5)))
        .with_panel(number("Tool calls", REQUESTS, f"sum({calls})"))
        .with_panel(
            number(
                "Failed",
                RATIO,
                f"(sum({failed}) or vector(0)) / sum({calls})",
                says="What the platform itself could not do; refusals are none.",
                edges=(0.01, 0.05),
            )
        )
        .with_panel(
            number("Tool calls p95", SECONDS, _quantile(0.95, "santiago_tool_call_seconds", ""), edges=(0.25, 0.5))
        )
        .with_panel(number("Envoys", SHORT, "sum(envoy_server_live)", edges=(2, 1)))
        .with_panel(number("Targets down", SHORT, "count(up == 0) or vector(0)", edges=(1, 3)))
        .with_row(row("Tools"))
        .with_panel(graph("Calls by tool", REQUESTS, (f"sum by (tool) ({calls})", "{{tool}}")))
        .with_panel(graph("Calls by outcome", REQUESTS, (f"sum by (outcome) ({calls})", "{{outcome}}")))
        .with_panel(graph("p95 by tool", SECONDS, (_quantile(0.95, "santiago_tool_call_seconds", "tool"), "{{tool}}")))
        .with_row(row("Loops"))
        .with_panel(
            graph(
                "Passes",
                REQUESTS,
                (f"sum by (loop, outcome) (rate(santiago_reconcile_passes_total[{WINDOW}]))", "{{loop}} {{outcome}}"),
            )
        )
        .with_panel(
            graph("p95 of a pass", SECONDS, (_quantile(0.95, "santiago_reconcile_pass_seconds", "loop"), "{{loop}}"))
        )
        .with_panel(
            graph(
                "Jobs and alerts",
                SHORT,
                (f"sum by (state) (increase(santiago_job_runs_total[{WINDOW}]))", "jobs {{state}}"),
                (f"sum by (status) (increase(santiago_alerts_received_total[{WINDOW}]))", "alerts {{status}}"),
            )
        )
        .with_row(row("Ingress"))
        .with_panel(
            graph(
                "Requests",
                REQUESTS,
                (f"sum by (envoy) (rate(envoy_http_downstream_rq_completed{{{_INGRESS}}}[{WINDOW}]))", "{{envoy}}"),
            )
        )
        .with_panel(
            graph(
                "Answers by class",
                REQUESTS,
                (
                    f"sum by (envoy_response_code_class) (rate(envoy_http_downstream_rq_xx{{{_INGRESS}}}[{WINDOW}]))",
                    "{{envoy_response_code_class}}xx",
                ),
            )
        )
        .with_panel(
            graph(
                "Connections",
                SHORT,
                (f"sum by (envoy) (envoy_http_downstream_cx_active{{{_INGRESS}}})", "{{envoy}}"),
            )
        )
        .with_row(row("Resources"))
        .with_panel(graph("Processor", RATIO, (f'rate(process_cpu_seconds_total{{job="daemon"}}[{WINDOW}])', "daemon")))
        .with_panel(
            graph(
                "Memory",
                BYTES,
                ('process_resident_memory_bytes{job="daemon"}', "daemon"),
                ("envoy_server_memory_allocated", "{{envoy}}"),
            )
        )
        .with_panel(graph("Open files", SHORT, ('process_open_fds{job="daemon"}', "daemon")))
    )
