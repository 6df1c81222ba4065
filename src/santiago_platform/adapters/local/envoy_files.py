"""The files that the Envoys read (xDS), and what is kept beside them, in `.santiago/xds`.

rds.json, cds.json, lds.json    routes, clusters and listeners, written by the daemon, and by `up` before it runs
secret*.json                    certificates of the ingress
routes.json                     what the daemon wants and has written of routes and clusters
ingress.json                    the ingress as `up` has set it up

Beside them service-ports.json, in `.santiago` itself, which cannot be made anew: callers know these ports.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from ...domain.errors import ErrorCode, PlatformError
from ...domain.route import Route
from ...domain.value import Value
from .certificate import Certificate, Certificates
from .envoy_config import Cluster, Json, Key
from .envoy_listener import IngressFile, secret, secret_file
from .envoy_routes import VirtualHost

PORTS_FILE = "service-ports.json"
M = TypeVar("M", bound=Value)
_PORTS = TypeAdapter(dict[str, int])


class State(Value):
    """routes.json. wanted: as `apply` was given. published: as rds.json says. held: what cds.json says."""

    wanted: tuple[Route, ...] = ()
    published: tuple[VirtualHost, ...] = ()
    held: tuple[Cluster, ...] = ()


def load_state(xds: Path) -> State:
    loss = "the routes are made anew from the database, and services answer 404 until then"
    return _load(xds / "routes.json", State, loss) or State()


def load_ingress(xds: Path) -> IngressFile | None:
    """None before the first `up`."""
    return _load(xds / "ingress.json", IngressFile, "`santiago up` writes it")


def load_ports(state: Path) -> dict[Key, int]:
    """The ports of 127.0.0.1 that lead to one service each. state: `.santiago`."""
    path = state / PORTS_FILE
    try:
        found = _PORTS.validate_json(read(path) or "{}")
    except ValidationError as exc:
        raise _corrupt(path, "ports are claimed anew; deploy again what refers to a service", exc) from exc
    return {_key(name): port for name, port in found.items()}


def save_ports(state: Path, ports: Mapping[Key, int]) -> None:
    named = {"/".join(key): port for key, port in sorted(ports.items())}
    replace(state / PORTS_FILE, json.dumps(named), durable=True)


def certificates(xds: Path, ingress: IngressFile | None) -> Certificates | None:
    """Those of the ingress, which are handed to the Envoys by files that they watch. None without TLS."""
    if ingress is None or ingress.tls is None:
        return None

    def hand_over(host: str, certificate: Certificate) -> None:
        path, resources = xds / secret_file(host), secret(host, certificate)
        if not version_of(read(path), resources):
            replace(path, versioned(resources, new_version()))

    return Certificates(ingress.tls, hand_over)


def new_version() -> str:
    """Never used before, by a process before this one either."""
    return str(time.time_ns())


def versioned(resources: Json, version: str) -> str:
    return json.dumps({"version_info": version, **resources}, separators=(",", ":"))


def version_of(text: str, resources: Json) -> str:
    """The version of a file whose content is these resources; empty where it is not."""
    try:
        version = json.loads(text)["version_info"]
    except (ValueError, KeyError, TypeError):
        return ""
    return version if text == versioned(resources, version) else ""


def read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def replace(path: Path, text: str, *, durable: bool = False) -> None:
    """By rename, which is what Envoy watches for, too. durable: it survives a loss of power."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)


def private(directory: Path) -> None:
    """Made, or found as this user's own: a name in /tmp could have been taken by somebody else."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"{directory} is not a directory of this user",
            "look who made it, and remove it: `ls -ld` shows its owner",
        )
    directory.chmod(0o700)


def _load(path: Path, model: type[M], loss: str) -> M | None:
    text = read(path)
    try:
        return model.model_validate_json(text) if text else None
    except ValidationError as exc:
        raise _corrupt(path, loss, exc) from exc


def _key(name: str) -> Key:
    service, _, environment = name.partition("/")
    return service, environment


def _corrupt(path: Path, loss: str, cause: ValidationError) -> PlatformError:
    return PlatformError(ErrorCode.DATA_CORRUPT, f"{path} cannot be read", f"remove it: {loss}", internal=str(cause))
