"""The route of a service: which instances get its traffic, in which shares."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from .identity import Name
from .value import Value

MATCHES_AT_MOST = 16  # of a route

CookieName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")]  # RFC 9110, 5.6.2
HeaderName = Annotated[CookieName, AfterValidator(str.lower)]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[!-~](?:[ -~]{0,254}[!-~])?$")]
CookieValue = Annotated[str, StringConstraints(pattern=r"^[!#-+\--:<-\[\]-~]{1,256}$")]  # RFC 6265, 4.1.1
# The characters that no client encodes (RFC 3986, 2.3): proxies compare a query as it was sent.
Unreserved = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._~-]{1,256}$")]


class Endpoint(Value):
    """An address that an instance listens on. instance: its id.

    draining: it gets no new requests, and stays known while those in flight end. health_port: where the proxies ask
    for its health, None where that is `port`.
    """

    instance: str
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    draining: bool = False
    health_port: Annotated[int, Field(ge=1, le=65535)] | None = None


class Backend(Value):
    """The endpoints of one version. health_path: asked by the proxies; empty means that they connect by TCP.

    weight: its share of the traffic among its route's backends; 0 keeps it warm without traffic. protocol: what its
    endpoints speak; h2c is HTTP/2 without TLS, as gRPC needs it. Health is asked over HTTP/1.1 in any case.
    """

    version: str
    endpoints: tuple[Endpoint, ...]
    weight: Annotated[int, Field(ge=0)]
    health_path: str = ""
    health_host: str = ""
    protocol: Literal["http", "h2c"] = "http"


class Match(Value):
    """Requests that go to a version whatever the weights: those that meet every condition given, one at least.

    header, cookie, query: (name, value). Values are compared exactly, and are never patterns. A version without weight
    may be matched: so a canary is rehearsed. One without healthy endpoints answers 503, as a weighted one does.
    """

    version: str
    header: tuple[HeaderName, HeaderValue] | None = None
    cookie: tuple[CookieName, CookieValue] | None = None
    query: tuple[Unreserved, Unreserved] | None = None

    @model_validator(mode="after")
    def _has_a_condition(self) -> Self:
        if self.header is None and self.cookie is None and self.query is None:
            raise ValueError("a match needs a header, a cookie or a query")
        return self


class Mirror(Value):
    """A copy of some requests goes to a version, and its answers are thrown away.

    percent: the share of those requests that go by weight. Only GET, HEAD and OPTIONS are copied: what another method
    changes would be changed twice; all_methods says that this does no harm. Never copied are upgrades (WebSockets), and
    bodies of 256 KiB and more or of unknown length, gRPC apart. The client waits for no copy, and a version that hangs
    or fails loses copies alone; but a stream of gRPC is held up for at most 10 seconds where more than 1 MiB of its
    copy is not read. Copies are counted apart, see domain.counters.
    """

    version: str
    percent: Annotated[float, Field(gt=0, le=100)]
    all_methods: bool = False


class Route(Value):
    """hostnames: matched against the Host header, without the port.

    matches: come before the weights, the first one that fits wins. sticky: a client that sends cookies back stays on
    its version while the weight of another one rises, and moves to that one alone; it knows the cookie
    `sticky_cookie`, which the ingress gives to who has none. With more than two weighted versions clients may also
    move among those whose share falls. mirror: of the requests that no match takes. retries_elsewhere: a try that
    failed may be repeated with another version, which costs no request where a version's only instance dies; but the
    proxies then count the failure as that of the version that was tried next.
    """

    service: Name
    environment: Name
    hostnames: tuple[str, ...]
    backends: tuple[Backend, ...]
    matches: Annotated[tuple[Match, ...], Field(max_length=MATCHES_AT_MOST)] = ()
    sticky: bool = False
    mirror: Mirror | None = None
    retries_elsewhere: bool = True

    @model_validator(mode="after")
    def _names_its_backends(self) -> Self:
        known = {b.version for b in self.backends}
        named = {m.version for m in self.matches} | ({self.mirror.version} if self.mirror else set())
        if unknown := sorted(named - known):
            raise ValueError(f"a match or the mirror names {unknown[0]}, which is no backend of the route")
        return self

    @property
    def weights(self) -> dict[str, int]:
        """The versions that get traffic, as `desired` counts them."""
        return {b.version: b.weight for b in self.backends if b.weight > 0}


class RouteStatus(Value):
    """What the live proxies say of a route.

    weights: acknowledged by every live proxy, None while they differ or none lives.
    healthy: endpoints, by instance id, that every live proxy finds healthy. active_requests: in flight, by instance id,
    summed over the proxies. known: instance ids that any live proxy still has. error: what a proxy rejected.
    address: `127.0.0.1:PORT`, which is this service's own and needs no name to be resolved; empty for a worker.
    acknowledged: every live proxy follows the route as it was applied last, its matches and its mirror too.
    """

    weights: dict[str, int] | None = None
    acknowledged: bool = False
    healthy: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()
    active_requests: dict[str, int] = {}
    error: str = ""
    address: str = ""


def hostname(service: str, environment: str) -> str:
    return f"{service}.{environment}.localhost"


def sticky_cookie(service: str, environment: str) -> str:
    """The name of the cookie that keeps a client on its version. Ports of one host share cookies: hence the service."""
    return f"santiago_{service}_{environment}"
