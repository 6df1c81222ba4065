"""Where everything of a workspace lies on this machine. Paths only: nothing is read or made here."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """root: the workspace, absolute and resolved. All of `.santiago/` is private (0700)."""

    root: Path

    @classmethod
    def of(cls, root: Path | str) -> Layout:
        return cls(Path(root).resolve())

    @property
    def id(self) -> str:
        """Names the workspace on this machine; in environment variables of its processes too."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:12]

    @cached_property
    def state(self) -> Path:
        return self.root / ".santiago"

    @property
    def database(self) -> Path:
        return self.state / "platform.db"

    @property
    def lock(self) -> Path:
        """Held by the daemon as long as it lives."""
        return self.state / "daemon.lock"

    @property
    def binaries(self) -> Path:
        """Binaries by digest: nothing under s6 refers to a place that can be deleted."""
        return self.state / "bin"

    @property
    def releases(self) -> Path:
        """The OCI layout."""
        return self.state / "releases"

    @property
    def evidence(self) -> Path:
        """What was attested of releases: evidence/RELEASE/SHA256."""
        return self.state / "evidence"

    @property
    def builds(self) -> Path:
        """Private folders of builds that are under way; HOME of their processes lies there."""
        return self.state / "builds"

    @property
    def unpacked(self) -> Path:
        """Read-only release directories, by digest: what instances run in."""
        return self.state / "unpacked"

    @property
    def volumes(self) -> Path:
        """What services keep, over all versions: volumes/SERVICE__ENVIRONMENT/NAME."""
        return self.state / "volumes"

    @property
    def keys(self) -> Path:
        """Private keys of this workspace, 0600."""
        return self.state / "keys"

    @property
    def secrets(self) -> Path:
        """Sealed values, by a key among `keys`."""
        return self.state / "secrets.json"

    @cached_property
    def scan(self) -> Path:
        """The directory that s6-svscan watches."""
        return self.state / "scan"

    @cached_property
    def units(self) -> Path:
        """Service directories of s6, one a unit."""
        return self.state / "units"

    @property
    def logs(self) -> Path:
        """logs/UNIT/current and its rotated files."""
        return self.state / "logs"

    @property
    def xds(self) -> Path:
        """What the Envoys read."""
        return self.state / "xds"

    @property
    def temporary(self) -> Path:
        """The daemon's temporary files, which its next start removes."""
        return self.state / "tmp"

    @property
    def prometheus(self) -> Path:
        return self.state / "prometheus"

    @property
    def alertmanager(self) -> Path:
        return self.state / "alertmanager"

    @property
    def flags(self) -> Path:
        """The last good flags, the key of their change stream, and the port of their endpoint."""
        return self.state / "flags"

    @property
    def owner_token(self) -> Path:
        return self.state / "owner.token"

    @property
    def restored(self) -> Path:
        """Of which backup the workspace was made, until the platform has started once."""
        return self.state / "restored.json"

    @property
    def ship_log(self) -> Path:
        return self.root / "ships-logs" / "platform"

    @property
    def runtime(self) -> Path:
        """Sockets: a short path, since a socket's may have 107 bytes at most.

        The same one for every caller: cron, ssh and a desktop session of one user differ in XDG_RUNTIME_DIR and TMPDIR,
        and /run/user goes when its user logs out. Whoever makes it checks that it is private.
        """
        return Path("/tmp") / f"santiago-{os.getuid()}-{self.id}"  # noqa: S108 - private, and checked

    @property
    def daemon_socket(self) -> Path:
        return self.runtime / "daemon.sock"

    def envoy_admin(self, name: str) -> Path:
        """name: `envoy-a` or `envoy-b`."""
        return self.runtime / f"{name}.sock"


ENVOYS = ("envoy-a", "envoy-b")
WORKSPACE_VARIABLE = "SANTIAGO_WORKSPACE_ID"
