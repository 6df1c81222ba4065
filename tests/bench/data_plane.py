"""What the ingress costs a request: against one plain Envoy before the same service, and against no proxy at all."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from santiago_platform.adapters.layout import ENVOYS

from .figure import Figure
from .proxies import access_log, envoy, retrying_routes
from .service_load import Measured, measure
from .stage import Stage, cpu_seconds, pid_of, post
from .tiny import add_tiny, free_port

ROUNDS = 5
ROUND_SECONDS = 2
CONNECTIONS = (1, 32)
INGRESS, PLAIN, DIRECT = "the ingress", "a plain Envoy", "no proxy"
WHERE = {"service": "plain", "environment": "production"}
HOST = "plain.production.localhost"
QUANTILES = ("p50", "p95", "p99")
NO_DIFFERENCE = 1.1


async def data_plane(stage: Stage) -> list[Figure]:
    """By turns, so that a machine that slows down slows all of them; the ratios are those of the same round."""
    platform = stage.platform
    add_tiny(platform, WHERE["service"], limits=False)
    platform.commit("a service without limits")
    post(platform, "deploy_service", **WHERE, git_ref="HEAD", wait=True)
    (service,) = post(platform, "read_architecture", **WHERE)["services"]
    (version,) = service["versions"]
    instances = [int(instance["address"].rpartition(":")[2]) for instance in version["instances"]]
    figures = []
    with ExitStack() as stack:
        folder, port = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))), free_port()
        plain = stack.enter_context(envoy(folder, port, {**retrying_routes("all"), **access_log()}, {"all": instances}))
        ways = {
            INGRESS: Way(platform.ingress_port, tuple(pid_of(platform, name) for name in ENVOYS)),
            PLAIN: Way(port, (plain,)),
            DIRECT: Way(instances[0], ()),
        }
        for connections in CONNECTIONS:
            rounds: dict[str, list[Passed]] = {name: [] for name in ways}
            for number in range(1, ROUNDS + 1):
                for name, way in ways.items():
                    rounds[name].append(await asyncio.to_thread(_passed, way, connections))
                told = ", ".join(f"{name} {each[-1].load.per_second:,.0f}/s" for name, each in rounds.items())
                stage.tell(f"{connections} connections, round {number} of {ROUNDS}: {told}")
            figures += _figures(connections, rounds)
    return figures


@dataclass(frozen=True)
class Way:
    """To the service. proxies: pids of those on it."""

    port: int
    proxies: tuple[int, ...]


@dataclass(frozen=True)
class Passed:
    """cpu_microseconds: of the proxies, for a request: who else uses the machine changes it less than the rest."""

    load: Measured
    cpu_microseconds: float


def _passed(way: Way, connections: int) -> Passed:
    before = sum(map(cpu_seconds, way.proxies))
    load = measure(way.port, host=HOST, connections=connections, seconds=ROUND_SECONDS)
    return Passed(load, 1e6 * (sum(map(cpu_seconds, way.proxies)) - before) / load.requests)


def _figures(connections: int, rounds: dict[str, list[Passed]]) -> list[Figure]:
    of = f"{connections} connection{'s' if connections > 1 else ''}"
    figures = []
    for name, each in rounds.items():
        waits = "/".join(f"{median(passed.load.milliseconds[q] for passed in each):.2f}" for q in range(len(QUANTILES)))
        rate = median(passed.load.per_second for passed in each)
        cpu = median(passed.cpu_microseconds for passed in each)
        detail = f"{'/'.join(QUANTILES)} {waits} ms" + (f"; {cpu:.0f} us of CPU a request" if cpu else "")
        figures.append(Figure(f"{of} by {name}", rate, "requests/s", detail))
    for q, quantile in enumerate(QUANTILES):
        aim = NO_DIFFERENCE if quantile == "p50" else None
        figures.append(_ratio(f"{of}: {quantile}", rounds, lambda passed, q=q: passed.load.milliseconds[q], aim))
    figures.append(_ratio(f"{of}: CPU a request", rounds, lambda passed: passed.cpu_microseconds))
    return figures


def _ratio(
    what: str, rounds: dict[str, list[Passed]], value: Callable[[Passed], float], at_most: float | None = None
) -> Figure:
    pairs = zip(rounds[INGRESS], rounds[PLAIN], strict=True)
    ratios = [value(ours) / value(plain) for ours, plain in pairs]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds"
    return Figure(f"{what} of {INGRESS}, against {PLAIN}", median(ratios), "", spread, at_most=at_most)
