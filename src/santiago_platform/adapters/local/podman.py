"""Containers of a release's image, run by podman under s6.

podman makes the container and is gone: what stays is conmon, podman's own small parent of a container, and the unit's
launcher, which follows the container's process, passes SIGTERM on and ends as it ended. Its output goes straight to the
unit's log, and its control groups are the same as those of a service without an image. Everything of podman's lies in
the workspace: no container or image of the machine's own podman is seen or touched.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from ...domain.errors import ErrorCode, PlatformError
from ..file_lock import locked
from ..layout import WORKSPACE_VARIABLE, Layout
from .binaries import FETCHED, Binary, find, keep, on_path
from .mounts import TRIAL_SECONDS

IMAGES = "localhost/santiago"
PODMAN_HINT = (
    "install it (Debian, Ubuntu: `apt-get install podman runc`), or let `santiago doctor --fetch --images` fetch it; "
    "then restart the platform"
)
_COMMAND_SECONDS = 600.0  # an image of some gigabytes on a slow disk
_REMOVAL_SECONDS = 30.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Podman:
    """Blocking. All calls are idempotent."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._home = layout.state / "containers"

    def admit(self) -> None:
        """Raises PlatformError(FAILED_PRECONDITION) where releases with a base image cannot run here."""
        problem, hint = problem_here()
        if problem:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION, f"a release with a base image cannot run here: {problem}", hint
            )

    # --- images -----------------------------------------------------------------------------------------------

    def has(self, service: str, release: str) -> bool:
        return self._succeeds("image", "exists", image_name(service, release))

    def load(self, service: str, release: str, oci_layout: Path) -> None:
        """Takes in the one image of an OCI layout, whose folder has a plain name.

        Raises PlatformError: DATA_CORRUPT where it is not the release, FAILED_PRECONDITION where podman cannot.
        """
        with locked(self._home):  # podman itself would store it twice
            if self.has(service, release):
                return
            name = f"{IMAGES}/{service}:{release.removeprefix('sha256:')[:12]}"
            # podman makes a name of the path, and takes few paths for one.
            words = ("pull", "--quiet", "--signature-policy", self._policy, f"oci:{oci_layout.name}")
            image = self._run(*words, directory=oci_layout.parent).split()[-1]
            self._run("tag", image, name)
            self._succeeds("untag", image, f"localhost/{oci_layout.name}:latest")  # else `rmi` finds two names
            if not self.has(service, release):
                raise PlatformError(
                    ErrorCode.DATA_CORRUPT, f"podman took in another image than {release}", "build the release again"
                )

    def images(self) -> list[tuple[str, str]]:
        """Of each that is here, the release's digest and podman's own id."""
        said = self._run("images", "--digests", "--no-trunc", "--format", "{{.Digest}} {{.ID}}")
        return sorted({(digest, image) for digest, image in map(str.split, said.splitlines())})

    def remove_images(self, ids: Collection[str]) -> None:
        """One that a container still uses stays."""
        for image in ids:
            self._succeeds("rmi", image)

    def sweep(self, units: Callable[[], Collection[str]]) -> None:
        """Removes the containers of units that are gone. units: asked last, so that a new one is not among the gone."""
        if self._home.is_dir() and not problem_here()[0]:
            names = self._run("ps", "--all", "--format", "{{.Names}}").split()
            known = set(units())
            self.remove([n for n in names if n not in known and n.rpartition(".")[0] not in known])

    # --- containers -------------------------------------------------------------------------------------------

    def conclude(self, names: Collection[str]) -> tuple[str, ...]:
        """For `Unit.conclude`: the containers are gone after it. What has lost its conmon takes podman two attempts."""
        removal = shlex.join([*self.words, "rm", "--force", "--ignore", "--time", "0", *names])
        return ("sh", "-c", f"{{ {removal} || {removal}; }} >/dev/null 2>&1")

    def remove(self, names: Collection[str]) -> None:
        """Ends and forgets containers; those that are gone are no error."""
        if not names:
            return
        with suppress(subprocess.TimeoutExpired):  # the next start replaces it
            subprocess.run(self.conclude(names), timeout=_REMOVAL_SECONDS, check=False)

    def exec(self, name: str, command: tuple[str, ...]) -> tuple[str, ...]:
        """A command that runs `command` in a container, as the container's user."""
        return (*self.words, "exec", name, *command)

    # --- podman -----------------------------------------------------------------------------------------------

    @cached_property
    def words(self) -> tuple[str, ...]:
        """podman with the workspace's configuration, in front of its arguments."""
        self._home.mkdir(mode=0o700, exist_ok=True)
        kept = {name: keep(name, self._layout.binaries) for name in ("podman", "conmon", "runc") if _fetched(name)}
        engine: dict[str, object] = {
            "cgroup_manager": "cgroupfs",
            "events_logger": "none",
            "lock_type": "file",  # the default is shared by all of the user's podmans
            "runtime": runtime(),
            "tmp_dir": str(self._layout.runtime / "containers" / "tmp"),
            "volume_path": str(self._home / "volumes"),
            "conmon_env_vars": [f"{WORKSPACE_VARIABLE}={self._layout.id}"],
        }
        driver = "overlay" if _overlays(self._home) else "vfs"
        environment = {
            "CONTAINERS_CONF": self._write("containers.conf", {"engine": engine} | _runtimes(kept, engine)),
            "CONTAINERS_STORAGE_CONF": self._write(
                "storage.conf",
                {
                    "storage": {
                        "driver": driver,
                        "graphroot": str(self._home / "storage"),
                        "runroot": str(self._layout.runtime / "containers" / "run"),
                    },
                    "storage.options.overlay": {"skip_mount_home": "true"},
                },
            ),
            "CONTAINERS_REGISTRIES_CONF": self._write("registries.conf", {}),
            "HOME": str(self._home),
            "PATH": PATH,
        }
        podman = kept.get("podman")
        if podman is not None and podman.libraries is not None:
            environment["LD_LIBRARY_PATH"] = str(podman.libraries)
        path = podman.path if podman else _found("podman").path
        return ("env", *(f"{key}={value}" for key, value in environment.items()), str(path))

    @property
    def _policy(self) -> str:
        """Any image: the release's own signature was verified."""
        path = self._home / "policy.json"
        if not path.exists():
            path.write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
        return str(path)

    def _write(self, name: str, sections: dict[str, dict[str, object]]) -> str:
        """TOML; what is JSON of texts, lists and tables of one level is it too."""
        lines = [
            line
            for section, values in sections.items()
            for line in (f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()))
        ]
        path, partial = self._home / name, self._home / f"{name}.{os.getpid()}"
        partial.write_text("\n".join(lines) + "\n")
        partial.rename(path)
        return str(path)

    def _succeeds(self, *arguments: str) -> bool:
        return self._done(*arguments).returncode == 0

    def _run(self, *arguments: str, directory: Path | None = None) -> str:
        done = self._done(*arguments, directory=directory)
        if done.returncode != 0:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"podman {arguments[0]} failed: {done.stderr.strip()[-500:]}",
                "`santiago doctor` looks whether containers can run here",
            )
        return done.stdout

    def _done(self, *arguments: str, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [*self.words, *arguments],
                cwd=directory,
                capture_output=True,
                text=True,
                check=False,
                timeout=_COMMAND_SECONDS,
            )
        except subprocess.TimeoutExpired as exc:
            raise PlatformError(
                ErrorCode.UNAVAILABLE, f"podman {arguments[0]} does not end", "is the disk very slow?"
            ) from exc


def problem_here() -> tuple[str, str]:
    """Why no container can run on this machine, and what to do; both empty where one can."""
    if os.geteuid() != 0:
        return "the platform does not run as root", "run the platform as root, or deploy a release without `base`"
    if find("podman") is None:
        return "podman is not there", PODMAN_HINT
    if find("runc") is None and on_path("crun") is None:
        return "podman has no OCI runtime", PODMAN_HINT
    if find("runc") is None and Path("/sys/fs/cgroup/unified").exists():
        return "crun refuses this machine's control groups, which are of both versions", "install runc"
    return "", ""


def runtime() -> str:
    """runc goes first: it takes control groups of both versions at once."""
    return "runc" if find("runc") else "crun"


def unmount_below(folder: Path) -> None:
    """What a killed podman left mounted."""
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for path in sorted((p for p in mounted if Path(p).is_relative_to(folder)), reverse=True):
        subprocess.run(["umount", "--lazy", path], capture_output=True, check=False)


def _found(name: str) -> Binary:
    found = find(name)
    if found is None:
        raise PlatformError(ErrorCode.FAILED_PRECONDITION, f"the program {name} is missing", PODMAN_HINT)
    return found


def _fetched(name: str) -> bool:
    """Whether it is not the machine's own, which knows where the rest of it is."""
    found = find(name)
    return found is not None and found.source == FETCHED


def _runtimes(kept: dict[str, Binary], engine: dict[str, object]) -> dict[str, dict[str, object]]:
    """Tells a fetched podman where the rest of it is."""
    if conmon := kept.get("conmon"):
        engine["conmon_path"] = [str(conmon.path)]
        if conmon.libraries is not None:
            variables = engine["conmon_env_vars"]
            assert isinstance(variables, list)  # noqa: S101
            variables.append(f"LD_LIBRARY_PATH={conmon.libraries}")
    chosen = kept.get(runtime())
    return {"engine.runtimes": {runtime(): [str(chosen.path)]}} if chosen else {}


def _overlays(folder: Path) -> bool:
    """Whether layers can be mounted over each other there; else podman copies them."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".trial-") as scratch:
        script = (
            'cd "$1" && mkdir a b c d && '
            "mount -t overlay -o lowerdir=a,upperdir=b,workdir=c trial d && : >d/e && [ -e b/e ]"
        )
        words = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", scratch)
        try:
            return subprocess.run(words, capture_output=True, timeout=TRIAL_SECONDS, check=False).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False


def image_name(service: str, release: str) -> str:
    """As podman knows a release's image: it looks the digest up, and not the name alone."""
    return f"{IMAGES}/{service}@{release}"
