"""The contract of an ingress that directs some requests by what is in them: matches, sticky clients, mirrors."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from ..domain.route import Match, Mirror, Route, hostname, sticky_cookie
from ..ports.traffic import Traffic
from .connections import grpc
from .eventually import eventually
from .grpc import GrpcClient, GrpcUpstream
from .traffic import ENVIRONMENT, SERVICE, Load, backend, route, seen
from .upstream import Upstream

Start = Callable[..., Awaitable[Upstream]]
ALWAYS = Match(version="v2", header=("x-canary", "always"))
COOKIE = sticky_cookie(SERVICE, ENVIRONMENT)


def canary(old: Upstream, new: Upstream, weight: int = 0, total: int = 100, **more: Any) -> Route:
    """v1 and v2, which has `weight` of `total`. more: matches, sticky, mirror."""
    plain = route(backend("v1", total - weight, old.endpoint()), backend("v2", weight, new.endpoint()))
    return Route.model_validate({**plain.model_dump(), **more})


async def follow(traffic: Traffic, wanted: Route) -> None:
    await traffic.apply(wanted)
    await seen(traffic, lambda s: s.acknowledged and len(s.healthy) == len(wanted.backends))


class CanaryContract:
    """Fixtures: `traffic`; `upstream(version, index)`, a new Upstream; `ingress`, the port on 127.0.0.1; `own_port`
    gives the port of a service."""

    @pytest.fixture
    async def pair(self, upstream: Start) -> tuple[Upstream, Upstream]:
        return await upstream("v1"), await upstream("v2")

    @asynccontextmanager
    async def client(self, ingress: int) -> AsyncIterator[Callable[..., Awaitable[httpx2.Response]]]:
        """Asks with no other cookies than those it is given."""
        async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=10) as client:

            async def ask(
                path: str = "/", method: str = "GET", content: bytes | AsyncIterator[bytes] = b"", **headers: str
            ) -> httpx2.Response:
                client.cookies.clear()
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                all_headers = {"host": hostname(SERVICE, ENVIRONMENT), **named}
                url = f"http://127.0.0.1:{ingress}{path}"
                return await client.request(method, url, headers=all_headers, content=content)

            yield ask

    async def test_a_match_beats_the_weights_and_reaches_a_version_without_any(
        self, traffic: Traffic, pair: tuple[Upstream, Upstream], ingress: int
    ) -> None:
        hostile = "a.*|b$ (\"quoted\"; c='d')"
        matches = (
            ALWAYS,
            Match(version="v2", header=("x-text", hostile)),
            Match(version="v2", cookie=("beta", "1")),
            Match(version="v2", query=("beta", "1")),
            Match(version="v2", header=("x-both", "1"), cookie=("both", "1")),
        )
        await follow(traffic, canary(*pair, matches=matches))
        async with self.client(ingress) as ask:
            for method in ("GET", "POST"):
                for path, headers in (
                    ("/", {"x_canary": "always"}),
                    ("/", {"X_Canary": "always"}),
                    ("/", {"x_text": hostile}),
                    ("/", {"cookie": "other=2; beta=1"}),
                    ("/?a=b&beta=1", {}),
                    ("/", {"x_both": "1", "cookie": "both=1"}),
                ):
                    answer = await ask(path, method, **headers)
                    found = (answer.text, answer.headers["x-santiago-version"])
                    assert found == ("v2", "v2"), (method, path, headers)
                for path, headers in (
                    ("/", {}),
                    ("/", {"x_canary": "Always"}),
                    ("/", {"x_canary": "always, never"}),
                    ("/", {"x_text": "aaa"}),
                    ("/", {"cookie": "beta=11"}),
                    ("/?beta=11", {}),
                    ("/?beta", {}),
                    ("/", {"x_both": "1"}),
                    ("/", {"cookie": "both=1"}),
                ):
                    assert (await ask(path, method, **headers)).text == "v1", (method, path, headers)

    async def test_the_first_match_that_fits_wins(
        self, traffic: Traffic, pair: tuple[Upstream, Upstream], ingress: int
    ) -> None:
        back = Match(version="v1", cookie=("back", "1"))
        await follow(traffic, canary(*pair, weight=100, matches=(back, ALWAYS)))
        async with self.client(ingress) as ask:
            assert (await ask(x_canary="always", cookie="back=1")).text == "v1"
            assert (await ask(x_canary="always")).text == "v2"

    async def test_a_service_without_any_weight_can_be_rehearsed(
        self, traffic: Traffic, pair: tuple[Upstream, Upstream], ingress: int, own_port: Callable[[str], int]
    ) -> None:
        await follow(traffic, canary(*pair, weight=0, total=0, matches=(ALWAYS,)))
        for port in (ingress, own_port(SERVICE)):
            async with self.client(port) as ask:
                host = {} if port == ingress else {"host": f"127.0.0.1:{port}"}
                assert (await ask(x_canary="always", **host)).text == "v2"
                assert (await ask(**host)).status_code == 503

    async def test_a_client_stays_on_the_version_whose_weight_rises(
        self, traffic: Traffic, pair: tuple[Upstream, Upstream], ingress: int
    ) -> None:
        """In both directions, whatever the weights add up to; v2 comes last in any order of names."""
        async with self.client(ingress) as ask:

            async def versions(clients: list[str]) -> list[str]:
                answers = [await ask(method=m, cookie=f"a=b; {c}") for c in clients for m in ("GET", "POST")]
                assert not [a for a in answers if "set-cookie" in a.headers]
                assert [a.text for a in answers[::2]] == [a.text for a in answers[1::2]]
                return [a.text for a in answers[::2]]

            await follow(traffic, canary(*pair, weight=1, total=10, sticky=True))
            first = [await ask() for _ in range(150)]
            clients = [a.headers["set-cookie"].split(";")[0] for a in first]
            assert len({*clients}) == len(clients)
            before = await versions(clients)
            assert before == [a.text for a in first]
            assert 0 < before.count("v2") < 50
            for weight, total in ((30, 100), (1, 2), (2, 3)):
                await follow(traffic, canary(*pair, weight=weight, total=total, sticky=True))
                after = await versions(clients)
                assert [now for was, now in zip(before, after, strict=True) if was == "v2" != now] == []
                assert before.count("v2") < after.count("v2") < len(clients)
                before = after
            await follow(traffic, canary(*pair, weight=30, total=100, sticky=True))
            back = await versions(clients)
            assert [now for was, now in zip(before, back, strict=True) if was == "v1" != now] == []

    async def test_the_cookie_is_the_services_own_and_out_of_reach_of_scripts(
        self, traffic: Traffic, pair: tuple[Upstream, Upstream], ingress: int
    ) -> None:
        await follow(traffic, canary(*pair, weight=50, sticky=True, matches=(ALWAYS,)))
        async with self.client(ingress) as ask:
            name, *attributes = (await ask()).headers["set-cookie"].split("; ")
            assert name.startswith(f"{COOKIE}=")
            assert attributes == ["Path=/", "HttpOnly", "SameSite=Lax"]
            for headers in ({"x_canary": "always"}, {"x_request_id": 'a"; Domain=localhost'}):
                assert "set-cookie" not in (await ask(**headers)).headers, headers
            known = await ask(x_request_id="trace-1")
            assert known.headers["set-cookie"].startswith(f"{COOKIE}=trace-1;")
            assert "set-cookie" in (await ask(cookie=f"{COOKIE}=")).headers
        await follow(traffic, canary(*pair, weight=50))
        async with self.client(ingress) as ask:
            assert "set-cookie" not in (await ask()).headers

    async def test_a_mirror_gets_copies_of_safe_requests_and_changes_no_answer(
        self, traffic: Traffic, pair: tuple[Upstream, Upstream], ingress: int
    ) -> None:
        old, new = pair
        new.status = 500
        await follow(traffic, canary(*pair, mirror=Mirror(version="v2", percent=100), matches=(ALWAYS,)))
        async with self.client(ingress) as ask:
            for method in ("GET", "OPTIONS", "POST", "PUT", "DELETE"):
                answer = await ask(method=method)
                assert (answer.status_code, answer.text) == (200, "v1")
            await eventually(lambda: copies(new), lambda n: n == 2)
            assert (await ask(x_canary="always")).status_code == 500  # a matched request is nobody's copy
            assert (await ask("/headers")).json()["host"] == "web.production.localhost"
            await eventually(lambda: copies(new), lambda n: n == 3)
            assert (old.requests, old.copies, new.requests) == (6, 0, 4)
            await follow(traffic, canary(*pair, mirror=Mirror(version="v2", percent=100, all_methods=True)))
            assert (await ask(method="POST")).text == "v1"
            await eventually(lambda: copies(new), lambda n: n == 4)
            await follow(traffic, canary(*pair, mirror=Mirror(version="v2", percent=20)))
            for _ in range(200):
                await ask()
        assert 15 < await copies(new) - 4 < 75

    async def test_a_mirror_that_hangs_or_breaks_costs_no_request(
        self, traffic: Traffic, pair: tuple[Upstream, Upstream], ingress: int
    ) -> None:
        old, new = pair
        old.release.set()
        await follow(traffic, canary(*pair, weight=10, mirror=Mirror(version="v2", percent=100)))
        async with self.client(ingress) as ask:
            held: list[asyncio.Future[httpx2.Response]] = [asyncio.ensure_future(ask("/hold")) for _ in range(150)]
            # Those that went to v2 by weight wait, the copies of all the others do too.
            await eventually(lambda: _finished(held), lambda n: n > 110)
            done, waiting = {t for t in held if t.done()}, {t for t in held if not t.done()}
            assert {(await task).text for task in done} == {"v1"}
            assert new.holding > len(waiting)
            assert (await ask()).status_code == 200
            new.release.set()
            assert {(await task).status_code for task in waiting} <= {200}
        await follow(traffic, canary(*pair, mirror=Mirror(version="v2", percent=100)))
        async with Load(ingress).running() as load:
            new.resets = 50
            await load.wait(200)
            await new.stop()
            await load.wait(200)
        assert load.failed({"v1"}) == {}

    async def test_upgrades_are_not_mirrored_and_pass_a_match_and_a_sticky_route(
        self, traffic: Traffic, pair: tuple[Upstream, Upstream], ingress: int
    ) -> None:
        old, new = pair
        mirror = Mirror(version="v2", percent=100, all_methods=True)
        await follow(traffic, canary(*pair, sticky=True, mirror=mirror, matches=(ALWAYS,)))
        for extra, version in (("", "v1"), ("x-canary: always\r\n", "v2")):
            reader, writer = await asyncio.open_connection("127.0.0.1", ingress)
            writer.write(
                f"GET /ws HTTP/1.1\r\nhost: web.production.localhost\r\n{extra}connection: upgrade\r\n"
                "upgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                "sec-websocket-version: 13\r\n\r\n".encode()
            )
            async with asyncio.timeout(5):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                assert head.startswith("HTTP/1.1 101 ")
                assert f"x-santiago-version: {version}" in head
                writer.write(b"ping")
                assert await reader.readexactly(4) == b"ping"
            writer.close()
        assert (old.requests, new.requests, new.copies) == (1, 1, 0)

    async def test_calls_of_grpc_are_matched_and_copied_too(self, traffic: Traffic, ingress: int) -> None:
        old = await GrpcUpstream("v1", f"{SERVICE}__{ENVIRONMENT}__v1__0").start()
        new = await GrpcUpstream("v2", f"{SERVICE}__{ENVIRONMENT}__v2__0").start()

        async def copied() -> int:
            return new.copies

        try:
            plain = route(grpc("v1", 1, old), grpc("v2", 0, new))
            mirror = Mirror(version="v2", percent=100, all_methods=True)
            await follow(traffic, plain.model_copy(update={"matches": (ALWAYS,), "mirror": mirror, "sticky": True}))
            host = hostname(SERVICE, ENVIRONMENT)
            async with GrpcClient(ingress, host) as client, GrpcClient(ingress, host, ("x-canary", "always")) as early:
                assert [await client.version() for _ in range(3)] == ["v1"] * 3
                assert await early.version() == "v2"
            await eventually(copied, lambda n: n == 3)
        finally:
            await old.stop()
            await new.stop()

    @pytest.mark.parametrize("chunked", [False, True])
    async def test_a_large_upload_does_not_wait_for_a_mirror_that_reads_nothing(
        self, traffic: Traffic, pair: tuple[Upstream, Upstream], ingress: int, *, chunked: bool
    ) -> None:
        old, new = pair
        await follow(traffic, canary(*pair, mirror=Mirror(version="v2", percent=100, all_methods=True)))
        new.reading.clear()
        async with self.client(ingress) as ask:
            assert (await ask(method="POST", content=bytes(1 << 17))).text == "v1"  # is copied
            async with asyncio.timeout(5):
                body = bytes(16 << 20)
                answer = await ask(method="POST", content=_parts(body) if chunked else body)
        assert answer.text == "v1"
        assert old.received == len(body) + (1 << 17)
        new.reading.set()
        await eventually(lambda: copies(new), lambda n: n == 1)
        assert new.received == 1 << 17

    async def test_no_request_fails_while_matches_stickiness_and_mirrors_come_and_go(
        self, traffic: Traffic, pair: tuple[Upstream, Upstream], ingress: int
    ) -> None:
        steps: tuple[dict[str, Any], ...] = (
            {"matches": (ALWAYS,)},
            {"matches": (ALWAYS,), "mirror": Mirror(version="v2", percent=50)},
            {"sticky": True, "weight": 10, "mirror": Mirror(version="v2", percent=100)},
            {"sticky": True, "weight": 50},
            {"weight": 50, "matches": (Match(version="v1", query=("a", "b")), ALWAYS)},
            {},
        )
        await follow(traffic, canary(*pair))
        async with Load(ingress).running() as load:
            for step in steps:
                await follow(traffic, canary(*pair, **step))
                await load.wait(60)
        assert load.failed({"v1", "v2"}) == {}
        assert Counter(load.answers).keys() == {"v1", "v2"}


async def _parts(body: bytes) -> AsyncIterator[bytes]:
    """As a body of unknown length."""
    for start in range(0, len(body), 1 << 20):
        yield body[start : start + (1 << 20)]


async def _finished(tasks: list[asyncio.Future[httpx2.Response]]) -> int:
    return sum(task.done() for task in tasks)


async def copies(upstream: Upstream) -> int:
    return upstream.copies
