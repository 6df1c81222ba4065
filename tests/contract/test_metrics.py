from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from santiago_platform.adapters.fake.observability import FakeMetrics
from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local.envoy import EnvoyTraffic
from santiago_platform.adapters.local.prometheus import PrometheusConfig, PrometheusMetrics, prometheus_command
from santiago_platform.domain.counters import Delta, Histogram, buckets
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.signal import Series, Signal
from santiago_platform.domain.slo_proposal import Shown
from santiago_platform.testing import load
from santiago_platform.testing.envoy_pair import EnvoyPair
from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.metrics import BAD_EXPRESSION, MetricsContract, target
from santiago_platform.testing.traffic import IngressContract, Load, backend, followed, route, seen
from santiago_platform.testing.upstream import Upstream


class TestFakeMetrics(MetricsContract):
    @pytest.fixture
    def metrics(self) -> FakeMetrics:
        fake = FakeMetrics()
        fake.refused = {BAD_EXPRESSION}
        return fake

    @pytest.fixture
    def unanswering(self) -> FakeMetrics:
        fake = FakeMetrics()
        fake.down = True
        return fake


@pytest.fixture(scope="module")
def config(envoys: EnvoyPair, free_port: Callable[[], int]) -> PrometheusConfig:
    config = PrometheusConfig(envoys.layout, envoys.stats_ports, free_port(), free_port())
    config.write()
    return config


@pytest.fixture(scope="module")
def port(config: PrometheusConfig, binary: Callable[[str], Path], free_port: Callable[[], int]) -> Iterator[int]:
    """Of a running Prometheus."""
    port = free_port()
    process = subprocess.Popen(
        prometheus_command(config.layout, binary("prometheus"), port=port), stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 15
    while True:
        try:
            if httpx2.get(f"http://127.0.0.1:{port}/-/ready").status_code == 200:
                break
        except httpx2.HTTPError:
            pass
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    yield port
    process.kill()
    process.wait()


class TestPrometheusMetrics(MetricsContract):
    @pytest.fixture
    async def metrics(self, config: PrometheusConfig, port: int) -> AsyncIterator[PrometheusMetrics]:
        metrics = PrometheusMetrics(config, port)
        yield metrics
        await metrics.close()

    @pytest.fixture
    async def unanswering(self, tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[PrometheusMetrics]:
        nowhere = PrometheusConfig(Layout.of(tmp_path), {}, free_port(), free_port())
        metrics = PrometheusMetrics(nowhere, free_port())
        yield metrics
        await metrics.close()

    def test_promtool_likes_the_configuration(self, config: PrometheusConfig, binary: Callable[[str], Path]) -> None:
        checked = subprocess.run([binary("promtool"), "check", "config", config.file], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr

    async def test_no_more_series_than_the_limit_come_back(self, metrics: PrometheusMetrics) -> None:
        async def ask() -> list[Series]:
            now = time.time()
            return await metrics.query('{job="envoy"}', start=now, end=now, step=1, limit=3)

        assert len(await eventually(ask)) == 3

    async def test_not_a_number_is_no_point_and_a_scalar_is_a_series(self, metrics: PrometheusMetrics) -> None:
        now = time.time()
        (series,) = await metrics.query("vector(0) / 0", start=now, end=now, step=1, limit=10)
        assert series.points == ()
        (series,) = await metrics.query("1 + 1", start=now, end=now, step=1, limit=10)
        assert [p.value for p in series.points] == [2.0]
        with pytest.raises(PlatformError) as caught:
            await metrics.query('"text"', start=now, end=now, step=1, limit=10)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT

    async def test_a_range_has_a_point_a_step(self, metrics: PrometheusMetrics) -> None:
        (series,) = await metrics.query("vector(7)", start=1_000_000, end=1_000_060, step=20, limit=10)
        assert [(p.at, p.value) for p in series.points] == [(1_000_000 + 20 * n, 7.0) for n in range(4)]

    async def test_equal_targets_write_nothing_and_rules_that_are_wrong_are_told(
        self, metrics: PrometheusMetrics, config: PrometheusConfig
    ) -> None:
        await metrics.scrape([target(0), target(1)])
        before = config.file.stat()
        await metrics.scrape([target(1), target(0)])
        assert (config.file.stat().st_ino, config.file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        broken = config.layout.prometheus / "rules" / "broken.yaml"
        broken.write_text("groups: 7\n")
        with pytest.raises(PlatformError) as caught:
            await metrics.scrape([])
        assert caught.value.code is ErrorCode.FAILED_PRECONDITION
        broken.unlink()
        await metrics.scrape([])

    async def test_a_service_does_not_count_by_what_it_is_judged(
        self, metrics: PrometheusMetrics, upstream: Callable[..., Awaitable[Upstream]]
    ) -> None:
        service = await upstream("v9")
        forged = ('slo:sli:ratio{slo="availability"} 1', 'envoy_cluster_endpoint_rq_total{cluster="x",envoy="y"} 9')
        service.metrics = "\n".join((*forged, 'ALERTS{alertname="x"} 1', 'jobs_total{service="bank"} 7', ""))
        await metrics.scrape([target(9, f"127.0.0.1:{service.endpoint().port}")])

        async def shown() -> set[str]:
            now = time.time()
            found = await metrics.query('{job="instances",service="web"}', start=now, end=now, step=1, limit=50)
            return {s.labels["__name__"] for s in found if s.points}

        names = await eventually(shown, lambda names: "jobs_total" in names, 15)
        assert {name for name in names if not name.startswith("scrape_")} == {"jobs_total", "up"}
        await metrics.scrape([])

    async def test_the_signals_of_a_version_are_what_clients_saw(
        self,
        metrics: PrometheusMetrics,
        envoys: EnvoyPair,
        envoy_traffic: EnvoyTraffic,
        upstream: Callable[..., Awaitable[Upstream]],
    ) -> None:
        good, bad = await upstream("v1"), await upstream("v2")
        bad.status = 500
        await envoy_traffic.apply(route(backend("v1", 1, good.endpoint()), backend("v2", 1, bad.endpoint())))
        await seen(envoy_traffic, followed(2))

        async def last(signal: Signal) -> dict[str, float]:
            now = time.time()
            asked = metrics.expression(signal, "web", "production", None)
            found = await metrics.query(asked, start=now, end=now, step=1, limit=10)
            return {s.labels["version"]: s.points[-1].value for s in found if s.points}

        async with Load(envoys.ingress_port).running() as load:
            await load.wait(200)
            # What other tests sent to these versions is in the window at first.
            await eventually(lambda: last(Signal.ERRORS), lambda r: r == {"v1": 0.0, "v2": 1.0}, 30)
            await eventually(lambda: last(Signal.TRAFFIC), lambda r: r.get("v1", 0) > 1, 20)
            latencies = await eventually(lambda: last(Signal.LATENCY), lambda r: "v1" in r, 20)
            assert 0 < latencies["v1"] < 1
            assert (await last(Signal.SATURATION)).keys() == {"v1", "v2"}

        async def shown() -> Shown:
            now = time.time()
            return await metrics.shown("web", "production", start=now - 14 * 86400, end=now)

        found = await eventually(shown, lambda s: s.requests >= 200 and s.within and s.within[-1][1] >= 200, 20)
        assert 0 < found.errors < found.requests
        one = await metrics.query(
            metrics.expression(Signal.ERRORS, "web", "production", "v2"),
            start=time.time(),
            end=time.time(),
            step=1,
            limit=10,
        )
        assert len(one) <= 1

    async def test_the_history_has_every_request_of_every_instance_while_instances_come_and_go(
        self,
        metrics: PrometheusMetrics,
        envoys: EnvoyPair,
        envoy_traffic: EnvoyTraffic,
        upstream: Callable[..., Awaitable[Upstream]],
    ) -> None:
        good, bad, late = [await upstream("v5", index) for index in range(3)]
        bad.status = 500
        began = time.time() // 1 - 1

        async def history(version: str = "v5") -> dict[str, tuple[Delta | None, ...]]:
            span = {"start": began, "end": time.time() // 1, "bucket_seconds": 1.0}
            return buckets(await metrics.history("web", "production", version, **span))

        async def sums() -> dict[str, tuple[int, int]]:
            known = {i: [c for c in counts if c is not None] for i, counts in (await history()).items()}
            return {i: (sum(c.requests for c in each), sum(c.errors for c in each)) for i, each in known.items()}

        async def known(*upstreams: Upstream) -> None:
            """From now on each is, through both Envoys."""
            names = {u.instance for u in upstreams}
            await eventually(history, lambda found: found.keys() == names and all(c[-1] for c in found.values()))

        def wanted(*upstreams: Upstream) -> dict[str, tuple[int, int]]:
            return {u.instance: (u.requests, u.requests if u.status == 500 else 0) for u in upstreams}

        async def requests() -> None:
            """150 or more, each of which is answered."""
            async with load.Load(envoys.ingress_port, "web.production.localhost", pause_seconds=0) as tally:

                async def sent() -> int:
                    return tally.sent

                await eventually(sent, lambda n: n >= 150)

        await envoy_traffic.apply(route(backend("v5", 1, good.endpoint(), bad.endpoint())))
        await seen(envoy_traffic, followed(2))
        await known(good, bad)
        await requests()
        # A request in flight keeps the former cluster, which counts beside the one that takes its place.
        held = asyncio.create_task(IngressContract().ask(envoys.ingress_port, path="/hold"))
        await seen(envoy_traffic, lambda s: sum(s.active_requests.values()) == 1)
        assert bad.requests > 0
        await eventually(sums, lambda found: found == wanted(good, bad))
        bad.status, failed = 200, bad.requests
        await envoy_traffic.apply(route(backend("v5", 1, *(u.endpoint() for u in (good, bad, late)))))
        await seen(envoy_traffic, lambda s: s.acknowledged and len(s.healthy) == 3)
        await known(good, bad, late)
        await requests()
        assert late.requests > 0
        found = await eventually(
            sums, lambda found: found == {**wanted(good, late), bad.instance: (bad.requests, failed)}
        )
        for one in (good, bad):
            one.release.set()
        await held
        await seen(envoy_traffic, lambda s: sum(s.active_requests.values()) == 0)
        assert await sums() == found

        async def measured() -> Histogram:
            return await metrics.latencies("web", "production", "v5", start=began, end=time.time())

        latencies = await eventually(measured, lambda h: h and h[-1][1] > 100)
        assert [n for _, n in latencies] == sorted(n for _, n in latencies)
        assert latencies[-1][0] == 3600.0

    async def test_an_instance_that_exposes_metrics_is_scraped_with_its_labels(
        self, metrics: PrometheusMetrics, upstream: Callable[..., Awaitable[Upstream]]
    ) -> None:
        plain, exposing = await upstream("v1", 3), await upstream("v1", 4)
        exposing.metrics = 'jobs_total{service="another"} 7\n'
        addresses = [f"{u.endpoint().host}:{u.endpoint().port}" for u in (plain, exposing)]
        assert [await metrics.exposes(address) for address in addresses] == [False, True]
        await metrics.scrape([target(4, address=addresses[1])])

        async def jobs() -> list[Series]:
            now = time.time()
            return await metrics.query("jobs_total", start=now, end=now, step=1, limit=10)

        (series,) = await eventually(jobs, seconds=20)
        assert series.points[0].value == 7
        assert series.labels["exported_service"] == "another"
        wanted = {"service": "web", "environment": "production", "version": "v1", "instance": "web__production__v1__4"}
        assert {k: series.labels[k] for k in wanted} == wanted
        await metrics.scrape([])
