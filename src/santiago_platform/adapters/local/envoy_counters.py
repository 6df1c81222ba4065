"""What an Envoy counts of the versions of a service, read from its statistics: pure functions.

External requests are those of clients, internal ones the copies of a mirror. Envoy's own 503 counts as an answer.

Source of the names: https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/upstream/cluster_manager/cluster_stats
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...domain.counters import Count, Histogram
from .envoy_config import MIRRORED

_NAMES = (
    r"((ex|in)ternal\.upstream_rq_(completed|5xx|time)|upstream_rq_(retry|tx_reset)"
    r"|upstream_cx_(destroy_local_with_active_rq|protocol_error))"
)
_BUCKET = re.compile(r"B([0-9.e+]+)\(\d+,(\d+)\)")


def pattern(service: str, environment: str) -> str:
    """Of the names of all statistics that are needed."""
    return rf"^cluster\.{service}__{environment}__[^.]+\.{_NAMES}$"


def counts(text: str) -> tuple[Count, ...]:
    """text: an answer of `/stats?histogram_buckets=cumulative` about one service."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        name, _, value = line.partition(": ")
        _, statistic, counter = name.split(".", 2)
        found.setdefault(statistic, {})[counter] = value
    return tuple(_count(statistic, values) for statistic, values in sorted(found.items()))


def _count(statistic: str, values: Mapping[str, str]) -> Count:
    def of(name: str) -> int:
        return int(values.get(name, 0))

    mirrored = statistic.endswith(MIRRORED)
    kind = "internal" if mirrored else "external"
    repeated = of("upstream_rq_retry")
    return Count(
        version=statistic.split("__")[2],
        mirrored=mirrored,
        requests=of(f"{kind}.upstream_rq_completed") + repeated,
        # An answer that breaks off is one that was completed with its status, and then violates HTTP.
        errors=of(f"{kind}.upstream_rq_5xx") + repeated + of("upstream_cx_protocol_error"),
        # HTTP/1.1 gives up a connection, HTTP/2 a stream.
        abandoned=of("upstream_cx_destroy_local_with_active_rq") + of("upstream_rq_tx_reset"),
        within=_histogram(values.get(f"{kind}.upstream_rq_time", "")),
    )


def _histogram(text: str) -> Histogram:
    """Of milliseconds."""
    return tuple((float(edge) / 1000, int(cumulative)) for edge, cumulative in _BUCKET.findall(text))
