"""The contract of ports.traffic.Traffic, and of an ingress that real requests pass."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest

from ..domain.errors import ErrorCode, PlatformError
from ..domain.route import Backend, Endpoint, Route, RouteStatus, hostname
from ..ports.traffic import Traffic
from .eventually import eventually
from .upstream import Upstream

Serve = Callable[[str], Awaitable[Endpoint]]
SERVICE = "web"
ENVIRONMENT = "production"


def backend(version: str, weight: int, *endpoints: Endpoint) -> Backend:
    return Backend(version=version, weight=weight, endpoints=endpoints, health_path="/healthz")


def route(*backends: Backend, service: str = SERVICE) -> Route:
    return Route(
        service=service,
        environment=ENVIRONMENT,
        hostnames=(hostname(service, ENVIRONMENT),),
        backends=backends,
    )


async def seen(traffic: Traffic, accept: Callable[[RouteStatus], object], service: str = SERVICE) -> RouteStatus:
    """The status once it is as wanted."""
    return await eventually(lambda: traffic.status(service, ENVIRONMENT), accept)


def followed(healthy: int) -> Callable[[RouteStatus], bool]:
    """So many endpoints are healthy, and every proxy sends requests by the route."""
    return lambda status: len(status.healthy) == healthy and bool(status.weights)


def forgotten(instance: str) -> Callable[[RouteStatus], bool]:
    return lambda status: instance not in status.known


class TrafficContract:
    """Fixtures: `traffic`, without routes; `serve(instance)`, the endpoint of a new and healthy instance; `written`,
    which gives something that differs after each write of a configuration."""

    async def test_a_route_is_followed_as_it_was_applied(self, traffic: Traffic, serve: Serve) -> None:
        one, two = await serve("web__production__v1__0"), await serve("web__production__v2__0")
        await traffic.apply(route(backend("v1", 3, one), backend("v2", 1, two)))
        status = await seen(traffic, followed(2))
        assert status.weights == {"v1": 3, "v2": 1}
        assert status.known == status.healthy == {one.instance, two.instance}
        assert status.active_requests == {one.instance: 0, two.instance: 0}
        assert status.error == ""

    async def test_an_equal_route_writes_nothing(
        self, traffic: Traffic, serve: Serve, written: Callable[[], object]
    ) -> None:
        wanted = route(backend("v1", 1, await serve("web__production__v1__0")))
        await traffic.apply(wanted)
        await seen(traffic, followed(1))
        before = written()
        for _ in range(3):
            await traffic.apply(wanted.model_copy(deep=True))
        assert written() == before

    async def test_a_version_without_weight_is_known_and_healthy_and_gets_nothing(
        self, traffic: Traffic, serve: Serve
    ) -> None:
        one, two = await serve("web__production__v1__0"), await serve("web__production__v2__0")
        await traffic.apply(route(backend("v1", 1, one), backend("v2", 0, two)))
        status = await seen(traffic, followed(2))
        assert status.weights == {"v1": 1}

    async def test_weights_follow_the_last_route(self, traffic: Traffic, serve: Serve) -> None:
        one, two = await serve("web__production__v1__0"), await serve("web__production__v2__0")
        for first, second in ((10, 0), (9, 1), (0, 10)):
            await traffic.apply(route(backend("v1", first, one), backend("v2", second, two)))
            wanted = {v: w for v, w in (("v1", first), ("v2", second)) if w}
            await seen(traffic, lambda s, wanted=wanted: s.weights == wanted)  # type: ignore[misc]

    async def test_a_draining_endpoint_is_not_healthy_and_one_taken_out_becomes_unknown(
        self, traffic: Traffic, serve: Serve
    ) -> None:
        stays, goes = await serve("web__production__v1__0"), await serve("web__production__v1__1")
        await traffic.apply(route(backend("v1", 1, stays, goes)))
        await seen(traffic, followed(2))
        await traffic.apply(route(backend("v1", 1, stays, goes.model_copy(update={"draining": True}))))
        await seen(traffic, lambda s: s.healthy == {stays.instance})
        await traffic.apply(route(backend("v1", 1, stays)))
        status = await seen(traffic, lambda s: s.known == {stays.instance})
        assert status.healthy == {stays.instance}
        assert status.weights == {"v1": 1}

    async def test_a_removed_route_leaves_nothing(self, traffic: Traffic, serve: Serve) -> None:
        await traffic.apply(route(backend("v1", 1, await serve("web__production__v1__0"))))
        await seen(traffic, followed(1))
        await traffic.remove(SERVICE, ENVIRONMENT)
        status = await seen(traffic, lambda s: not s.known and s.weights == {})
        assert status.healthy == frozenset()

    async def test_removing_what_is_unknown_is_no_error(self, traffic: Traffic) -> None:
        await traffic.remove("nobody", ENVIRONMENT)
        assert (await traffic.status("nobody", ENVIRONMENT)).weights == {}

    async def test_a_host_name_of_another_route_is_a_conflict_and_changes_nothing(
        self, traffic: Traffic, serve: Serve
    ) -> None:
        await traffic.apply(route(backend("v1", 1, await serve("web__production__v1__0"))))
        thief = route(backend("v9", 1, await serve("shop__production__v9__0")), service="shop")
        with pytest.raises(PlatformError) as caught:
            await traffic.apply(thief.model_copy(update={"hostnames": (hostname(SERVICE, ENVIRONMENT),)}))
        assert caught.value.code is ErrorCode.CONFLICT
        assert (await traffic.status("shop", ENVIRONMENT)).weights == {}
        await seen(traffic, lambda s: s.weights == {"v1": 1})

    async def test_routes_of_other_services_stay_as_they_are(self, traffic: Traffic, serve: Serve) -> None:
        await traffic.apply(route(backend("v1", 1, await serve("web__production__v1__0"))))
        await traffic.apply(route(backend("v7", 1, await serve("shop__production__v7__0")), service="shop"))
        await traffic.remove("shop", ENVIRONMENT)
        await seen(traffic, lambda s: s.weights == {"v1": 1} and s.healthy)


class Load:
    """Requests without a pause, by clients that keep connections and by clients that do not."""

    def __init__(self, port: int, service: str = SERVICE) -> None:
        self.answers: Counter[str] = Counter()
        self._url = f"http://127.0.0.1:{port}/"
        self._headers = {"host": hostname(service, ENVIRONMENT)}

    @property
    def sent(self) -> int:
        return self.answers.total()

    def failed(self, versions: set[str]) -> dict[str, int]:
        """What was answered by none of the versions."""
        return {answer: n for answer, n in self.answers.items() if answer not in versions}

    async def wait(self, requests: int = 40) -> None:
        """Until so many more were answered."""

        async def sent() -> int:
            return self.sent

        goal = self.sent + requests
        await eventually(sent, lambda n: n >= goal)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        ways = (("GET", 20), ("POST", 20), ("GET", 0))
        tasks = [asyncio.create_task(self._client(method, kept)) for method, kept in ways]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _client(self, method: str, kept: int) -> None:
        transport = httpx2.AsyncHTTPTransport(limits=httpx2.Limits(max_keepalive_connections=kept), verify=False)
        async with httpx2.AsyncClient(transport=transport, headers=self._headers, timeout=10) as client:
            while True:
                try:
                    response = await client.request(method, self._url)
                except httpx2.HTTPError as exc:
                    self.answers[type(exc).__name__] += 1
                else:
                    self.answers[response.text if response.status_code == 200 else str(response.status_code)] += 1


class IngressContract:
    """Fixtures: `traffic`; `upstream(version, index)`, a new Upstream; `ingress`, the port on 127.0.0.1."""

    async def ask(self, ingress: int, host: str = hostname(SERVICE, ENVIRONMENT), **options: object) -> httpx2.Response:
        path = str(options.pop("path", "/"))
        headers = {"host": host, **options.pop("headers", {})}  # type: ignore[dict-item]
        async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=10) as client:
            return await client.get(f"http://127.0.0.1:{ingress}{path}", headers=headers)

    async def test_a_service_is_reached_by_its_host_name_with_a_port_and_in_any_case_too(
        self, traffic: Traffic, upstream: Callable[..., Awaitable[Upstream]], ingress: int
    ) -> None:
        await traffic.apply(route(backend("v1", 1, (await upstream("v1")).endpoint())))
        await seen(traffic, followed(1))
        for host in ("web.production.localhost", "web.production.localhost:8780", "WEB.Production.localhost"):
            answer = await self.ask(ingress, host)
            assert (answer.status_code, answer.text, answer.headers["x-santiago-version"]) == (200, "v1", "v1")

    async def test_an_unknown_host_name_is_told_how_to_address_a_service(self, traffic: Traffic, ingress: int) -> None:
        answer = await self.ask(ingress, "nobody.production.localhost")
        assert answer.status_code == 404
        assert "NAME.ENVIRONMENT.localhost" in answer.text
        assert answer.headers["content-type"] == "text/plain"

    async def test_a_route_without_traffic_says_so(
        self, traffic: Traffic, upstream: Callable[..., Awaitable[Upstream]], ingress: int
    ) -> None:
        await traffic.apply(route(backend("v1", 0, (await upstream("v1")).endpoint())))
        await seen(traffic, lambda s: s.healthy and s.weights == {})
        answer = await self.ask(ingress)
        assert answer.status_code == 503
        assert "no version with traffic" in answer.text

    async def test_shares_of_the_traffic_are_as_the_weights(
        self, traffic: Traffic, upstream: Callable[..., Awaitable[Upstream]], ingress: int
    ) -> None:
        one, two = await upstream("v1"), await upstream("v2")
        await traffic.apply(route(backend("v1", 70, one.endpoint()), backend("v2", 30, two.endpoint())))
        await seen(traffic, followed(2))
        async with Load(ingress).running() as load:
            await load.wait(600)
        assert load.failed({"v1", "v2"}) == {}
        assert 0.2 < load.answers["v2"] / load.sent < 0.4

    async def test_no_request_fails_while_versions_are_added_switched_and_removed(
        self, traffic: Traffic, upstream: Callable[..., Awaitable[Upstream]], ingress: int
    ) -> None:
        old = await upstream("v0")
        await traffic.apply(route(backend("v0", 1, old.endpoint())))
        await seen(traffic, followed(1))
        async with Load(ingress).running() as load:
            for number in range(1, 6):
                was, now = f"v{number - 1}", f"v{number}"
                new = await upstream(now)
                await traffic.apply(route(backend(was, 1, old.endpoint()), backend(now, 0, new.endpoint())))
                await seen(traffic, lambda s, i=new.instance: i in s.healthy)  # type: ignore[misc]
                for before, after in ((9, 1), (1, 1), (0, 1)):
                    await traffic.apply(
                        route(backend(was, before, old.endpoint()), backend(now, after, new.endpoint()))
                    )
                    await seen(traffic, lambda s, w=after, n=now: (s.weights or {}).get(n) == w)  # type: ignore[misc]
                    await load.wait()
                gone = old.endpoint(draining=True)
                await traffic.apply(route(backend(was, 0, gone), backend(now, 1, new.endpoint())))
                await seen(traffic, forgotten(old.instance))
                await old.stop()
                old = new
            await load.wait()
        assert load.failed({f"v{n}" for n in range(6)}) == {}
        assert load.answers["v5"] > 0

    async def test_no_request_fails_while_instances_of_one_version_come_and_go(
        self, traffic: Traffic, upstream: Callable[..., Awaitable[Upstream]], ingress: int
    ) -> None:
        serving = [await upstream("v1", 0)]
        await traffic.apply(route(backend("v1", 1, serving[0].endpoint())))
        await seen(traffic, followed(1))
        async with Load(ingress).running() as load:
            for index in range(1, 5):
                serving.append(await upstream("v1", index))
                await traffic.apply(route(backend("v1", 1, *(u.endpoint() for u in serving))))
                await seen(traffic, followed(len(serving)))
                await load.wait()
                if index % 2 == 0:
                    leaves = serving.pop(0)
                    await traffic.apply(
                        route(backend("v1", 1, *(u.endpoint() for u in serving), leaves.endpoint(draining=True)))
                    )
                    await seen(traffic, forgotten(leaves.instance))
                    await leaves.stop()
            await load.wait()
        assert load.failed({"v1"}) == {}
        assert all(u.requests > 0 for u in serving)

    async def test_a_draining_endpoint_gets_nothing_new_and_is_known_while_its_last_request_lasts(
        self, traffic: Traffic, upstream: Callable[..., Awaitable[Upstream]], ingress: int
    ) -> None:
        old = await upstream("v1")
        await traffic.apply(route(backend("v1", 1, old.endpoint())))
        await seen(traffic, followed(1))
        last = asyncio.create_task(self.ask(ingress, path="/hold"))
        await seen(traffic, lambda s: s.active_requests == {old.instance: 1})
        new = await upstream("v2")
        await traffic.apply(route(backend("v1", 1, old.endpoint()), backend("v2", 0, new.endpoint())))
        await seen(traffic, lambda s: new.instance in s.healthy)
        await traffic.apply(route(backend("v1", 0, old.endpoint(draining=True)), backend("v2", 1, new.endpoint())))
        await seen(traffic, lambda s: s.weights == {"v2": 1})
        before = old.requests
        async with Load(ingress).running() as load:
            await load.wait(200)
        assert load.failed({"v2"}) == {}
        assert old.requests == before
        status = await traffic.status(SERVICE, ENVIRONMENT)
        assert status.active_requests[old.instance] == 1
        assert not last.done()
        old.release.set()
        assert (await last).text == "v1"
        await seen(traffic, forgotten(old.instance))

    async def test_a_safe_request_survives_the_sudden_death_of_an_instance(
        self, traffic: Traffic, upstream: Callable[..., Awaitable[Upstream]], ingress: int
    ) -> None:
        dies, lives = await upstream("v1", 0), await upstream("v1", 1)
        await traffic.apply(route(backend("v1", 1, dies.endpoint(), lives.endpoint())))
        await seen(traffic, followed(2))
        held = [asyncio.create_task(self.ask(ingress, path="/hold")) for _ in range(10)]

        async def all_held() -> int:
            return dies.holding + lives.holding

        await eventually(all_held, lambda n: n == 10)
        assert dies.holding > 0
        lives.release.set()
        await dies.stop()
        assert {(await request).status_code for request in held} == {200}

    async def test_a_safe_request_survives_the_sudden_death_of_the_only_instance_of_one_of_two_versions(
        self, traffic: Traffic, upstream: Callable[..., Awaitable[Upstream]], ingress: int
    ) -> None:
        dies, lives = await upstream("v1"), await upstream("v2")
        await traffic.apply(route(backend("v1", 1, dies.endpoint()), backend("v2", 1, lives.endpoint())))
        await seen(traffic, followed(2))
        held = [asyncio.create_task(self.ask(ingress, path="/hold")) for _ in range(10)]

        async def all_held() -> int:
            return dies.holding + lives.holding

        await eventually(all_held, lambda n: n == 10)
        assert dies.holding > 0
        lives.release.set()
        await dies.stop()
        answers = [await request for request in held]
        unhealthy = asyncio.create_task(seen(traffic, lambda s: dies.instance not in s.healthy))
        for after in range(200):  # before it is known to be dead, and after
            answers.append(await self.ask(ingress))
            if after == 100:
                await unhealthy
        assert {answer.status_code for answer in answers} == {200}
        assert {(answer.text, answer.headers["x-santiago-version"]) for answer in answers} == {("v2", "v2")}

    async def test_what_a_service_knows_of_a_request_is_what_the_client_sent(
        self, traffic: Traffic, upstream: Callable[..., Awaitable[Upstream]], ingress: int
    ) -> None:
        await traffic.apply(route(backend("v1", 1, (await upstream("v1")).endpoint())))
        await seen(traffic, followed(1))
        sent = {
            "x-request-id": "01234567-89ab-4def-8123-456789abcdef",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "tracestate": "a=b",
        }
        answer = await self.ask(ingress, path="/headers", headers=sent)
        assert {k: answer.json().get(k) for k in sent} == sent
        assert answer.json()["host"] == "web.production.localhost"
        assert answer.headers["x-request-id"] == sent["x-request-id"]
        made = (await self.ask(ingress, path="/headers")).json()["x-request-id"]
        assert made != (await self.ask(ingress, path="/headers")).json()["x-request-id"]

    async def test_answers_do_not_say_what_the_ingress_is_made_of(
        self, traffic: Traffic, upstream: Callable[..., Awaitable[Upstream]], ingress: int
    ) -> None:
        await traffic.apply(route(backend("v1", 1, (await upstream("v1")).endpoint())))
        await seen(traffic, followed(1))
        answer, unknown = await self.ask(ingress), await self.ask(ingress, "nobody.production.localhost")
        assert answer.headers["server"] == "upstream"
        assert not [k for response in (answer, unknown) for k in response.headers if k.startswith("x-envoy")]
        assert "server" not in unknown.headers

    async def test_websockets_pass(
        self, traffic: Traffic, upstream: Callable[..., Awaitable[Upstream]], ingress: int
    ) -> None:
        await traffic.apply(route(backend("v1", 1, (await upstream("v1")).endpoint())))
        await seen(traffic, followed(1))
        reader, writer = await asyncio.open_connection("127.0.0.1", ingress)
        writer.write(
            b"GET /ws HTTP/1.1\r\nhost: web.production.localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
        )
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            writer.write(b"ping")
            assert await reader.readexactly(4) == b"ping"
        writer.close()
