"""The route of a service: which instances get its traffic, in which shares."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .identity import Name
from .value import Value


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


class Route(Value):
    """hostnames: matched against the Host header, without the port."""

    service: Name
    environment: Name
    hostnames: tuple[str, ...]
    backends: tuple[Backend, ...]

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
    """

    weights: dict[str, int] | None = None
    healthy: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()
    active_requests: dict[str, int] = {}
    error: str = ""
    address: str = ""


def hostname(service: str, environment: str) -> str:
    return f"{service}.{environment}.localhost"
