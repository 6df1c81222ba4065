from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from santiago_platform.adapters.local.listening_sockets import listening_sockets, refuse_connections, waiting

# A process that listens, and accepts a connection for each line that it is told.
LISTENER = """
import socket, sys
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
held = [listening.accept() for _ in sys.stdin]
"""


@pytest.fixture
def listener() -> Iterator[tuple[subprocess.Popen[str], int]]:
    with subprocess.Popen(
        [sys.executable, "-c", LISTENER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
        process.kill()


def test_what_waits_can_be_accepted_and_nothing_new_comes_in(listener: tuple[subprocess.Popen[str], int]) -> None:
    process, port = listener
    assert process.stdin is not None
    with listening_sockets(process.pid) as sockets:
        if not sockets:
            pytest.skip("this machine does not let a process have the descriptors of another one")
        (one,) = sockets
        assert one.getsockname()[1] == port
        early = socket.create_connection(("127.0.0.1", port), timeout=5)
        assert waiting(one) == 1
        refuse_connections(one)
        late = socket.socket()
        late.setblocking(False)
        assert late.connect_ex(("127.0.0.1", port)) != 0
        print("accept", file=process.stdin, flush=True)
        deadline = time.monotonic() + 5
        while waiting(one):
            assert time.monotonic() < deadline
        _, writable, _ = select.select([], [late], [], 0.2)
        assert not writable, "its SYN was not answered"
        early.close()
        late.close()


def test_a_process_that_is_gone_has_none() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    with listening_sockets(process.pid) as sockets:
        assert sockets == []


def test_no_descriptor_stays_open(listener: tuple[subprocess.Popen[str], int]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with listening_sockets(listener[0].pid):
        pass
    assert len(os.listdir("/proc/self/fd")) == before
