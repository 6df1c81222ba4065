"""Health checks of one instance, as its template wants them: HTTP, a command, or an accepted connection."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

from ...domain.route import Endpoint
from ...domain.workload import HttpGet, Probe
from .environment import clean, harmless

TIMEOUT_SECONDS = 1.0
COMMAND_TIMEOUT_SECONDS = 5.0


async def check(
    probe: Probe,
    endpoints: dict[str, Endpoint],
    directory: Path,
    environment: dict[str, str],
    prefix: tuple[str, ...] = (),
) -> str | None:
    """None where the instance is healthy, else why not, in words. directory, environment: of a probe's command.
    prefix: words in front of it, as in front of the instance's own.

    An instance without ports and without a command is healthy while it runs.
    """
    limit = TIMEOUT_SECONDS if probe.command is None else COMMAND_TIMEOUT_SECONDS
    try:
        async with asyncio.timeout(limit):
            if probe.http_get is not None:
                return await _http(probe.http_get, endpoints[probe.http_get.port])
            if probe.command is not None:
                return await _command(probe.command, directory, environment, prefix)
            if endpoints:
                return await _connect(next(iter(endpoints.values())))
            return None
    except TimeoutError:
        return f"{_name(probe)} did not answer within {limit:g} s"


def _name(probe: Probe) -> str:
    if probe.http_get is not None:
        return f"GET {probe.http_get.path}"
    return "the probe's command" if probe.command is not None else "the port"


async def _connect(endpoint: Endpoint) -> str | None:
    try:
        _, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    except OSError:
        return f"nothing listens on PORT={endpoint.port}"
    writer.close()
    return None


async def _http(get: HttpGet, endpoint: Endpoint) -> str | None:
    """A bare request: an HTTP client would cost many times as much, and this runs for every instance at each look."""
    try:
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    except OSError:
        return f"nothing listens on PORT={endpoint.port}"
    try:
        headers = {"Host": get.host or f"{endpoint.host}:{endpoint.port}", "User-Agent": "santiago-health"}
        headers |= dict(get.headers)
        lines = [f"GET {get.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "Connection: close", "", ""]
        writer.write("\r\n".join(lines).encode())
        await writer.drain()
        status = (await reader.readline()).split()
    except (OSError, ValueError) as exc:
        return f"GET {get.path} broke off: {exc}"
    finally:
        writer.close()
    if len(status) < 2 or not status[0].startswith(b"HTTP/") or not status[1].isdigit():
        return f"GET {get.path} was not answered in HTTP"
    code = int(status[1])
    return None if 200 <= code < 400 else f"GET {get.path} answered {code}"


async def _command(
    command: tuple[str, ...], directory: Path, environment: dict[str, str], prefix: tuple[str, ...]
) -> str | None:
    # What runs with the platform's privileges must not get variables that a service's author chose.
    try:
        process = await asyncio.create_subprocess_exec(
            *((*prefix, *clean(environment), *command) if prefix else command),
            cwd=directory,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", **harmless(environment)} if prefix else environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as exc:
        return f"the probe's command cannot be started: {exc}"
    try:
        code = await process.wait()
    finally:
        with suppress(ProcessLookupError):  # what it left in the background ends with it
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return None if code == 0 else f"the probe's command exited with code {code}"
