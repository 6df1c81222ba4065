"""The least that is a service: it answers every request with its VERSION, over kept connections, until SIGTERM.

One thread and one selector, the standard library alone: some 10 MB of memory, and next to nothing to start. It waits
for what is in flight by answering it before it looks at the signal.
"""

import os
import selectors
import signal
import socket

VERSION = os.environ.get("VERSION", "1").encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n" % len(VERSION)
ANSWER = HEAD + b"\r\n" + VERSION
LAST = HEAD + b"Connection: close\r\n\r\n" + VERSION


def main() -> None:
    stopping = False
    woken, waking = socket.socketpair()
    woken.setblocking(False)
    waking.setblocking(False)

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.set_wakeup_fd(waking.fileno())
    server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])), backlog=128)
    server.setblocking(False)
    events = selectors.DefaultSelector()
    events.register(server, selectors.EVENT_READ)
    events.register(woken, selectors.EVENT_READ)
    received: dict[socket.socket, bytes] = {}
    while not stopping:
        for key, _ in events.select():
            found = key.fileobj
            if found is server:
                accepted = server.accept()[0]
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                events.register(accepted, selectors.EVENT_READ)
            elif isinstance(found, socket.socket) and found is not woken:
                try:
                    data = received.pop(found, b"") + found.recv(65536)
                    complete = data.count(b"\r\n\r\n")
                    closing = stopping or b"Connection: close" in data
                    if complete:
                        found.sendall((LAST if closing else ANSWER) * complete)
                    elif data:
                        received[found] = data
                except OSError:
                    data, closing = b"", True
                if not data or (complete and closing):
                    events.unregister(found)
                    found.close()


if __name__ == "__main__":
    main()
