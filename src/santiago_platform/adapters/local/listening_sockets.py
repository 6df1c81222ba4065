"""Listening sockets of another process of this user, while it gives up its ports.

Where several processes listen on one port (SO_REUSEPORT), the kernel has chosen one of them when the client's SYN comes
in. A connection that waits to be accepted when that one closes its socket is reset, although the others would take it
(unless net.ipv4.tcp_migrate_req is set, which is the system's). So the socket stops taking SYNs first: a client sends
its SYN again a second later, and then reaches another process.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_PIDFD_GETFD = 438  # the same number on every architecture
_SO_ATTACH_FILTER = 26
_TCP_INFO_UNACKED = slice(24, 28)  # of a listening socket: how many connections wait to be accepted
# Of classic BPF on the TCP header: drop what has the SYN flag, take the rest. (code, jump if true, if false, operand)
_NO_SYN = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x02), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


@contextmanager
def listening_sockets(pid: int) -> Iterator[list[socket.socket]]:
    """Duplicates of them. None where the kernel does not let this process have them (yama, a container's seccomp)."""
    found: list[socket.socket] = []
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        yield found
        return
    try:
        for descriptor in _socket_descriptors(pid):
            duplicate = _libc.syscall(_PIDFD_GETFD, pidfd, descriptor, 0)
            if duplicate >= 0:
                one = socket.socket(fileno=duplicate)
                if one.family == socket.AF_INET and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    found.append(one)
                else:
                    one.close()
        yield found
    finally:
        os.close(pidfd)
        for one in found:
            one.close()


def refuse_connections(listening: socket.socket) -> None:
    """No new connection begins any more; those that wait to be accepted still can be."""
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in _NO_SYN))
    program = struct.pack("HL", len(_NO_SYN), ctypes.addressof(instructions))
    listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def waiting(listening: socket.socket) -> int:
    """How many connections wait to be accepted."""
    information = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    return int.from_bytes(information[_TCP_INFO_UNACKED], "little" if struct.pack("H", 1)[0] else "big")


_libc = ctypes.CDLL(None, use_errno=True)


def _socket_descriptors(pid: int) -> list[int]:
    found = []
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            try:
                if os.readlink(entry.path).startswith("socket:"):
                    found.append(int(entry.name))
            except OSError:
                continue  # closed meanwhile
    except OSError:
        return []
    return found
