"""Tenants on this machine: a user of its own for each, as far as the platform is root.

What an instance of a tenant needs lies below `.santiago`, which only the platform's user may enter. So it gets a mount
namespace in which its release and its home appear at a place that it may enter; nothing's mode is changed for it.
Everything that needs privileges happens before the service's own variables are set.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from ...domain.environment import Settings
from ...domain.errors import ErrorCode, PlatformError
from ...domain.workload import Template
from ..file_lock import locked
from ..layout import Layout
from .port_registry import PortRegistry

REGISTRY = "tenants.json"
# Between the users of systemd-homed and those that systemd gives to services for a while.
FIRST_UID, LAST_UID = 61000, 61183

_ENTER = """\
uid=$1 place=$2 release=$3 home=$4
shift 4
mkdir -p "$place" && mount -t tmpfs -o mode=0755,nosuid,nodev,noexec,size=64k tenant "$place" &&
  mkdir "$place/release" "$place/home" &&
  mount --bind "$release" "$place/release" && mount -o remount,bind,ro,nosuid,nodev "$place/release" &&
  mount --bind "$home" "$place/home" && mount -o remount,bind,nosuid,nodev "$place/home" &&
  mount -o remount,ro "$place" && cd "$place/release" || exit 111
mount -t proc -o nosuid,nodev,noexec,hidepid=2 proc /proc 2>/dev/null # others' processes are not shown, where allowed
umask 077
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups --no-new-privs --bounding-set -all --inh-caps -all -- "$@"
"""
_NAMESPACE = ("unshare", "--mount", "--propagation", "private", "--")


class Tenants:
    """Whose services run as whom. In a workspace without `tenants` all run as the platform's own user.

    settings: read at each start. root: whether the platform may be other users.
    """

    def __init__(self, layout: Layout, settings: Callable[[], Settings], *, root: bool | None = None) -> None:
        self._layout = layout
        self._settings = settings
        self._root = os.geteuid() == 0 if root is None else root

    def admit(self, tenant: str) -> None:
        """Raises PlatformError: FAILED_PRECONDITION where the tenant cannot be kept apart from the others here,
        UNAVAILABLE while santiago.yaml does not say who they are."""
        settings = self._now()
        if tenant == settings.tenant and not self._root:
            return
        if settings.tenants and (problem := self._problem):
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"the tenant {tenant} cannot be kept apart from the others on this machine: {problem}",
                "run the platform as root, or give the tenant a workspace of its own under another user",
            )

    def _now(self) -> Settings:
        try:
            return self._settings()
        except PlatformError as exc:  # a mistake that is being made right now fails no rollout: it is tried again
            raise PlatformError(ErrorCode.UNAVAILABLE, f"the tenants cannot be read: {exc.message}", exc.hint) from exc

    @cached_property
    def _problem(self) -> str:
        if not self._root:
            return "each needs a user of its own, and the platform does not run as root"
        words = (*_NAMESPACE, "sh", "-c", "mount -t tmpfs none /tmp && setpriv --reuid 61000 --clear-groups true")
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return f"root may not do all here: {done.stderr.strip()[-200:]}" if done.returncode else ""

    def uid(self, tenant: str) -> int | None:
        """The tenant's user, the same for ever; None where it runs as the platform's own.

        Raises RESOURCE_EXHAUSTED where none is left.
        """
        if not self._root or not self._now().tenants:
            return None
        path, homes = self._layout.state / REGISTRY, self._layout.state / "home"
        homes.mkdir(exist_ok=True, mode=0o700)
        with locked(homes):
            known = _users(path)
            if tenant not in known:
                taken = {*known.values(), *self._elsewhere(), *(user.pw_uid for user in pwd.getpwall())}
                free = next((uid for uid in range(FIRST_UID, LAST_UID + 1) if uid not in taken), None)
                if free is None:
                    raise PlatformError(
                        ErrorCode.RESOURCE_EXHAUSTED,
                        f"no user from {FIRST_UID} to {LAST_UID} is left for the tenant {tenant}",
                        "delete a workspace whose tenants are no longer needed",
                    )
                known[tenant] = free
                partial = path.with_suffix(".new")
                partial.write_text(json.dumps(known, indent=0, sort_keys=True))
                partial.rename(path)
        return known[tenant]

    def _elsewhere(self) -> Iterator[int]:
        """Users of the other workspaces of this machine, which their claims of ports make known."""
        for workspace in set(PortRegistry(self._layout.root).owners().values()) - {str(self._layout.root)}:
            yield from _users(Layout(Path(workspace)).state / REGISTRY).values()

    @property
    def _place(self) -> Path:
        return Path("/run") / f"santiago-{self._layout.id}"

    def prefix(self, template: Template, directory: Path) -> tuple[str, ...]:
        """Words in front of a command, which make it one of the tenant's in its release; none for the platform's user.

        Also what is made for it: its home, which is its own.
        """
        uid = self.uid(template.tenant)
        home = self._real_home(template)
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if uid is None:
            return ()
        self.hand_over(home, uid)
        return (*_NAMESPACE, "sh", "-c", _ENTER, "tenant", str(uid), str(self._place), str(directory), str(home))

    def home(self, template: Template) -> Path:
        """HOME, as the instance sees it."""
        return self._real_home(template) if self.uid(template.tenant) is None else self._place / "home"

    def _real_home(self, template: Template) -> Path:
        return self._layout.state / "home" / f"{template.service}__{template.environment}"

    def hand_over(self, folder: Path, uid: int) -> None:
        """Makes `folder` and all in it the user's, unless it is already. No link is followed, whenever it is made."""
        if folder.stat().st_uid == uid:
            return
        for _, folders, files, descriptor in os.fwalk(folder):
            for name in (*folders, *files):
                os.chown(name, uid, uid, dir_fd=descriptor, follow_symlinks=False)
        folder.chmod(0o700)
        os.chown(folder, uid, uid)  # last, so that one that was interrupted is done again

    def disk_bytes(self, services: Iterable[str]) -> int:
        """On disk, of the homes and volumes of these services. Blocking; goes through every file."""
        roots = [self._layout.state / kind for kind in ("home", "volumes")]
        owned = [folder for root in roots for service in services for folder in root.glob(f"{service}__*")]
        return sum(map(_disk_bytes, owned))


def _users(path: Path) -> dict[str, int]:
    try:
        found: dict[str, int] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return found


def _disk_bytes(folder: Path) -> int:
    """A file with several names counts once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for parent, _, files in os.walk(folder):
        for name in (".", *files):
            with suppress(OSError):
                status = os.lstat(os.path.join(parent, name))
                if (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    total += status.st_blocks * 512
    return total
