"""Where the server listens: loopback and a private Unix socket, bound before anything else starts."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from ..domain.errors import ErrorCode, PlatformError

BACKLOG = 2048
GRACE_SECONDS = 2  # one open stream of events would keep the server from ending for ever
KEEP_ALIVE_SECONDS = 75  # an agent that calls every 8 s, or thinks for a minute, need not connect anew
SOCKET_PATH_BYTES = 107


def check_listen(host: str, authenticated: bool) -> None:
    """Raises FAILED_PRECONDITION where `host` is reachable from other machines and callers are not authenticated."""
    if not authenticated and not is_loopback(host):
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"refusing to listen on {host or 'all addresses'} without authentication: it is not loopback",
            "listen on 127.0.0.1, or leave authentication on",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`. A name other than localhost counts as no: it may come to mean more."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def listen_tcp(host: str, port: int) -> socket.socket:
    """A bound socket, listening. Raises CONFLICT that names who has the port, where that can be found out."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        if exc.errno == errno.EADDRINUSE:
            owner = port_owner(port)
            raise PlatformError(
                ErrorCode.CONFLICT,
                f"{host}:{port} is taken" + (f" by {owner}" if owner else ""),
                "end that process, or set another port (SANTIAGO_PORT)",
            ) from exc
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION, f"cannot listen on {host}:{port}: {exc.strerror}", "give another address"
        ) from exc
    listener.setblocking(False)
    return listener


def listen_unix(path: Path) -> socket.socket:
    """A bound Unix socket, 0600, in place of a dead one. Raises CONFLICT where a live server has it."""
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"a socket's path has at most 107 bytes: {path}")
    _remove_dead(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # so that it is private from the first moment
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        raise PlatformError(ErrorCode.FAILED_PRECONDITION, f"cannot listen on {path}: {exc.strerror}") from exc
    finally:
        os.umask(before)
    listener.setblocking(False)
    return listener


def _remove_dead(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise PlatformError(ErrorCode.CONFLICT, f"{path} is there and is no socket", "move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise PlatformError(ErrorCode.CONFLICT, f"another server answers on {path}", "`santiago down` ends it")


def port_owner(port: int) -> str:
    """`PID n (name)` of the process that listens on a TCP port; empty where /proc does not tell."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in _listening(Path("/proc/net") / table, port)}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for descriptor in (process / "fd").iterdir():
                if os.readlink(descriptor).removeprefix("socket:[").removesuffix("]") in inodes:
                    return f"PID {process.name} ({(process / 'comm').read_text().strip()})"
        except OSError:  # another user's, or gone
            continue
    return ""


def _listening(table: Path, port: int) -> Iterator[str]:
    """Inodes of the sockets that listen on `port`, by a table of /proc/net."""
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return
    for fields in map(str.split, lines):
        if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
            yield fields[9]


async def serve(app: ASGIApp, listeners: Sequence[socket.socket], *, started: Callable[[], None] | None = None) -> None:
    """Serves until it is cancelled or the process gets SIGTERM or SIGINT; then lets calls end for two seconds.

    started: called once requests are answered. The listeners are closed at the end, and a Unix one's file removed.
    The loop is the caller's: `asyncio.Runner(loop_factory=uvloop.new_event_loop)` is the fast one.
    """
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config, started)
    files = [Path(listener.getsockname()) for listener in listeners if listener.family == socket.AF_UNIX]
    serving = asyncio.ensure_future(server.serve(sockets=list(listeners)))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise
    finally:
        for listener in listeners:
            listener.close()
        for file in files:
            file.unlink(missing_ok=True)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._tell is not None and self.started:
            self._tell()
