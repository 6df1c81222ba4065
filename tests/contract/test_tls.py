"""TLS at the ingress: certificates by host name, their reload, HTTP/2 by ALPN."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from cryptography import x509

from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local.envoy import EnvoyTraffic
from santiago_platform.domain.environment import Ingress, KeyPair, Tls
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.testing.certificate import issue
from santiago_platform.testing.envoy_pair import EnvoyPair
from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.traffic import ENVIRONMENT, SERVICE, Load, backend, followed, route, seen
from santiago_platform.testing.upstream import Upstream

HOST = f"{SERVICE}.{ENVIRONMENT}.localhost"
SPECIAL = f"special.{ENVIRONMENT}.localhost"


@contextmanager
def encrypted(port: int, context: ssl.SSLContext, server_name: str | None = None) -> Iterator[ssl.SSLSocket]:
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=server_name) as connection,
    ):
        yield connection


def presented(port: int, server_name: str | None) -> str:
    """The name in the certificate that a client is shown who asks for this server."""
    with encrypted(port, ssl.create_default_context(), server_name) as connection:
        der = connection.getpeercert(binary_form=True)
    assert der is not None
    (attribute,) = x509.load_der_x509_certificate(der).subject
    return str(attribute.value)


@pytest.fixture(scope="module")
def tls_port(free_port: Callable[[], int]) -> int:
    return free_port()


@pytest.fixture(scope="module")
def envoys(
    layout: Layout, free_port: Callable[[], int], binary: Callable[[str], Path], tls_port: int
) -> Iterator[EnvoyPair]:
    pair = EnvoyPair(layout, binary("envoy"), free_port)
    for name, host in (("main", "first"), ("special", SPECIAL)):
        issue(layout.root / name, host)
    pair.ingress = Ingress(
        tls=Tls(
            port=tls_port,
            certificate="main/cert.pem",
            key="main/key.pem",
            hosts={SPECIAL: KeyPair(certificate="special/cert.pem", key="special/key.pem")},
        )
    )
    pair.start()
    yield pair
    pair.stop()


@pytest.fixture
async def served(envoy_traffic: EnvoyTraffic, upstream: Callable[..., Awaitable[Upstream]]) -> EnvoyTraffic:
    """A version is live."""
    await envoy_traffic.apply(route(backend("v1", 1, (await upstream("v1")).endpoint())))
    await seen(envoy_traffic, followed(1))
    return envoy_traffic


async def shown(traffic: EnvoyTraffic, port: int, wanted: str) -> None:
    """Until every connection is shown the certificate; the status is asked, as the loops of the daemon do."""

    async def look() -> set[str]:
        await traffic.status(SERVICE, ENVIRONMENT)
        return {await asyncio.to_thread(presented, port, None) for _ in range(8)}

    await eventually(look, lambda names: names == {wanted})


@pytest.mark.parametrize(("http2", "version"), [(True, "HTTP/2"), (False, "HTTP/1.1")])
async def test_a_service_is_reached_over_https_in_the_protocol_that_both_know(
    served: EnvoyTraffic, tls_port: int, http2: bool, version: str
) -> None:
    async with httpx2.AsyncClient(verify=False, http2=http2, trust_env=False) as client:
        answer = await client.get(f"https://127.0.0.1:{tls_port}/headers", headers={"host": HOST})
    assert (answer.status_code, answer.http_version) == (200, version)
    assert answer.json()["x-forwarded-proto"] == "https"


def test_the_certificate_is_that_of_the_host_that_is_asked_for(envoys: EnvoyPair, tls_port: int) -> None:
    asked = {name: presented(tls_port, name) for name in (SPECIAL, HOST, None)}
    assert asked == {SPECIAL: SPECIAL, HOST: "first", None: "first"}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_versions_of_tls_are_refused(envoys: EnvoyPair, tls_port: int) -> None:
    context = ssl.create_default_context()
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="TLSV1_ALERT_PROTOCOL_VERSION"), encrypted(tls_port, context):
        pass


async def test_a_renewed_certificate_is_served_and_no_request_fails(
    served: EnvoyTraffic, envoys: EnvoyPair, layout: Layout, tls_port: int
) -> None:
    async with Load(envoys.ingress_port).running() as load:
        issue(layout.root / "main", "renewed")
        await shown(served, tls_port, "renewed")
        await load.wait()
    assert load.failed({"v1"}) == {}
    assert served.concerns() == []


@pytest.mark.parametrize("how", ["torn", "gone", "another key"])
async def test_a_broken_certificate_is_told_and_the_one_before_goes_on(
    served: EnvoyTraffic, layout: Layout, tls_port: int, how: str
) -> None:
    issue(layout.root / "main", "good")
    await shown(served, tls_port, "good")
    file = layout.root / "main" / "cert.pem"
    if how == "torn":
        file.write_text(file.read_text()[:100])
    elif how == "gone":
        file.unlink()
    else:
        issue(layout.root / "stranger", "stranger")
        shutil.copy(layout.root / "stranger" / "cert.pem", file)

    async def told() -> list[str]:
        await served.status(SERVICE, ENVIRONMENT)
        return served.concerns()

    (concern,) = await eventually(told)
    assert str(layout.root / "main") in concern
    assert "the certificate before stays" in concern
    assert presented(tls_port, None) == "good"
    issue(layout.root / "main", "mended")
    await shown(served, tls_port, "mended")
    assert served.concerns() == []


async def test_a_certificate_that_ends_soon_is_told_and_served(
    served: EnvoyTraffic, layout: Layout, tls_port: int
) -> None:
    issue(layout.root / "main", "short", days=3)
    await shown(served, tls_port, "short")
    assert any("expires on" in concern for concern in served.concerns())
    issue(layout.root / "main", "late", days=-1)
    await shown(served, tls_port, "late")
    assert any("expired on" in concern for concern in served.concerns())


def test_one_that_was_never_good_is_an_error_at_the_start(
    tmp_path: Path, free_port: Callable[[], int], binary: Callable[[str], Path]
) -> None:
    pair = EnvoyPair(Layout.of(tmp_path), binary("envoy"), free_port)
    pair.ingress = Ingress(tls=Tls(port=free_port(), certificate="no.pem", key="no.pem"))
    with pytest.raises(PlatformError, match=r"no\.pem cannot be read") as caught:
        pair.command("envoy-a")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_the_copy_of_a_key_is_private(envoys: EnvoyPair, layout: Layout) -> None:
    assert {path.stat().st_mode & 0o777 for path in layout.xds.glob("secret*")} == {0o600}
