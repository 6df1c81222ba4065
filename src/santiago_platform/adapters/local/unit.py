"""A unit of s6 on disk: its service directory, the scripts that start and follow it, and what they leave behind.

run, finish, log/run        written once, see the scripts below
environment                 values of its variables
process                     `PID TICKS` of the last start; blank while nothing was started
deaths                      a line a death: EPOCH EXITCODE SIGNAL LIFE_SECONDS [CAUSE in words]
cause                       why it is about to die, for the line of its death
rapid                       short lives in a row
failed                      there once it was given up on; of one with `tries` the deaths tell
stopping                    there once it is being taken away
"""

from __future__ import annotations

import shlex
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..layout import WORKSPACE_VARIABLE, Layout
from ..process import Process, recorded
from . import environment
from .binaries import Binary

INSTANCE_VARIABLE = "SANTIAGO_INSTANCE"  # the unit's name, in the environment of all its processes
RAPID_SECONDS = 10  # a life shorter than this counts towards giving up
LONGEST_BACK_OFF_SECONDS = 8
DEATHS_KEPT = 500

_REST = """\
end_rest() {{
  grep -lzxF {instance} /proc/[0-9]*/environ 2>/dev/null | xargs -r grep -lzxF {workspace} 2>/dev/null |
    while IFS=/ read -r _ _ rest _; do kill -KILL "$rest" 2>/dev/null; done
}}
"""

_RUN = (
    """\
#!/bin/sh
# Ends what a former supervisor left behind, notes its own pid and start time, and becomes the service. The lock is
# for another one of itself, whose supervisor was killed; the service does not get it.
exec 2>&1
unset LD_LIBRARY_PATH
ticks_of() {{
  {{ read -r stat <"/proc/$1/stat"; }} 2>/dev/null || return 1
  set -- ${{stat##*) }}
  case $1 in Z|X) return 1 ;; esac
  shift 19
  echo "$1"
}}
"""
    + _REST
    + """\
# In place where it cannot be replaced: on a full disk too, what is there can be written over.
note() {{
  {{ echo "$1" >process.new && mv process.new process; }} 2>/dev/null || printf '%-32s\\n' "$1" 1<>process
}}
forget() {{ printf '%-32s\\n' "" 1<>process; }}
command exec 9>>lock || {{ forget; exit 111; }}
flock 9
if {{ read -r pid ticks <process; }} 2>/dev/null && [ -n "$ticks" ] && [ "$(ticks_of "$pid")" = "$ticks" ]; then
  kill -TERM "$pid"
  left={grace_tenths}
  while [ "$left" -gt 0 ] && [ "$(ticks_of "$pid")" = "$ticks" ]; do sleep 0.1; left=$((left - 1)); done
  kill -KILL "-$pid" 2>/dev/null
  end_rest
fi
forget
{over} && exit 0
note "$$ $(ticks_of $$)"
{prepare}. ./{exports} || exit 111
cd {directory} || exit 111
exec {timeout}{prefix}{environment} {command} 9>&-
"""
)

_FINISH = (
    """\
#!/bin/sh
# Ends what the service left, notes the death, and slows down or gives up. 125 tells s6 not to start it again.
unset LD_LIBRARY_PATH
# s6 rests for a second after every death, unless it is told `u` once this script has ended. The FIFO is opened for both
# ways, which does not wait for a supervisor that may be gone.
start_at_once() {{
  exec >/dev/null 2>&1
  left=100
  while [ "$left" -gt 0 ] && kill -0 "$1"; do sleep 0.01; left=$((left - 1)); done
  [ "$left" -eq 0 ] || [ -e stopping ] || [ -e ../../ending ] || printf u 1<>supervise/control
}}
"""
    + _REST
    + """\
{{ read -r pid ticks <process; }} 2>/dev/null && [ -n "$pid" ] && kill -KILL "-$pid" 2>/dev/null
end_rest
{conclude}{over} && exit 125
[ -e ../../ending ] && exit 0
now=$(date +%s)
life=$((now - $(stat -c %Y process 2>/dev/null || echo "$now")))
cause=
{{ read -r cause <cause; }} 2>/dev/null
rm -f cause
{late}echo "$now $1 $2 $life $cause" >>deaths
[ "$(wc -l <deaths)" -ge {twice_kept} ] && tail -n {kept} deaths >deaths.new && mv deaths.new deaths
rapid=0
[ "$life" -ge {rapid_seconds} ] || {{ {{ read -r rapid <rapid; }} 2>/dev/null; rapid=$((rapid + 1)); }}
echo "$rapid" >rapid
{over} && exit 125
[ {give_up_after} -gt 0 ] && [ "$rapid" -ge {give_up_after} ] && {{ : >failed; exit 125; }}
pause=0
[ "$rapid" -ge 2 ] && [ "$rapid" -le 20 ] && pause=$((1 << (rapid - 2)))
[ "$rapid" -gt 20 ] || [ "$pause" -gt {back_off} ] && pause={back_off}
[ "$life" -ge {rapid_seconds} ] && {{ start_at_once $$ & exit 0; }}
left=$((pause * 5))
until [ "$left" -le 0 ] || [ -e stopping ] || [ -e ../../ending ]; do sleep 0.2; left=$((left - 1)); done
exit 0
"""
)


_KEPT_RUNNING_OVER = "{ [ -e stopping ] || [ -e failed ]; }"
# Of a unit with `tries`: it has ended well, or was tried as often as it may be.
_TRIED_OVER = """\
{ [ -e stopping ] || { [ -e deaths ] && { grep -q '^[0-9]* 0 ' deaths || [ "$(wc -l <deaths)" -ge TRIES ]; }; }; }\
"""
_TIMEOUT = "timeout -k {grace:g} {seconds} "
# 124 is what it ends with, and 137 or SIGKILL where its TERM was ignored.
_LATE = """\
case $1-$2 in
  124-*|137-*|256-9) [ "$life" -lt {seconds} ] || cause=${{cause:-ran out of time ({seconds} s)}} ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """A service for s6. directory: its working directory. give_up_after: rapid deaths in a row until it is FAILED
    for good; 0 means never. tries: of one that is to end: it is started until it exits with 0, and so often at most;
    0 means that it is kept running. timeout_seconds: of each start; 0 means none. prepare: commands that the launcher
    runs before it becomes the service, each of which must succeed; PID in them is its own. conclude: commands that are
    run after its end; what they write to `cause` is noted with its death. Both run in the service directory. prefix:
    words in front of the command, which exec in place and do not get its environment: they may have privileges that a
    service's variables must not reach. extra: further files of the service directory, by name."""

    name: str
    command: tuple[str, ...]
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    stop_grace_seconds: float = 10.0
    give_up_after: int = 0
    tries: int = 0
    timeout_seconds: int = 0
    back_off_seconds: int = LONGEST_BACK_OFF_SECONDS
    prepare: tuple[tuple[str, ...], ...] = ()
    conclude: tuple[tuple[str, ...], ...] = ()
    prefix: tuple[str, ...] = ()
    extra: Mapping[str, str | bytes] = field(default_factory=dict)

    def with_file(self, name: str, content: str) -> Unit:
        return replace(self, extra={**self.extra, name: content})

    def files(self, layout: Layout, logger: Binary) -> dict[str, str | bytes]:
        """The files of its service directory, by path. Nothing of it is read by a shell but as quoted words."""
        marks = {WORKSPACE_VARIABLE: layout.id, INSTANCE_VARIABLE: self.name}
        variables, limit = {**self.environment, **marks}, self.timeout_seconds
        words = {
            "instance": shlex.quote(f"{INSTANCE_VARIABLE}={self.name}"),
            "workspace": shlex.quote(f"{WORKSPACE_VARIABLE}={layout.id}"),
            "directory": shlex.quote(str(self.directory)),
            "exports": environment.FILE,
            "environment": shlex.join(environment.clean(variables)),
            "command": shlex.join(self.command),
            "prefix": "".join(f"{shlex.quote(word)} " for word in self.prefix),
            "prepare": "".join(f"{_with_pid(words)} || exit 111\n" for words in self.prepare),
            "conclude": "".join(f"{shlex.join(words)}\n" for words in self.conclude),
            "over": _TRIED_OVER.replace("TRIES", str(self.tries)) if self.tries else _KEPT_RUNNING_OVER,
            "timeout": _TIMEOUT.format(grace=max(0.1, self.stop_grace_seconds), seconds=limit) if limit else "",
            "late": _LATE.format(seconds=limit) if limit else "",
            "grace_tenths": max(1, round(self.stop_grace_seconds * 10)),
            "rapid_seconds": RAPID_SECONDS,
            "give_up_after": self.give_up_after,
            "back_off": self.back_off_seconds,
            "kept": DEATHS_KEPT,
            "twice_kept": 2 * DEATHS_KEPT,
        }
        log = shlex.join([str(logger.path), "-l", "65536", "t", "n20", "s1000000", str(layout.logs / self.name)])
        return {
            "run": _RUN.format(**words),
            environment.FILE: environment.exports(variables),
            "finish": _FINISH.format(**words),
            "timeout-kill": f"{max(1, round(self.stop_grace_seconds * 1000))}\n",
            "timeout-finish": f"{(self.back_off_seconds + 5) * 1000}\n",
            "log/run": f"#!/bin/sh\nexec {log}\n",
            **self.extra,
        }

    def write(self, directory: Path, layout: Layout, logger: Binary) -> None:
        """Its service directory, which must not be there yet, and the directory of its logs."""
        (layout.logs / self.name).mkdir(parents=True, exist_ok=True, mode=0o700)
        (directory / "log").mkdir(parents=True, mode=0o700)
        blank = {"process": " " * 32 + "\n"}  # so that its first start needs no more of the disk
        for name, content in (blank | self.files(layout, logger)).items():
            path = directory / name
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            path.chmod(0o700 if name in ("run", "finish", "log/run") else 0o600)


def _with_pid(words: tuple[str, ...]) -> str:
    return " ".join('"$$"' if word == "PID" else shlex.quote(word) for word in words)


@dataclass(frozen=True, slots=True)
class Death:
    """at: Unix seconds. code: exit code, or 256 where `signal` ended it. life_seconds: from start to death.
    cause: in words, where it is known: "ran out of memory (limit 128Mi)"."""

    at: int
    code: int
    signal: int
    life_seconds: int
    cause: str = ""

    def __str__(self) -> str:
        if self.cause and (self.code, self.signal) == (256, signal.SIGKILL):
            return self.cause
        return f"{self._end}, after it {self.cause}" if self.cause else self._end

    @property
    def _end(self) -> str:
        if self.code < 256:
            return f"exited with code {self.code}"
        try:
            return f"was ended by {signal.Signals(self.signal).name}"
        except ValueError:
            return f"was ended by signal {self.signal}"


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """process: None while nothing runs. deaths: the last ones, oldest first. failed: given up on. stopping: it is
    being taken away."""

    process: Process | None
    deaths: tuple[Death, ...]
    failed: bool
    stopping: bool

    @classmethod
    def read(cls, directory: Path) -> UnitStatus:
        """Of a service directory, as its scripts and /proc tell; of one that is gone, too."""
        process = recorded(directory / "process")
        return cls(
            process=process if process and process.alive else None,
            deaths=_deaths(directory / "deaths"),
            failed=(directory / "failed").exists(),
            stopping=(directory / "stopping").exists(),
        )


def _deaths(path: Path) -> tuple[Death, ...]:
    """A line that a crash tore is passed over."""
    try:
        rows = [line.split(maxsplit=4) for line in path.read_text().splitlines()]
    except OSError:
        return ()
    return tuple(
        Death(int(row[0]), int(row[1]), int(row[2]), int(row[3]), "".join(row[4:]))
        for row in rows
        if len(row) >= 4 and all(word.isdigit() for word in row[:4])
    )
