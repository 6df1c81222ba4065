from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from santiago_platform.adapters.evidence import files as evidence_files
from santiago_platform.adapters.evidence.files import EvidenceFiles
from santiago_platform.adapters.fake.compute import FakeCompute
from santiago_platform.adapters.fake.probe import FakeProbe
from santiago_platform.adapters.fake.traffic import FakeTraffic
from santiago_platform.adapters.layout import ENVOYS, WORKSPACE_VARIABLE, Layout
from santiago_platform.adapters.local import envoy_routes
from santiago_platform.adapters.local.envoy import EnvoyTraffic
from santiago_platform.adapters.local.probe import LocalProbe
from santiago_platform.domain.effect import rules_text
from santiago_platform.domain.evidence import kept_as
from santiago_platform.domain.proof import Verdict
from santiago_platform.domain.route import Endpoint, Match, Mirror, Route
from santiago_platform.domain.workload import Instance, Template
from santiago_platform.testing.canary import canary, follow
from santiago_platform.testing.connections import grpc
from santiago_platform.testing.envoy_pair import EnvoyPair
from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.grpc import GrpcUpstream
from santiago_platform.testing.probe import BACK, CANARY, WHERE, ProbeContract, claim, proof
from santiago_platform.testing.traffic import backend, followed, route, seen
from santiago_platform.testing.upstream import Upstream


class _Named(Template):
    """A template whose version is its release, so that the contract's versions have instances."""

    @property
    def version(self) -> str:
        return self.release


class FakeWorld:
    def __init__(self) -> None:
        self.compute = FakeCompute()
        self.traffic = FakeTraffic()
        self.probe = FakeProbe(self.compute, self.traffic)

    def _instance(self, version: str, index: int) -> Instance:
        template = _Named(
            service="web", environment="production", tenant="default", release=version, command=("./run",)
        )
        return Instance.model_construct(template=template, index=index)

    async def run(self, version: str, count: int) -> None:
        for index in range(10):
            instance = self._instance(version, index)
            await (self.compute.start(instance) if index < count else self.compute.stop(instance.id))

    async def direct(self, **weights: int) -> None:
        endpoint = "web__production__{}__0"
        backends = [
            backend(v, w, Endpoint(instance=endpoint.format(v), host="127.0.0.1", port=1)) for v, w in weights.items()
        ]
        await self.traffic.apply(route(*backends))

    async def rule(self, **rules: Any) -> None:
        await self.direct(v1=1, v2=0)
        (plain,) = self.traffic.routes.values()
        await self.traffic.apply(plain.model_copy(update=rules))

    async def blind(self) -> None:
        self.probe.blind = True


class TestFakeProbe(ProbeContract):
    @pytest.fixture
    def world(self) -> FakeWorld:
        return FakeWorld()

    @pytest.fixture
    def probe(self, world: FakeWorld) -> FakeProbe:
        return world.probe


class LocalWorld:
    """Routes of the real Envoys, upstreams within the test, and processes that bear the marks of instances."""

    def __init__(self, envoys: EnvoyPair, traffic: EnvoyTraffic, upstream: Callable[..., Awaitable[Upstream]]) -> None:
        self.envoys = envoys
        self.traffic = traffic
        self.upstreams: dict[str, Upstream] = {}
        self._start = upstream
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._blind = False

    async def run(self, version: str, count: int) -> None:
        for index in range(10):
            name = f"web__production__{version}__{index}"
            if index < count and name not in self._processes:
                marks = {WORKSPACE_VARIABLE: self.envoys.layout.id, "SANTIAGO_INSTANCE": name}
                self._processes[name] = self.process(marks)
            elif index >= count and name in self._processes:
                self.end(self._processes.pop(name))

    async def direct(self, **weights: int) -> None:
        for version in weights:
            self.upstreams[version] = await self._start(version)
        await self.traffic.apply(route(*(backend(v, w, self.upstreams[v].endpoint()) for v, w in weights.items())))
        await seen(self.traffic, followed(len(weights)))

    async def rule(self, **rules: Any) -> None:
        for version in ("v1", "v2"):
            self.upstreams[version] = await self._start(version)
        await follow(self.traffic, canary(self.upstreams["v1"], self.upstreams["v2"], **rules))

    async def blind(self) -> None:
        self._blind = True
        for name in ENVOYS:
            self.envoys.kill(name)

    def process(self, marks: dict[str, str]) -> subprocess.Popen[bytes]:
        code = "import sys; print(flush=True); sys.stdin.read()"
        process = subprocess.Popen(
            [sys.executable, "-c", code], env={**os.environ, **marks}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.communicate()

    def close(self) -> None:
        for process in self._processes.values():
            self.end(process)
        if self._blind:
            self.envoys.start()


class TestLocalProbe(ProbeContract):
    @pytest.fixture
    async def world(
        self, envoys: EnvoyPair, envoy_traffic: EnvoyTraffic, upstream: Callable[..., Awaitable[Upstream]]
    ) -> AsyncIterator[LocalWorld]:
        world = LocalWorld(envoys, envoy_traffic, upstream)
        yield world
        world.close()

    @pytest.fixture
    def probe(self, layout: Layout, envoys: EnvoyPair) -> LocalProbe:
        return LocalProbe(layout, envoys.ingress_port)

    async def test_traffic_that_says_done_and_does_nothing_is_drift(
        self, probe: LocalProbe, world: LocalWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def lie(route: Route) -> None:
            pass

        await world.direct(v1=1)
        monkeypatch.setattr(world.traffic, "apply", lie)
        await world.traffic.apply(route(backend("v2", 1, (world.upstreams["v1"]).endpoint())))
        found = await proof(probe, claim(f"route {WHERE}", "v2=100.0%"), claim(f"serves {WHERE}", "v2"))
        assert found.verdict is Verdict.DRIFT
        assert {e.observed for e in found.evidence} == {"v1=100.0%", "v1"}

    @pytest.mark.parametrize("lie", ["value", "method", "nothing", "cookie", "share", "order", "leftover", "retries"])
    async def test_a_writer_that_lies_about_a_rule_is_drift(
        self, probe: LocalProbe, world: LocalWorld, monkeypatch: pytest.MonkeyPatch, lie: str
    ) -> None:
        mirror, claimed, applied = Mirror(version="v2", percent=50), (CANARY, BACK), (CANARY, BACK)
        stay = {"sticky": True, "retries_elsewhere": False}
        honest = vars(envoy_routes).copy()
        match lie:
            case "value":
                other = Match(version="v2", header=("x-canary", "other"))
                monkeypatch.setattr(envoy_routes, "_conditions", lambda _: honest["_conditions"](other))
            case "method":
                monkeypatch.setattr(
                    envoy_routes,
                    "_forwards",
                    lambda host: [
                        r for r in honest["_forwards"](host) if "GET" in str(r["match"]) or "cookie" in str(r)
                    ],
                )
                claimed = applied = (CANARY,)
            case "nothing":
                monkeypatch.setattr(
                    envoy_routes,
                    "_forwards",
                    lambda host: honest["_forwards"](host.model_copy(update={"matches": ()})),
                )
            case "cookie":
                monkeypatch.setattr(envoy_routes, "_set_cookie", lambda _: honest["_set_cookie"]("other"))
            case "share":
                monkeypatch.setattr(
                    envoy_routes, "_copies", lambda m, c: honest["_copies"](m.model_copy(update={"percent": 5}), c)
                )
            case "order":
                monkeypatch.setattr(envoy_routes, "_forwards", lambda host: honest["_forwards"](host)[::-1])
            case "leftover":
                claimed = ()
            case "retries":
                monkeypatch.setattr(
                    envoy_routes, "_forward", lambda *given, **_: honest["_forward"](*given, refresh=True)
                )
        await world.rule(matches=applied, mirror=mirror, **stay)
        found = await proof(probe, claim(f"rules {WHERE}", rules_text(claimed, mirror, **stay)))
        assert found.verdict is Verdict.DRIFT, found.summary()

    async def test_each_envoy_is_asked_and_one_that_is_down_is_left_out(
        self, probe: LocalProbe, world: LocalWorld
    ) -> None:
        await world.direct(v1=1)
        wanted = claim(f"route {WHERE}", "v1=100.0%")
        assert [o.source for o in await probe.observe([wanted])] == ["envoy-a admin", "envoy-b admin"]
        world.envoys.kill("envoy-a")
        try:
            assert [(o.source, o.value) for o in await probe.observe([wanted])] == [("envoy-b admin", "v1=100.0%")]
        finally:
            world.envoys.start("envoy-a")

    async def test_errors_take_the_place_of_the_version_that_should_answer(
        self, probe: LocalProbe, world: LocalWorld
    ) -> None:
        await world.direct(v1=1)
        world.upstreams["v1"].status = 404
        assert (await proof(probe, claim(f"serves {WHERE}", "v1"))).verdict is Verdict.MATCH
        world.upstreams["v1"].status = 500
        found = await proof(probe, claim(f"serves {WHERE}", "v1"))
        assert found.verdict is Verdict.DRIFT
        assert "500" in str(found.evidence[0].observed)
        await world.upstreams["v1"].stop()
        found = await proof(probe, claim(f"serves {WHERE}", "v1"))
        assert found.evidence[0].observed == "503"

    async def test_a_service_that_answers_calls_of_grpc_alone_is_called(
        self, probe: LocalProbe, world: LocalWorld
    ) -> None:
        upstream = await GrpcUpstream("v1", "web__production__v1__0").start()
        await world.traffic.apply(route(grpc("v1", 1, upstream)))
        await seen(world.traffic, followed(1))
        asked = claim(f"serves {WHERE} h2c", "v1")
        assert (await proof(probe, asked)).verdict is Verdict.MATCH
        await upstream.stop()
        assert (await proof(probe, asked)).evidence[0].observed == "503"

    async def test_processes_of_another_workspace_and_dead_ones_are_not_counted(
        self, probe: LocalProbe, world: LocalWorld
    ) -> None:
        name = "web__production__v3__0"
        stranger = world.process({WORKSPACE_VARIABLE: "another", "SANTIAGO_INSTANCE": name})
        zombie = world.process({WORKSPACE_VARIABLE: world.envoys.layout.id, "SANTIAGO_INSTANCE": name})
        twin = world.process({WORKSPACE_VARIABLE: world.envoys.layout.id, "SANTIAGO_INSTANCE": name})

        async def running() -> str | None:
            return (await probe.observe([claim(f"instances {WHERE} v3", "0")]))[0].value

        try:
            assert await running() == "1"
            twin.kill()
            zombie.kill()
            assert await eventually(running, lambda value: value == "0") == "0"
        finally:
            for process in (stranger, zombie, twin):
                world.end(process)

    async def test_evidence_is_read_back_from_the_disk(
        self, layout: Layout, probe: LocalProbe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        release, content = "sha256:" + "a" * 64, b"<testsuite/>"
        layout.state.mkdir(parents=True, exist_ok=True)
        files, digest = EvidenceFiles(layout.evidence), hashlib.sha256(content).hexdigest()
        asked = claim(f"evidence {release} {digest}", kept_as(len(content), digest))
        assert (await proof(probe, asked)).evidence[0].observed == "absent"
        await files.keep(release, content)
        assert (await proof(probe, asked)).verdict is Verdict.MATCH
        honest = evidence_files._store
        monkeypatch.setattr(evidence_files, "_store", lambda root, place, content: honest(root, place, content[1:]))
        await files.keep(release, content)
        assert (await proof(probe, asked)).verdict is Verdict.DRIFT

    @pytest.mark.parametrize(
        "subject", ["route ../../etc", "route web", "colour web/production", "instances \x00/x v1"]
    )
    async def test_a_subject_that_nobody_knows_cannot_be_looked_at(self, probe: LocalProbe, subject: str) -> None:
        assert [o.value for o in await probe.observe([claim(subject, "x")])] == [None]
