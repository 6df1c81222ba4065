"""Mends what supervision cannot see: an s6-svscan that is gone, and an Envoy that lives and does not answer.

A thread of the daemon, which holds nothing that the daemon's loops hold, so it works while those are busy.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..layout import ENVOYS, Layout
from ..process import Process
from .supervisor import Supervisor

log = logging.getLogger(__name__)

REST_SECONDS, BUSY_SECONDS = 1.0, 0.1  # between two looks; while an Envoy is silent
ANSWER_SECONDS = 1.0
# Questions without an answer until an Envoy is ended, and where the other one does not answer either: then the machine
# may be what is slow. Questions are counted, and not seconds, so that time in which this thread stood still is none.
SILENT_LIMIT, BOTH_SILENT_LIMIT = 3, 15


@dataclass
class _Envoy:
    """What is known of the life of one Envoy. silent: questions in a row that it did not answer."""

    process: Process
    has_answered: bool = False
    silent: int = 0


class Liveness:
    """Of one workspace's supervision tree and Envoys; looks as long as it is entered.

    The kernel hands a stopped Envoy its share of the new connections, which nobody answers. So it is killed: those
    connections are reset, its clients ask again and reach the other one, and it is started anew.
    """

    def __init__(self, layout: Layout, supervisor: Supervisor) -> None:
        self._layout = layout
        self._supervisor = supervisor
        self._envoys: dict[str, _Envoy] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="liveness", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        rest = REST_SECONDS
        while not self._ended.wait(rest):
            try:
                self.look()
            except Exception:
                log.exception("the look at the platform's processes failed")
            rest = BUSY_SECONDS if any(envoy.silent for envoy in self._envoys.values()) else REST_SECONDS

    def look(self) -> list[str]:
        """One look at everything. Returns what it started anew or ended."""
        mended = []
        if self._supervisor.revive():
            log.warning("s6-svscan was killed, and is at work again")
            mended.append("s6-svscan")
        for name in ENVOYS:
            self._ask(name)
        for name, envoy in self._envoys.items():
            others_answer = any(each.silent == 0 for other, each in self._envoys.items() if other != name)
            if envoy.silent >= (SILENT_LIMIT if others_answer else BOTH_SILENT_LIMIT):
                log.warning("%s does not answer and is started anew", name)
                envoy.process.send(signal.SIGKILL)
                mended.append(name)
                for each in self._envoys.values():  # one after the other
                    each.silent = 0
                break
        return mended

    def _ask(self, name: str) -> None:
        process = self._supervisor.status(name).process
        if process is None:
            self._envoys.pop(name, None)
            return
        envoy = self._envoys.get(name)
        if envoy is None or envoy.process != process:
            envoy = self._envoys[name] = _Envoy(process)
        if answers(self._layout.envoy_admin(name)):
            envoy.has_answered, envoy.silent = True, 0
        elif envoy.has_answered:  # until then it is being started
            envoy.silent += 1


def answers(admin: Path) -> bool:
    """Whether an Envoy says anything at its admin socket. A bare request: this is asked every second."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(str(admin))
            connection.sendall(b"GET /ready HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n")
            return connection.recv(1) != b""
        except OSError:
            return False
