"""Files and volumes at the paths of a container: mounts that nobody else sees, made before it becomes the service.

A launcher enters a mount namespace of its own and runs a script there, which puts everything in place and then becomes
the service by `exec`: the pid stays, signals reach the service, and the mounts end with it. For a path whose parents
are not there something has to be made, and nothing of the machine may be: the nearest directory that is there is
mirrored, by a tmpfs in which each of its entries is mounted. Where that is the root, the mirror becomes the root.
"""

from __future__ import annotations

import base64
import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...domain.errors import ErrorCode, PlatformError
from ...domain.secret import revealed
from ...domain.workload import Container, File, Volume
from ..workspace.placeholder import PlaceholderError, expand

LIMIT_BYTES = 16 << 20  # of a file: it is copied for each instance
TRIAL_SECONDS = 20.0
_UNSHARE = ("--mount", "--propagation", "slave")  # what the machine mounts is seen, and nothing is mounted there

_SCRIPT = """\
#!/bin/sh
# Runs in a mount namespace of its own: puts files and volumes in place, and becomes what its arguments say.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
unset LD_LIBRARY_PATH
here={here}
release=$PWD
mask=$(umask)
stage=$here/stage
mirrors=" "

refuse() {{
  echo "$place cannot be mounted: $1"
  exit 111
}}

# A path as a field of fstab.
field() {{
  case $1 in
    *[[:space:]\\\\#]*) printf '%s' "$1" | od -An -v -to1 | tr -d '\\n' | tr ' ' '\\\\' ;;
    *) printf '%s' "$1" ;;
  esac
}}

# Covers the directory $1 by a tmpfs that shows all that is in it.
mirror() {{
  shape=$(stat -c '%a %u:%g' "$1") && [ -r "$1" ] || refuse "$1 cannot be read"
  mount -n -t tmpfs -o "size=16m,mode=${{shape%% *}}" tmpfs "$stage" &&
    mount -n --make-unbindable "$stage" || refuse "no tmpfs can be mounted"
  chown "${{shape#* }}" "$stage" 2>/dev/null
  find "$1" -mindepth 1 -maxdepth 1 -type l -exec cp -P -t "$stage" -- {{}} +
  table=
  set -- "$1"
  for entry in "${{1%/}}"/* "${{1%/}}"/.[!.]* "${{1%/}}"/..?*; do
    copy=$stage/${{entry##*/}}
    if [ -L "$entry" ]; then
      continue
    elif [ -d "$entry" ]; then
      set -- "$@" "$copy"
      table="$table$(field "$entry") $(field "$copy") none rbind 0 0
"
    elif [ -e "$entry" ]; then
      : >"$copy"
      table="$table$(field "$entry") $(field "$copy") none bind 0 0
"
    fi
  done
  near=$1
  shift
  [ $# -eq 0 ] || mkdir "$@"
  printf '%s' "$table" >"$0.fstab" && mount -n -a -c -T "$0.fstab" || refuse "what is in $near cannot be shown"
  mount -n --make-private "$stage"
  mirrors="$mirrors$(stat -c %d "$stage") "
  if [ "$near" = / ]; then
    cd "$stage" && pivot_root . . && umount -n -l . && cd / || refuse "the root cannot be replaced"
  else
    mount -n --move "$stage" "$near" || refuse "$near cannot be covered"
  fi
}}

# Sees to it that $place is a file, for $1 = f, or a directory, for d, to mount over.
prepare() {{
  [ "-$1" "$place" ] && return
  if [ -e "$place" ] || [ -L "$place" ]; then refuse "something else is there"; fi
  near=${{place%/*}}
  until [ -d "${{near:-/}}" ]; do near=${{near%/*}}; done
  near=$(cd -P "${{near:-/}}" && pwd -P) || refuse "its directory cannot be entered"
  case $mirrors in
    *" $(stat -c %d "$near") "*) ;;
    *) mirror "$near" ;;
  esac
  if [ "$1" = d ]; then
    mkdir -p "$place"
  else
    mkdir -p "${{place%/*}}/" && : >"$place"
  fi || refuse "nothing can be made there"
}}

read_only() {{
  mount -n -o "remount,bind,$(findmnt -n -o VFS-OPTIONS -M "$place"),$1" "$place" || refuse "it cannot be protected"
}}

file() {{ # CONTENT PATH
  place=$2
  prepare f
  mount -n --bind "$1" "$place" || refuse "mount failed"
  read_only nosuid,nodev,ro
}}

# A link in the volume is not followed: the service may have put it there.
volume() {{ # DIRECTORY PATH OPTIONS
  place=$2
  prepare d
  cd "$1" && [ "$(pwd -P)" = "$1" ] || refuse "$1 is no directory of the volume"
  mount -n -c --bind . "$place" || refuse "mount failed"
  cd /
  read_only "$3"
}}

exec 2>&1
umask 022
mkdir -p "$stage"
{calls}
cd "$release" || exit 111
umask "$mask"
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Namespace:
    """How this user gets a mount namespace. enter, leave: words in front of what runs in it, and of what then runs
    without the privileges to mount. problem: why there is none; empty where there is one."""

    enter: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()
    problem: str = ""


@cache
def namespace() -> Namespace:
    """Tried once: what a machine allows depends on its kernel, its security modules and on what it runs in."""
    drop = ("setpriv", "--ambient-caps=-all", "--inh-caps=-all")
    as_user = Namespace(("unshare", "--user", "--map-current-user", "--keep-caps", *_UNSHARE), drop)
    ways = [as_user] if os.getuid() else [Namespace(("unshare", *_UNSHARE)), as_user]
    problem = ""
    for way in ways:
        words = (*way.enter, "sh", "-c", 'mount -n -t tmpfs tmpfs /tmp && exec "$@"', "sh", *way.leave, "true")
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=TRIAL_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as exc:
            problem = f"{words[0]}: {exc}"
            continue
        if done.returncode == 0:
            return way
        problem = (done.stderr.strip().splitlines() or [f"{words[0]} exited with code {done.returncode}"])[-1]
    return Namespace(problem=problem)


NAMESPACE_HINT = (
    "run the platform as root, or let users have namespaces: `sysctl -w kernel.unprivileged_userns_clone=1`, on Ubuntu "
    "`sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`; a container that it runs in needs CAP_SYS_ADMIN"
)


def inside(pid: int, directory: Path) -> tuple[str, ...]:
    """Words in front of a command, which then sees what the process sees, with `directory` as its working directory."""
    namespaces = ("--mount",) if not namespace().leave else ("--user", "--preserve-credentials", "--mount")
    cd = ("/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(directory))
    return ("nsenter", "--target", str(pid), *namespaces, "--", *cd)


def is_mounting(pid: int, unit: Path) -> bool:
    """Whether the process is on its way to its mounts, and is not the program yet."""
    try:
        entered = os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
        return not entered or f"{unit}/".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False  # it has ended, or it does not let itself be looked at, which no launcher does


@dataclass(frozen=True, slots=True)
class Mounts:
    """What one container finds at its paths. prefix: words in front of its command. files: of the service directory."""

    prefix: tuple[str, ...]
    files: dict[str, str | bytes]


def mounts(
    container: Container,
    *,
    unit: Path,
    release: Path,
    volumes: Path,
    owner: tuple[int, int] | None = None,
    secrets: Mapping[str, str] = {},
) -> Mounts:
    """unit: the service directory, where it will be. volumes: the directory of the service's volumes. owner: uid and
    gid of the service, where they are not the platform's. secrets: values, by the text that stands for them.

    Raises PlatformError: FAILED_PRECONDITION where the machine has no mount namespaces, or the release lacks a file;
    INVALID_ARGUMENT for a file of the release with a placeholder that stands for nothing.
    """
    if not container.files and not container.volumes:
        return Mounts((), {})
    way = namespace()
    if way.problem:
        paths = ", ".join([*(file.path for file in container.files), *(v.path for v in container.volumes)])
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"nothing can be mounted at {paths}: this user gets no mount namespace ({way.problem})",
            NAMESPACE_HINT,
        )
    contents: dict[str, str | bytes] = {}
    calls = []
    for index, file in enumerate(container.files):
        name = f"file-{container.name}-{index}"
        contents[name] = file_content(file, release, secrets)
        path = shlex.quote(str(unit / name))
        calls.append(f"chmod {file.mode:04o} {path}")
        if owner is not None:
            calls.append(f"chown {owner[0]}:{owner[1]} {path}")
        calls.append(f"file {path} {shlex.quote(file.path)}")
    for volume in container.volumes:
        options = "nosuid,nodev,ro" if volume.read_only else "nosuid,nodev"
        directory = shlex.quote(str(directory_of(volume, volumes, owner)))
        calls.append(f"volume {directory} {shlex.quote(volume.path)} {options}")
    script = f"mounts-{container.name}"
    contents[script] = _SCRIPT.format(here=shlex.quote(str(unit)), calls="\n".join(calls))
    return Mounts((*way.enter, "/bin/sh", str(unit / script), *way.leave), contents)


def try_mounts(
    container: Container, *, scratch: Path, release: Path, volumes: Path, owner: tuple[int, int] | None = None
) -> None:
    """Mounts all of it, and lets go again. scratch: a private directory, whose content goes with it.

    Raises PlatformError: as `mounts`, and FAILED_PRECONDITION with the path and the reason where it cannot be mounted.
    """
    found = mounts(container, unit=scratch, release=release, volumes=volumes, owner=owner)
    if not found.prefix:
        return
    for name, content in found.files.items():
        (scratch / name).write_bytes(content.encode() if isinstance(content, str) else content)
    try:
        done = subprocess.run(
            [*found.prefix, "true"], cwd=release, capture_output=True, text=True, timeout=TRIAL_SECONDS, check=False
        )
        said, code = (done.stdout + done.stderr).strip().splitlines(), done.returncode
    except subprocess.TimeoutExpired:
        said, code = [f"it took more than {TRIAL_SECONDS:g} s"], 1
    if code != 0:
        *before, last = said or [f"exit code {code}"]
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            last + (f" ({before[-1]})" if before else ""),
            "choose another path in score.yaml, or make its directory on this machine",
        )


def file_content(file: File, release: Path, secrets: Mapping[str, str]) -> bytes:
    if file.content is not None:
        return revealed(file.content, secrets).encode()
    if file.content_base64 is not None:
        return base64.b64decode(file.content_base64)
    content = _read(file, release)
    if file.placeholders is None:
        return content
    known = {name: revealed(text, secrets) for name, text in file.placeholders}

    def lookup(parts: tuple[str, ...]) -> str:
        if (name := ".".join(parts)) not in known:
            raise PlaceholderError(
                f"`${{{name[:80]}}}` stands for nothing here",
                "write `$$` for a dollar sign, or `noExpand: true` in score.yaml to take the file as it is",
            )
        return known[name]

    try:
        return expand(content.decode(), lookup).encode()
    except UnicodeDecodeError as exc:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT, f"{file.source} is not UTF-8 text", "write `noExpand: true` in score.yaml"
        ) from exc
    except PlaceholderError as exc:
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"{file.source}: {exc.problem}", exc.hint) from exc


def _read(file: File, release: Path) -> bytes:
    """What the release has at the file's source. A link out of it is refused, whoever unpacked it."""
    path = release / (file.source or "")
    missing = PlatformError(
        ErrorCode.FAILED_PRECONDITION,
        f"{file.path} cannot be made: the release has no file {file.source}",
        "name it among the `outputs` of build.yaml, and commit it",
    )
    if not path.resolve().is_relative_to(release.resolve()) or not path.is_file():
        raise missing
    if path.stat().st_size > LIMIT_BYTES:
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"{file.source} is larger than {LIMIT_BYTES >> 20} MiB",
            "let the program open it in its working directory, which is the release",
        )
    return path.read_bytes()


def directory_of(volume: Volume, volumes: Path, owner: tuple[int, int] | None) -> Path:
    """Makes what is missing of it, each part by itself: a link in it leads nowhere."""
    volumes.mkdir(parents=True, mode=0o700, exist_ok=True)
    volumes = volumes.resolve()
    parts = [volume.name, *filter(None, volume.subpath.split("/"))]
    within = os.open(volumes, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts:
            try:
                os.mkdir(part, 0o700, dir_fd=within)
            except FileExistsError:
                pass
            else:
                if owner is not None:
                    os.chown(part, *owner, dir_fd=within, follow_symlinks=False)
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)
            os.close(within)
            within = below
    except (NotADirectoryError, PermissionError) as exc:
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"{volume.path} cannot be mounted: {volume.subpath!r} is no directory of the volume {volume.name}",
            "choose another `path` in it",
        ) from exc
    finally:
        os.close(within)
    return volumes.joinpath(*parts)
