"""The contract of what ports.traffic.Traffic counts: as many as clients saw, no more and no fewer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from ..domain.counters import Counters, Delta, deltas
from ..domain.route import Mirror
from ..ports.traffic import Traffic
from .canary import ALWAYS, canary, follow
from .eventually import eventually
from .traffic import ENVIRONMENT, SERVICE
from .upstream import Upstream

Start = Callable[..., Awaitable[Upstream]]


class Clients(Protocol):
    """What clients do to v1, or to v2 by its match, one after the other."""

    async def succeed(self, version: str, times: int) -> None: ...

    async def fail(self, version: str, times: int) -> None:
        """The version answers 500."""

    async def be_repeated(self, version: str, times: int) -> None:
        """The version breaks off before its answer, and the next try succeeds."""

    async def be_refused(self, version: str, times: int) -> None:
        """The version breaks off a request that may not be repeated: the proxy answers 503."""

    async def be_cut(self, version: str, times: int) -> None:
        """The version breaks off within its answer."""

    async def give_up(self, version: str, times: int) -> None:
        """The version does not answer, and the client leaves."""


class CountersContract:
    """Fixtures: `traffic`; `pair`, the endpoints' upstreams of v1 and v2; `clients`; `restart`, which restarts one
    proxy."""

    async def _settled(
        self, traffic: Traffic, before: tuple[Counters, ...], wanted: dict[str, Delta], *, mirrored: bool = False
    ) -> None:
        """The differences become as wanted, apart from latencies, and stay so."""

        async def found() -> dict[str, Delta] | None:
            gained = deltas(before, await traffic.counters(SERVICE, ENVIRONMENT), mirrored=mirrored)
            return gained and {v: c.model_copy(update={"within": ()}) for v, c in gained.items()}

        await eventually(found, lambda gained: gained == wanted)
        assert await found() == wanted

    async def test_each_kind_of_failure_is_counted_exactly(
        self, traffic: Traffic, pair: tuple[Upstream, Upstream], clients: Clients
    ) -> None:
        await follow(traffic, canary(*pair, matches=(ALWAYS,)))
        before = await traffic.counters(SERVICE, ENVIRONMENT)
        expected = {"v1": Delta(), "v2": Delta()}

        def expect(version: str, requests: int, errors: int, abandoned: int = 0) -> None:
            was = expected[version]
            expected[version] = Delta(
                requests=was.requests + requests, errors=was.errors + errors, abandoned=was.abandoned + abandoned
            )

        for version, times in (("v1", 3), ("v2", 2)):
            await clients.succeed(version, 5 * times)
            expect(version, 5 * times, 0)
            await self._settled(traffic, before, expected)
            await clients.fail(version, times)
            expect(version, times, times)
            await self._settled(traffic, before, expected)
            await clients.be_repeated(version, times)
            expect(version, 2 * times, times)
            await self._settled(traffic, before, expected)
            await clients.be_refused(version, times)
            expect(version, times, times)
            await self._settled(traffic, before, expected)
            await clients.be_cut(version, times)
            expect(version, times, times)
            await self._settled(traffic, before, expected)
            await clients.give_up(version, times)
            expect(version, 0, 0, times)
            await self._settled(traffic, before, expected)

    async def test_latencies_follow_and_say_of_how_many_they_are(
        self, traffic: Traffic, pair: tuple[Upstream, Upstream], clients: Clients
    ) -> None:
        await follow(traffic, canary(*pair, matches=(ALWAYS,)))
        before = await traffic.counters(SERVICE, ENVIRONMENT)
        await clients.succeed("v2", 7)

        async def of_v2() -> Delta | None:
            return (deltas(before, await traffic.counters(SERVICE, ENVIRONMENT)) or {}).get("v2")

        found = await eventually(of_v2, lambda c: c is not None and c.measured == 7)
        assert found is not None
        assert found.within[-1] == (3600.0, 7)
        counts = [n for _, n in found.within]
        assert counts == sorted(counts)
        assert found.slower(3600.0) == 0
        assert found.slower(0.1234) is None

    async def test_copies_are_counted_apart(
        self, traffic: Traffic, pair: tuple[Upstream, Upstream], clients: Clients
    ) -> None:
        await follow(traffic, canary(*pair, mirror=Mirror(version="v2", percent=100)))
        before = await traffic.counters(SERVICE, ENVIRONMENT)
        await clients.succeed("v1", 4)
        await self._settled(traffic, before, {"v1": Delta(requests=4), "v2": Delta()})
        await self._settled(traffic, before, {"v2": Delta(requests=4)}, mirrored=True)
        pair[1].status = 500
        await clients.succeed("v1", 2)
        await self._settled(traffic, before, {"v1": Delta(requests=6), "v2": Delta()})
        await self._settled(traffic, before, {"v2": Delta(requests=6, errors=2)}, mirrored=True)

    async def test_a_proxy_that_restarts_makes_the_interval_unusable_and_the_next_one_not(
        self,
        traffic: Traffic,
        pair: tuple[Upstream, Upstream],
        clients: Clients,
        restart: Callable[[], Awaitable[None]],
    ) -> None:
        wanted = canary(*pair, matches=(ALWAYS,))
        await follow(traffic, wanted)
        await clients.succeed("v1", 6)
        before = await traffic.counters(SERVICE, ENVIRONMENT)
        await restart()
        await follow(traffic, wanted)
        after = await traffic.counters(SERVICE, ENVIRONMENT)
        assert len(after) == len(before) == 2
        assert deltas(before, after) is None
        await clients.succeed("v1", 3)
        await self._settled(traffic, after, {"v1": Delta(requests=3), "v2": Delta()})

    async def test_of_a_service_that_nobody_knows_nothing_is_counted(self, traffic: Traffic) -> None:
        assert [c.counts for c in await traffic.counters("nobody", ENVIRONMENT)] == [(), ()]

    async def test_a_version_goes_on_counting_while_its_instances_change(
        self, traffic: Traffic, pair: tuple[Upstream, Upstream], clients: Clients
    ) -> None:
        wanted = canary(*pair, matches=(ALWAYS,))
        await follow(traffic, wanted)
        before = await traffic.counters(SERVICE, ENVIRONMENT)
        await clients.succeed("v1", 3)
        old, new = wanted.backends
        renamed = [e.model_copy(update={"instance": f"{e.instance}0"}) for e in old.endpoints]
        other = old.model_copy(update={"endpoints": tuple(renamed)})
        await follow(traffic, wanted.model_copy(update={"backends": (other, new)}))
        await clients.succeed("v1", 2)
        await self._settled(traffic, before, {"v1": Delta(requests=5), "v2": Delta()})
