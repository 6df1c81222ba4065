"""The containers of an instance: one is the unit's own process; several are children of a script that starts them
together, and ends them together when the first one ends or when it is told to."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...domain.workload import Template
from . import environment
from .mounts import Mounts

LAUNCHER = "containers"
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}

_SCRIPT = """\
#!/bin/sh
# Starts the containers of an instance. What they say is put in one log, each line with the name of its container. Each
# has a process beside it that tells of its end through a pipe, so that no end is missed and nothing is polled.
here={here}
alive=" " first= unheard=0 late=
rm -f "$here/ended" "$here"/said-* "$here"/pid-*
mkfifo "$here/ended" && exec 8<>"$here/ended" || exit 111

follow() {{
  read -r what pid name code <&8 || return 0
  case $what in
    started) alive="$alive$pid " ;;
    ended)
      alive="${{alive%% "$pid" *}} ${{alive#* "$pid" }}"
      [ -n "$first" ] || first="$name $code"
      ;;
    heard) unheard=$((unheard - 1)) ;;
    late) late=1 ;;
  esac
}}

start() {{ # NAME COMMAND...
  name=$1
  shift
  mkfifo "$here/said-$name" || exit 111
  unheard=$((unheard + 1))
  {{ sed -u "s/^/[$name] /" 8>&-; echo heard >&8; }} <"$here/said-$name" &
  {{
    . "$here/{exports}-$name" || exit 111
    "$@" >"$here/said-$name" 2>&1 8>&- &
    echo "$!" >"$here/pid-$name"
    echo "started $!" >&8
    wait "$!"
    echo "ended $! $name $?" >&8
  }} &
  follow
}}

limit() {{ # SECONDS
  late=
  {{ sleep "$1"; echo late >&8; }} &
}}

end() {{
  trap '' TERM
  if [ -n "$first" ]; then
    echo "the container ${{first% *}} ended with code ${{first##* }}; the others are ended"
    echo "lost its container ${{first% *}}" >"$here/cause"
  fi
  [ -z "${{alive# }}" ] || kill -TERM $alive
  limit {grace}
  until [ -z "${{alive# }}" ] || [ -n "$late" ]; do follow; done
  [ -z "${{alive# }}" ] || kill -KILL $alive
  limit {heard}
  until [ "$unheard" -le 0 ] || [ -n "$late" ]; do follow; done
  code=${{first##* }}
  exit "${{code:-137}}"
}}

{starts}
trap end TERM
until [ -n "$first" ]; do follow; done
end
"""
# A shell ignores these for what it starts in the background; a container does not inherit that.
_SIGNALS = ("--default-signal=INT,QUIT",)
_HEARD_SECONDS = 0.5  # what a container left in the background may keep its output open


@dataclass(frozen=True, slots=True)
class Launch:
    """Fields of a Unit."""

    command: tuple[str, ...]
    environment: dict[str, str]
    prefix: tuple[str, ...]
    extra: dict[str, str | bytes]


def launch(
    template: Template,
    *,
    unit: Path,
    mounted: Mapping[str, Mounts],
    environments: Mapping[str, dict[str, str]],
    prefix: tuple[str, ...],
    marks: dict[str, str],
) -> Launch:
    """mounted, environments: by container. prefix: words that make a command the tenant's. marks: variables that the
    unit gives to its process, and that each of several containers needs too."""
    first, *others = template.containers
    extra = {name: content for mounts in mounted.values() for name, content in mounts.files.items()}
    if not others:
        words = (*mounted[first.name].prefix, *prefix)
        return Launch(first.command, environments[first.name], words, extra)
    starts = []
    for container in (first, *others):
        variables = {**environments[container.name], **marks}
        clean = (*environment.clean(variables, *_SIGNALS), *container.command)
        extra[f"{environment.FILE}-{container.name}"] = environment.exports(variables)
        starts.append(shlex.join(["start", container.name, *mounted[container.name].prefix, *prefix, *clean]))
    script = _SCRIPT.format(
        here=shlex.quote(str(unit)),
        exports=environment.FILE,
        starts="\n".join(starts),
        grace=f"{template.stop_grace_seconds:g}",
        heard=_HEARD_SECONDS,
    )
    return Launch(("/bin/sh", str(unit / LAUNCHER)), _ENVIRONMENT, (), {**extra, LAUNCHER: script})


def container_pid(unit: Path, name: str) -> int | None:
    """The process of one of several containers; None while it is being started."""
    try:
        return int((unit / f"pid-{name}").read_text())
    except (OSError, ValueError):
        return None
