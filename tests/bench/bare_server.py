"""What the official SDK costs by itself: its server with one tool that does nothing, served as ours is.

python -m tests.bench.bare_server json|streams      prints its port, and ends when its standard input closes
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import uvloop
from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel

from santiago_platform.entrypoints.listener import listen_tcp, serve

from .load_client import ROOT


class Nothing(BaseModel):
    done: bool = True


async def noop() -> Nothing:
    return Nothing()


@dataclass(frozen=True)
class BareServer:
    port: int
    pid: int


@contextmanager
def bare_server(*, streams: bool) -> Iterator[BareServer]:
    """It ends with the block, and with this process whatever becomes of it. streams: answers as a stream of events."""
    command = [sys.executable, "-m", "tests.bench.bare_server", "streams" if streams else "json"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield BareServer(int(process.stdout.readline()), process.pid)
        finally:
            process.stdin.close()
            process.wait(timeout=20)


async def _main() -> None:
    server = MCPServer("bare", log_level="WARNING")
    server.add_tool(noop)
    listener = listen_tcp("127.0.0.1", 0)
    print(listener.getsockname()[1], flush=True)
    serving = asyncio.create_task(serve(server.streamable_http_app(json_response=sys.argv[1] == "json"), [listener]))
    await asyncio.to_thread(sys.stdin.read)
    serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving


if __name__ == "__main__":
    uvloop.run(_main())
