"""Services that find each other, connections that outlive a deploy, and Envoys that are replaced: all real."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest

from santiago_platform.adapters.layout import ENVOYS
from santiago_platform.adapters.local import platform as local_platform
from santiago_platform.adapters.local.port_registry import PortRegistry
from santiago_platform.adapters.local.supervisor import Supervisor
from santiago_platform.adapters.local.unit import Unit
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.testing.certificate import issue
from santiago_platform.testing.connections import WebSocket
from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.grpc import GrpcClient
from santiago_platform.testing.lifeline import Lifeline
from santiago_platform.testing.load import Load
from santiago_platform.testing.running_platform import RunningPlatform, call

pytestmark = pytest.mark.e2e

SERVER = """
import asyncio, os, urllib.error, urllib.request

VERSION, TARGET = os.environ["VERSION"], os.environ.get("TARGET", "")

def ask():
    try:
        with urllib.request.urlopen(TARGET, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()

async def serve(reader, writer):
    try:
        while True:
            first, *lines = (await reader.readuntil(b"\\r\\n\\r\\n")).decode().split("\\r\\n")
            headers = dict(line.lower().split(": ", 1) for line in lines if line)
            size = left = int(headers.get("content-length", 0))
            while left:
                left -= len(await reader.read(min(left, 1 << 20)))
            status, body = 200, VERSION.encode()
            if "upgrade" in headers:
                writer.write(b"HTTP/1.1 101 Switching\\r\\nupgrade: websocket\\r\\nconnection: upgrade\\r\\n\\r\\n")
                while data := await reader.read(4096):
                    writer.write(data)
                return
            if first.split()[1] == "/call":
                status, body = await asyncio.to_thread(ask)
            elif size:
                body = b"%s %d" % (body, size)
            writer.write(b"HTTP/1.1 %d X\\r\\ncontent-length: %d\\r\\n\\r\\n%s" % (status, len(body), body))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(os.environ["PORT"]))
    await server.serve_forever()

asyncio.run(main())
"""
SCORE = """
apiVersion: score.dev/v1b1
metadata: {{name: {name}}}
service: {{ports: {{http: {{port: 80, targetPort: 8080}}}}}}
containers:
  main:
    image: .
    command: [python3, server.py]
    variables:
      VERSION: "1"{target}
    readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}}}
resources:
  peer: {{type: service, id: echo}}
"""
DRAIN_SECONDS = 4


@pytest.fixture(scope="module")
def platform(lifeline: Lifeline) -> Iterator[RunningPlatform]:
    with RunningPlatform(lifeline) as running:
        for name, target in (("echo", ""), ("caller", "\n      TARGET: ${resources.peer.url}")):
            folder = running.root / "services" / name
            folder.mkdir()
            (folder / "server.py").write_text(SERVER)
            (folder / "score.yaml").write_text(SCORE.format(name=name, target=target))
        running.replace("santiago.yaml", "drain_timeout_seconds: 30", f"drain_timeout_seconds: {DRAIN_SECONDS}")
        running.replace("santiago.yaml", "rollback_window_seconds: 600", "rollback_window_seconds: 0")
        running.commit("a service and its caller")
        yield running


async def deploy(platform: RunningPlatform, service: str, **arguments: Any) -> dict[str, Any]:
    asked = {"service": service, "environment": "production", "git_ref": "HEAD", "wait": True, "replicas": 1}
    async with platform.client() as client:
        ended = await call(client, "deploy_service", {**asked, "timeout_seconds": 90, **arguments})
    assert ended["state"] == "succeeded", ended
    return ended


@pytest.fixture
async def version(platform: RunningPlatform) -> str:
    """Both services are live; returns the version of `echo`."""
    await deploy(platform, "caller")
    return (await deploy(platform, "echo"))["version"]


async def test_a_service_calls_another_by_its_url_before_and_while_it_is_deployed(platform: RunningPlatform) -> None:
    await deploy(platform, "caller")
    url = f"http://127.0.0.1:{platform.ingress_port}/call"
    async with httpx2.AsyncClient(headers={"host": "caller.production.localhost"}, trust_env=False) as client:
        answer = await client.get(url)
        assert (answer.status_code, answer.text) == (503, "echo is not deployed in production yet\n")
        await deploy(platform, "echo")
        assert (await client.get(url)).text == "1"
        async with Load(platform.ingress_port, "caller.production.localhost", path="/call") as tally:
            for number, strategy in (("2", "blue_green"), ("3", "rolling")):
                platform.set_version(number, "echo")
                await deploy(platform, "echo", strategy=strategy)
        assert tally.failed == 0, tally.failures
        assert (await client.get(url)).text == "3"
    async with platform.client() as client:
        shown = await call(client, "read_architecture", {"service": "echo"})
    address = shown["services"][0]["address"]
    async with httpx2.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"http://{address}/")).text == "3"


@pytest.mark.parametrize("strategy", ["blue_green", "rolling"])
async def test_a_websocket_lasts_until_the_drain_of_its_version_is_over(
    platform: RunningPlatform, version: str, strategy: str
) -> None:
    host = "echo.production.localhost"
    async with WebSocket.open(platform.ingress_port, host) as held:
        assert (held.version, await held.echoes()) == (version, True)
        platform.set_version(f"ws-{strategy}", "echo")
        deploying = asyncio.create_task(deploy(platform, "echo", strategy=strategy))
        while not deploying.done():
            assert await held.echoes()
            await asyncio.sleep(0.01)
        async with WebSocket.open(platform.ingress_port, host) as second:
            assert (second.version, await second.echoes()) == ((await deploying)["version"], True)
            assert await held.echoes()
            began = time.monotonic()
            while await held.echoes():
                assert time.monotonic() - began < DRAIN_SECONDS + 10, "it was to end with the drain"
                await asyncio.sleep(0.05)
            assert await second.echoes()


async def test_an_upload_that_began_before_a_deploy_ends_after_it(platform: RunningPlatform, version: str) -> None:
    old = (await _ask(platform)).text
    begun, go_on, chunk, count = asyncio.Event(), asyncio.Event(), bytes(1 << 20), 200

    async def body() -> AsyncIterator[bytes]:
        for number in range(count):
            if number == count // 2:
                begun.set()
                await go_on.wait()
            yield chunk

    headers = {"host": "echo.production.localhost", "content-length": str(count << 20)}
    async with httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as client:
        url = f"http://127.0.0.1:{platform.ingress_port}/"
        upload = asyncio.create_task(client.post(url, content=body()))
        await begun.wait()
        platform.set_version("upload", "echo")
        await deploy(platform, "echo")
        assert (await _ask(platform)).text == "upload"
        go_on.set()
        assert (await upload).text == f"{old} {count << 20}"


async def _ask(platform: RunningPlatform) -> httpx2.Response:
    async with httpx2.AsyncClient(headers={"host": "echo.production.localhost"}, trust_env=False) as client:
        return await client.get(f"http://127.0.0.1:{platform.ingress_port}/")


GREETER = """
import asyncio, os
from santiago_platform.testing.grpc import GrpcUpstream

async def main():
    await GrpcUpstream(os.environ["VERSION"], "").start(int(os.environ["PORT"]))
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_grpc_service_is_deployed_and_proven_and_no_call_fails(platform: RunningPlatform) -> None:
    folder = platform.root / "services" / "greeter"
    folder.mkdir()
    (folder / "server.py").write_text(GREETER)
    score = SCORE.format(name="greeter, annotations: {santiago.dev/protocol: grpc}", target="")
    score = score.replace("python3", sys.executable)
    (folder / "score.yaml").write_text(re.sub(".*readinessProbe.*\n", "", score))
    platform.commit("a gRPC service")
    await deploy(platform, "greeter")
    seen: list[str] = []

    async def calls() -> None:
        async with GrpcClient(platform.ingress_port, "greeter.production.localhost") as client:
            while not seen or seen[-1] != "2":
                seen.append(await client.version())

    calling = asyncio.create_task(calls())
    platform.set_version("2", "greeter")
    ended = await deploy(platform, "greeter")
    await calling
    assert ended["proof"]["verdict"] == "MATCH"
    assert set(seen) == {"1", "2"}


async def test_tls_is_turned_on_while_services_serve_and_a_broken_certificate_is_told(
    platform: RunningPlatform, version: str
) -> None:
    port = PortRegistry(platform.root).claim("TLS")
    issue(platform.root / "tls", "echo.production.localhost")
    settings = platform.root / "santiago.yaml"
    tls = f"{{port: {port}, certificate: tls/cert.pem, key: tls/key.pem}}"
    settings.write_text(settings.read_text() + f"ingress: {{tls: {tls}}}\n")
    trusted = ssl.create_default_context(cafile=str(platform.root / "tls" / "cert.pem"))
    url = f"https://echo.production.localhost:{port}/"

    async def answered() -> str:
        transport = httpx2.AsyncHTTPTransport(verify=trusted, http2=True)
        async with httpx2.AsyncClient(transport=transport) as client:
            here = {"host": "echo.production.localhost"}
            name = {"sni_hostname": "echo.production.localhost"}
            try:
                answer = await client.get(f"https://127.0.0.1:{port}/", headers=here, extensions=name)
            except httpx2.ConnectError as exc:
                return str(exc)
            return f"{answer.http_version} {answer.text}"

    async with Load(platform.ingress_port, "echo.production.localhost") as tally:
        said = await asyncio.to_thread(platform.santiago, "up", "-d")
        assert url.replace("echo.production", "NAME.ENVIRONMENT") in said.stdout
        await eventually(answered, lambda text: text.startswith("HTTP/2 "))
        (platform.root / "tls" / "cert.pem").write_text("torn")

        async def warnings() -> list[str]:
            return (await asyncio.to_thread(platform.json, "status"))["warnings"]

        (warning,) = await eventually(warnings)
        assert "cert.pem holds no certificate in PEM; the certificate before stays" in warning
        assert (await answered()).startswith("HTTP/2 ")
    assert tally.failed == 0, tally.failures
    findings = await asyncio.to_thread(platform.json, "doctor", check=False)
    (found,) = [finding for finding in findings if finding["subject"] == "TLS of the ingress"]
    assert found["health"] == "problem"


async def test_up_replaces_envoys_that_would_be_started_otherwise_and_no_request_fails(
    platform: RunningPlatform, version: str
) -> None:
    before = _pids(platform)
    for name in ENVOYS:  # as an older version of the platform has left it
        (platform.layout.units / name / "bootstrap.json").write_text("{}")
    async with Load(platform.ingress_port, "echo.production.localhost", connections=8) as tally:
        await asyncio.to_thread(platform.santiago, "up", "-d")
        assert not set(before.values()) & set(_pids(platform).values())
        again = _pids(platform)
        await asyncio.to_thread(platform.santiago, "up", "-d")
    assert tally.failed == 0, tally.failures
    assert _pids(platform) == again, "what is as it should be is left alone"


async def test_an_envoy_that_does_not_come_up_leaves_the_other_one_serving(
    platform: RunningPlatform, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_platform, "ENVOY_START_SECONDS", 2.0)
    broken = Unit("envoy-a", ("false",), platform.root, back_off_seconds=1)
    Supervisor(platform.layout).replace(broken, restart=False)
    async with Load(platform.ingress_port, "echo.production.localhost") as tally:
        with pytest.raises(PlatformError, match="envoy-a does not come up again") as caught:
            await asyncio.to_thread(platform.platform.replace_envoy, "envoy-a")
        assert caught.value.code is ErrorCode.UNAVAILABLE
        await asyncio.to_thread(platform.santiago, "up", "-d")

        async def both() -> dict[str, int]:
            return _pids(platform)

        await eventually(both, lambda pids: all(pids.values()))
    assert tally.failed == 0, tally.failures


async def test_the_access_log_is_kept_with_the_logs_of_the_envoys(platform: RunningPlatform, version: str) -> None:
    await _ask(platform)

    async def lines() -> list[dict[str, Any]]:
        texts = [(platform.layout.logs / name / "current").read_text() for name in ENVOYS]
        stamped = [line.split(" ", 1)[1] for text in texts for line in text.splitlines()]
        return [json.loads(line) for line in stamped if line.startswith("{")]

    await eventually(lines, lambda found: any(line["version"] == version for line in found))


def _pids(platform: RunningPlatform) -> dict[str, int]:
    return {unit.name: unit.pid for unit in platform.platform.units() if unit.name in ENVOYS}
