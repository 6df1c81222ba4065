"""Which workspace has which port of this machine: one registry a user, under a lock.

Envoy listens with SO_REUSEPORT, so a second workspace on the same port would take the first one's traffic in
silence. Hence a port is claimed here first, and probed by an exclusive bind.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...domain.errors import ErrorCode, PlatformError

# Below the ephemeral range of Linux, so that no outgoing connection sits on a port of ours.
FIRST, LAST = 20000, 29999


class PortRegistry:
    """Claims by (workspace, purpose). A claim of a workspace that was deleted is free again."""

    def __init__(self, workspace: Path, directory: Path | None = None) -> None:
        self._workspace = str(workspace)
        base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
        self._directory = directory or Path(base) / "santiago"

    def claim(self, purpose: str, *, port: int | None = None) -> int:
        """The port of this purpose: the one claimed before, else `port`, else a free one.

        Raises PlatformError: CONFLICT where `port` is another workspace's, or another program listens on it;
        RESOURCE_EXHAUSTED where none is free.
        """
        with self._claims() as claims:
            mine = next((int(p) for p, c in claims.items() if c == [self._workspace, purpose]), None)
            if mine is not None and port in (None, mine):
                return mine
            if mine is not None:
                del claims[str(mine)]
            chosen = self._first_free(claims) if port is None else self._checked(claims, port)
            claims[str(chosen)] = [self._workspace, purpose]
            return chosen

    def release(self, purpose: str) -> None:
        """Unknown is no error."""
        with self._claims() as claims:
            for port in [p for p, c in claims.items() if c == [self._workspace, purpose]]:
                del claims[port]

    def mine(self) -> dict[str, int]:
        """Ports of this workspace by purpose."""
        with self._claims() as claims:
            return {purpose: int(port) for port, (workspace, purpose) in claims.items() if workspace == self._workspace}

    def owners(self) -> dict[int, str]:
        """The workspace of each port that is claimed."""
        with self._claims() as claims:
            return {int(port): workspace for port, (workspace, _) in claims.items()}

    def _checked(self, claims: dict[str, list[str]], port: int) -> int:
        if str(port) in claims:
            workspace, purpose = claims[str(port)]
            raise PlatformError(
                ErrorCode.CONFLICT,
                f"port {port} belongs to the workspace {workspace} ({purpose})",
                "choose another one under `addresses` in santiago.yaml, or delete that workspace",
            )
        if not bindable(port):
            privileged = port < 1024 and os.geteuid() != 0
            raise PlatformError(
                ErrorCode.CONFLICT,
                f"port {port} needs root" if privileged else f"another program listens on 127.0.0.1:{port}",
                f"`ss -ltnp 'sport = :{port}'` names it; or choose another port under `addresses` in santiago.yaml",
            )
        return port

    def _first_free(self, claims: dict[str, list[str]]) -> int:
        # Each workspace begins elsewhere, so that a port that was just freed is not taken at once by another one.
        start = zlib.crc32(self._workspace.encode()) % (LAST - FIRST)
        for offset in range(LAST - FIRST + 1):
            port = FIRST + (start + offset) % (LAST - FIRST + 1)
            if str(port) not in claims and bindable(port):
                return port
        raise PlatformError(
            ErrorCode.RESOURCE_EXHAUSTED, f"no port from {FIRST} to {LAST} is free", "stop what is no longer needed"
        )

    @contextmanager
    def _claims(self) -> Iterator[dict[str, list[str]]]:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._directory / "ports.json"
        with (self._directory / "ports.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            read = _read(path)
            claims = {port: claim for port, claim in read.items() if os.path.isdir(os.path.join(claim[0], ".santiago"))}
            yield claims
            if claims != read:
                partial = path.with_suffix(".new")
                partial.write_text(json.dumps(claims, indent=0, sort_keys=True))
                partial.rename(path)


def _read(path: Path) -> dict[str, list[str]]:
    """The claims that can be made out. What cannot is forgotten: the bind still protects what listens."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    items = found.items() if isinstance(found, dict) else ()
    return {port: claim for port, claim in items if port.isdecimal() and _is_claim(claim)}


def _is_claim(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(word, str) for word in value)


def bindable(port: int) -> bool:
    """Whether nobody listens on the port: an exclusive bind, which fails beside a listener with SO_REUSEPORT too."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            if exc.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True
