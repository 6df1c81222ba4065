"""One container of an instance, run by podman: what launches it, and how it comes into its control groups."""

from __future__ import annotations

import csv
import io
import json
import re
import resource
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...domain.errors import ErrorCode, PlatformError
from ...domain.secret import refers
from ...domain.workload import Container, Template
from ..process import Process, recorded
from .mounts import directory_of, file_content
from .podman import PATH, Podman, image_name

LONGEST_IN_FILE = 32_000  # characters; podman reads lines of 64 KiB
_PLAIN_NAME, _LINE_END = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*"), re.compile(r"[\n\r]")
# What podman and its runtime lower their own limits to where they may not raise them: more cannot be given on.
_LIMITS = (("nofile", resource.RLIMIT_NOFILE, 1 << 20), ("nproc", resource.RLIMIT_NPROC, 1 << 15))

_LAUNCH = """\
#!/bin/sh
# Starts a container, follows its process, and ends as that ends. It also ends where conmon was killed: then nobody
# but the kernel knows when the container is over.
exec 2>&1
cd {unit} || exit 111
pid= told=
pass_on() {{ told=1; [ -z "$pid" ] || kill -TERM "$pid"; }}
trap pass_on TERM
rm -f {noted}
{run} || exit
read -r pid _ <{noted} || exit 111
[ -z "$told" ] || kill -TERM "$pid"
tail --pid="$pid" -s 0.2 -f /dev/null &
while kill -0 "$!" 2>/dev/null; do wait "$!"; done
tries=5
while :; do # conmon tells podman of the end, unless it was killed
  read -r state code <<END
$({inspect} 2>/dev/null)
END
  case $state in exited|stopped) break ;; esac
  tries=$((tries - 1))
  [ "$tries" -gt 0 ] || {{ code=137; break; }}
  sleep 0.1
done
trap - TERM
[ "$code" -le 128 ] || kill "-$((code - 128))" "$$"
exit "$code"
"""

# Run by the OCI runtime for a container that is made and has not started; its state is the standard input.
_HOOK = """\
cd "$1" || exit
pid=$(sed -n 's/.*"pid": *\\([0-9]*\\).*/\\1/p')
noted=$2
shift 2
{ read -r stat <"/proc/$pid/stat"; } || exit
ticks=$(set -- ${stat##*) }; shift 19; echo "$1")
echo "$pid $ticks" >"$noted.new" && mv "$noted.new" "$noted" || exit
for word; do shift; [ "$word" = PID ] && set -- "$@" "$pid" || set -- "$@" "$word"; done
[ $# -eq 0 ] || exec "$@"
"""


@dataclass(frozen=True, slots=True)
class ContainerFiles:
    """command: of the launcher. files: of the service directory. prepare: commands to run in it before."""

    command: tuple[str, ...]
    files: dict[str, str | bytes]
    prepare: tuple[tuple[str, ...], ...]


def contain(
    podman: Podman,
    template: Template,
    container: Container,
    *,
    unit: str,
    directory: Path,
    release: Path,
    volumes: Path,
    environment: dict[str, str],
    secrets: Mapping[str, str],
    user: int | None,
    enter: tuple[str, ...],
) -> ContainerFiles:
    """What makes one of the unit's containers.

    directory: the service directory. environment: of the container, added to its image's. user: uid and gid of
    the tenant; None leaves it to the image. enter: puts the process PID into its control groups; run in the
    service directory.
    """
    variables = f"variables-{container.name}"
    files: dict[str, str | bytes] = {variables: "".join(f"{k}={v}\n" for k, v in environment.items() if _fits(k, v))}
    apart = {name: value for name, value in environment.items() if not _fits(name, value)}
    _check_apart(template, container, apart)
    prepare: list[tuple[str, ...]] = []
    owner = None if user is None else (user, user)
    mounted = []
    for index, file in enumerate(container.files):
        name = f"file-{container.name}-{index}"
        files[name] = file_content(file, release, secrets)
        prepare.append(("chmod", f"{file.mode:04o}", name))
        if user is not None:
            prepare.append(("chown", f"{user}:{user}", name))
        mounted.append(_mount(directory / name, file.path, read_only=True))
    for volume in container.volumes:
        mounted.append(_mount(directory_of(volume, volumes, owner), volume.path, read_only=volume.read_only))
    name, noted = container_name(template, unit, container.name), noted_name(container.name)
    hooks = f"hooks-{container.name}"
    hook = ["sh", "-c", _HOOK, "hook", str(directory), noted, *enter]
    files[f"{hooks}.json"] = json.dumps(
        {
            "version": "1.0.0",
            "hook": {"path": "/bin/sh", "args": hook, "env": [f"PATH={PATH}"]},
            "when": {"always": True},
            "stages": ["createRuntime"],
        }
    )
    # A folder of its own: podman takes every file of it for a hook.
    prepare += [("mkdir", "-p", hooks), ("ln", "-sf", f"../{hooks}.json", f"{hooks}/limits.json")]
    entry = ["--entrypoint", json.dumps(container.command[:1])] if container.command else []
    tenant = [] if user is None else ["--user", f"{user}:{user}", "--cap-drop", "all"]
    run = [
        *(*podman.words, "--hooks-dir", str(directory / hooks), "run", "--detach", "--replace", "--name", name),
        *("--pull", "never", "--network", "host", "--cgroups", "no-conmon", "--log-driver", "passthrough"),
        *("--no-healthcheck", "--http-proxy=false", "--security-opt", "no-new-privileges", *_limits(), *tenant),
        *("--env-file", str(directory / variables)),
        *(word for key, value in sorted(apart.items()) for word in ("--env", f"{key}={value}")),
        *(word for mount in mounted for word in ("--mount", mount)),
        *(*entry, image_name(template.service, template.release), *container.command[1:]),
    ]
    inspect = ["container", "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name]
    launcher = f"container-{container.name}"
    files[launcher] = _LAUNCH.format(
        unit=shlex.quote(str(directory)),
        noted=noted,
        run=shlex.join(run),
        inspect=shlex.join(["timeout", "10", *podman.words, *inspect]),
    )
    return ContainerFiles(("/bin/sh", str(directory / launcher)), files, tuple(prepare))


def _fits(name: str, value: str) -> bool:
    """Whether podman reads it as it is from a file of variables, a line each."""
    return _PLAIN_NAME.fullmatch(name) is not None and not _LINE_END.search(value) and len(value) < LONGEST_IN_FILE


def _check_apart(template: Template, container: Container, apart: Mapping[str, str]) -> None:
    """What does not fit is a word of podman's command. Raises FAILED_PRECONDITION for one with a secret."""
    name = next((name for name, text in container.variables if name in apart and refers(text)), None)
    if template.secrets and name is not None:
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"the variable {name!r:.60} has a secret of several lines or more than {LONGEST_IN_FILE} characters, which"
            " a container cannot be given unseen",
            "give it to the program in a file: `files` in score.yaml",
        )


def container_name(template: Template, unit: str, container: str) -> str:
    return f"{unit}.{container}" if template.beside else unit


def noted_name(container: str) -> str:
    """Of the file in the service directory that names a container's process."""
    return f"process-{container}"


def container_process(directory: Path, container: str) -> Process | None:
    """The first process of a container; None while there is none."""
    process = recorded(directory / noted_name(container))
    return process if process and process.alive else None


def _mount(source: Path, target: str, *, read_only: bool) -> str:
    """An argument of --mount, which is a line of CSV."""
    line = io.StringIO()
    fields = ["type=bind", f"src={source}", f"dst={target}", *(["ro=true"] if read_only else [])]
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def _limits() -> list[str]:
    """As the platform's own: podman would raise them, which not every root may."""
    words = []
    for name, kind, most in _LIMITS:
        hard = resource.getrlimit(kind)[1]
        value = most if hard == resource.RLIM_INFINITY else min(hard, most)
        words += ["--ulimit", f"{name}={value}:{value}"]
    return words
