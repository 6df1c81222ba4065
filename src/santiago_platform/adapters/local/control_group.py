"""Control groups of Linux, versions 1 and 2: one for each instance, which holds it to its limits.

The unit's own launcher makes the group below the one that it finds itself in, goes into it, and notes in the file
`limits` of the service directory what the kernel enforces now. So it holds after a cold boot, in another session and
with the daemon down. What the kernel does not enforce is noted too, for the watchdog and for people:

group CONTROLLER PATH       the instance is in this group
watch memory BYTES          its memory limit is the watchdog's to enforce
free cpu CORES              its CPU limit is not enforced at all
settled                     all of this is noted; before, a CONTROLLER is `-`
"""

from __future__ import annotations

import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ...domain.quantity import memory_text
from ...domain.workload import Limits

NOTED = "limits"
TASKS = 4096  # processes and threads of an instance: a fork bomb ends there
PERIOD_MICROSECONDS, LONGEST_PERIOD_MICROSECONDS = 100_000, 1_000_000
LEAST_QUOTA_MICROSECONDS = 1_000  # the kernel's
MOUNTS, MEMBERSHIPS = Path("/proc/self/mountinfo"), Path("/proc/self/cgroup")

# Ends what is left in the groups of the life before, and then the groups.
_CLEAR = """\
clear_groups() {
  while read -r what _ former; do
    tries=0
    while [ "$what" = group ] && [ -d "$former" ] && ! rmdir "$former" && [ "$tries" -lt 40 ]; do
      while read -r one; do kill -KILL "$one"; done <"$former/cgroup.procs"
      tries=$((tries + 1))
      sleep 0.05
    done
  done <limits
} 2>/dev/null
"""

_ENTER = (
    _CLEAR
    + """\
pid=$1 name=$2 memory=$3 quota=$4 period=$5 cores=$6 tasks=$7 memberships=$9
mounts=$(grep " - cgroup" "$8")
own_group() { # cgroup CONTROLLER, or cgroup2: sets `own` to the group of this process, `top` to its hierarchy's mount
  while IFS=: read -r _ controllers path; do
    case "$1 ,$controllers," in "cgroup2 ,,") ;; "cgroup "*",$2,"*) ;; *) continue ;; esac
    while read -r _ _ _ root top options; do
      type=${options#* - }
      case "${type%% *} ,${options##* }," in "$1 "*",$2,"*) ;; "cgroup2 "*) [ "$1" = cgroup2 ] || continue ;;
        *) continue ;; esac
      case $path in
        "${root%/}"/*) own=$top${path#"${root%/}"} ;;
        *) own=$top ;; # a container that sees its own part alone
      esac
      own=${own%/}
      [ -d "$own" ] && return
    done <<END
$mounts
END
  done <"$memberships"
  return 1
}
put() { echo "$2" >"$group/$1"; }
put_if_there() { [ ! -e "$group/$1" ] || put "$1" "$2"; } # files on swap are there only where it is counted
limit_1() {
  case $1 in
    memory) [ "$memory" = - ] ||
      { put memory.limit_in_bytes "$memory" && put_if_there memory.memsw.limit_in_bytes "$memory"; } ;;
    pids) put pids.max "$tasks" ;;
    cpu) put cpu.cfs_period_us "$period" && put cpu.cfs_quota_us "$quota" ;;
  esac
}
limit_2() {
  case $1 in
    memory) put_if_there memory.oom.group 1
      [ "$memory" = - ] || { put memory.max "$memory" && put_if_there memory.swap.max 0; } ;;
    pids) put pids.max "$tasks" ;;
    cpu) put cpu.max "$quota $period" ;;
  esac
}
enter() { # VERSION CONTROLLER...: into `group`, with its limits; without a trace where that cannot be
  version=$1
  shift
  echo "group - $group" >>limits # first, so that it is cleared wherever this is killed
  mkdir "$group" || [ -d "$group" ] || return
  for controller; do
    "limit_$version" "$controller" || { rmdir "$group"; return 1; }
  done
  put cgroup.procs "$pid" || { rmdir "$group"; return 1; }
  for controller; do echo "group $controller $group" >>limits.new; done
}
passes_on() { # GROUP CONTROLLER...: whether groups in it have these, or can be given them
  at=$1
  shift
  for controller; do
    case " $(cat "$at/cgroup.subtree_control") " in *" $controller "*) continue ;; esac
    case " $(cat "$at/cgroup.controllers") " in *" $controller "*) ;; *) return 1 ;; esac
    echo "+$controller" >"$at/cgroup.subtree_control" || return
  done
}
enter_2() { # CONTROLLER...: a group with processes passes nothing on, so it is the nearest one above that does
  at=$own
  until passes_on "$at" "$@"; do
    [ "$at" != "$top" ] || return
    at=${at%/*}
  done
  group=$at/$name
  enter 2 "$@"
}
clear_groups
: >limits
: >limits.new
{
  rest= wanted="memory pids"
  [ "$quota" = - ] || wanted="$wanted cpu"
  for each in $wanted; do
    if own_group cgroup "$each"; then
      group=$own/$name
      enter 1 "$each"
    else
      rest="$rest $each"
    fi
  done
  if [ "$rest" ] && own_group cgroup2; then
    enter_2 $rest || enter_2 memory pids || enter_2 memory
  fi
} 2>/dev/null
[ "$memory" = - ] || grep -q "^group memory " limits.new || echo "watch memory $memory" >>limits.new
[ "$quota" = - ] || grep -q "^group cpu " limits.new || echo "free cpu $cores" >>limits.new
echo settled >>limits.new
mv limits.new limits
"""
)

_LEAVE = (
    _CLEAR
    + """\
[ -e limits ] || exit 0
while read -r what controller group; do
  [ "$what $controller" = "group memory" ] || continue
  cat "$group/memory.oom_control" "$group/memory.events" 2>/dev/null | while read -r key count; do
    [ "$key" = oom_kill ] && [ "$count" -gt 0 ] && echo "$1" >cause
  done
done <limits
clear_groups
"""
)


_JOIN = """\
pid=$1 tries=200
until grep -qx settled limits || [ "$tries" -le 0 ]; do
  sleep 0.05
  tries=$((tries - 1))
done
while read -r what controller group; do
  [ "$what" != group ] || [ "$controller" = - ] || echo "$pid" >"$group/cgroup.procs"
done <limits
exit 0
"""


def out_of_memory(limits: Limits) -> str:
    """The cause of a death, in words."""
    if limits.memory_bytes is None:
        return "ran out of memory (the machine's; it has no limit of its own)"
    return f"ran out of memory (limit {memory_text(limits.memory_bytes)})"


@dataclass(frozen=True, slots=True)
class ControlGroups:
    """What a unit runs to get into its groups and out of them.

    workspace: its id, in the names of the groups. mounts, memberships: what the launcher reads to find them.
    """

    workspace: str
    mounts: Path = MOUNTS
    memberships: Path = MEMBERSHIPS

    def enter(self, unit: str, limits: Limits) -> tuple[str, ...]:
        """For `Unit.prepare`. Never fails: what cannot be enforced is noted."""
        cores = limits.cpu_cores
        tiny = cores is not None and cores * PERIOD_MICROSECONDS < LEAST_QUOTA_MICROSECONDS
        period = LONGEST_PERIOD_MICROSECONDS if tiny else PERIOD_MICROSECONDS
        quota = None if cores is None else max(LEAST_QUOTA_MICROSECONDS, round(cores * period))
        words = (
            f"santiago.{self.workspace}.{unit}",
            "-" if limits.memory_bytes is None else str(limits.memory_bytes),
            "-" if quota is None else str(quota),
            str(period),
            "-" if cores is None else f"{cores:g}",
            str(TASKS),
            str(self.mounts),
            str(self.memberships),
        )
        return ("sh", "-c", _ENTER, "limits", "PID", *words)

    def join(self) -> tuple[str, ...]:
        """Puts PID into the groups that `enter` makes for another process of the unit, and waits for them."""
        return ("sh", "-c", f"exec 2>/dev/null\n{_JOIN}", "limits", "PID")

    def forget(self) -> tuple[str, ...]:
        """For `Unit.prepare`: so that nothing joins the groups of a former life."""
        return ("rm", "-f", NOTED)

    def leave(self, limits: Limits) -> tuple[str, ...]:
        """For `Unit.conclude`: says whether the kernel found it out of memory, and removes the groups."""
        return ("sh", "-c", _LEAVE, "limits", out_of_memory(limits))


def enforced_here(groups: ControlGroups) -> Enforcement:
    """What the kernel would enforce of a service that is started by this process: tried on one that only waits."""
    limits = Limits(memory_bytes=64 << 20, cpu_cores=1.0)
    path = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    waiting = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL, env=path, start_new_session=True)
    try:
        with TemporaryDirectory() as folder:
            words = groups.enter(f"trial-{waiting.pid}", limits)
            words = tuple(str(waiting.pid) if word == "PID" else word for word in words)
            subprocess.run(words, cwd=folder, env=path, check=False, timeout=20)
            found = Enforcement.read(Path(folder))
            subprocess.run(groups.leave(limits), cwd=folder, env=path, check=False, timeout=20)
    finally:
        waiting.kill()
        waiting.wait()
    return found


@dataclass(frozen=True, slots=True)
class Enforcement:
    """What holds for the last start of a unit. settled: it is all noted. groups: by controller. watched_bytes: the
    limit that the watchdog enforces. free_cores: a CPU limit that nothing enforces."""

    settled: bool
    groups: dict[str, Path]
    watched_bytes: int | None = None
    free_cores: float | None = None

    @classmethod
    def read(cls, directory: Path) -> Enforcement:
        """Of a service directory; of one whose launcher did not get that far, nothing."""
        try:
            rows = [line.split(maxsplit=2) for line in (directory / NOTED).read_text().splitlines()]
        except OSError:
            rows = []
        found = {(row[0], row[1]): row[2] for row in rows if len(row) == 3}
        watched, free = found.get(("watch", "memory")), found.get(("free", "cpu"))
        return cls(
            settled=["settled"] in rows,
            groups={controller: Path(value) for (what, controller), value in found.items() if what == "group"},
            watched_bytes=int(watched) if watched else None,
            free_cores=float(free) if free else None,
        )

    @property
    def gap(self) -> str:
        """Which limits the kernel does not enforce, and what is done instead; empty where it enforces them all."""
        parts = []
        if self.watched_bytes is not None:
            limit = memory_text(self.watched_bytes)
            parts.append(f"the memory limit is not kernel-enforced: a watchdog ends what is above {limit}")
        if self.free_cores is not None:
            parts.append(f"the CPU limit of {self.free_cores:g} cores is not enforced")
        return "; ".join(parts)

    @property
    def memory_bytes(self) -> int | None:
        """In use, without file pages that can be dropped at once; None where the kernel does not count it."""
        group = self.groups.get("memory")
        if group is None:
            return None
        with suppress(OSError, ValueError):
            version_1 = (group / "memory.usage_in_bytes").exists()
            used = int((group / ("memory.usage_in_bytes" if version_1 else "memory.current")).read_text())
            counted = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            return max(0, used - int(counted["total_inactive_file" if version_1 else "inactive_file"]))
        return None

    def remove(self) -> None:
        """The groups, as far as nothing is in them any more."""
        for group in self.groups.values():
            with suppress(OSError):
                group.rmdir()
