"""Indicators that need no instrumentation: Envoy, in front of every service, has counted.

Written as `indicatorRef: availability` or `indicatorRef: latency-250ms`, or in full as a metric source of type
`santiago`. Failed are answers with 5xx, the proxy's own among them; latency is that of whole answers.
"""

from __future__ import annotations

import re

from ...domain import promql
from ...domain.slo import Events

SIGNAL_TYPE = "santiago"
AVAILABILITY, LATENCY = "availability", "latency"

# The edges of Envoy's histograms. A threshold between two of them could only be guessed.
EDGES_MS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000)


def signal_of(name: str) -> tuple[str, int] | None:
    """The signal, and for latency the threshold in milliseconds. None for a name that is none."""
    if name == AVAILABILITY:
        return name, 0
    found = re.fullmatch(rf"{LATENCY}-(\d+(?:\.\d+)?)(ms|s)", name)
    if found is None:
        return None
    milliseconds = float(found[1]) * (1000 if found[2] == "s" else 1)
    return (LATENCY, int(milliseconds)) if milliseconds in EDGES_MS else None


def signal_events(signal: tuple[str, int] | None, service: str, environment: str) -> Events:
    """signal: as `signal_of` gives it. All versions together: users do not care which one served them."""
    if signal is None:
        raise ValueError("this is no signal")

    def of(metric: str, **more: str) -> str:
        labels = {"service": service, "environment": environment, **more}
        return promql.series(f"envoy_cluster_external_upstream_rq_{metric}", labels)

    name, milliseconds = signal
    if name == AVAILABILITY:
        return Events(bad=of("xx", envoy_response_code_class="5"), total=of("completed"))
    edge = f'le=~"{milliseconds}(\\\\.0)?"}}'  # Prometheus writes 250 up to version 2, and 250.0 since
    return Events(good=of("time_bucket")[:-1] + f",{edge}", total=of("time_count"))
