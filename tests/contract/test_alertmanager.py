from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx2

from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local.alertmanager import alertmanager_command, webhook_token
from santiago_platform.adapters.local.binaries import keep
from santiago_platform.testing.eventually import eventually


async def test_an_alert_reaches_the_webhook_of_the_daemon_with_its_token(
    layout: Layout, binary: Callable[[str], Path], free_port: Callable[[], int]
) -> None:
    received: list[str] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    port, daemon_port = free_port(), free_port()
    binary("alertmanager")
    kept = keep("alertmanager", layout.binaries, layout.alertmanager).path
    command = alertmanager_command(layout, kept, port=port, daemon_port=daemon_port)
    checked = subprocess.run(
        [binary("amtool"), "check-config", layout.alertmanager / "alertmanager.yml"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    async with await asyncio.start_server(take, "127.0.0.1", daemon_port), httpx2.AsyncClient() as client:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=layout.alertmanager, stderr=asyncio.subprocess.DEVNULL
        )
        try:

            async def fire() -> bool:
                try:
                    alerts = [{"labels": {"alertname": "TooSlow", "service": "web"}}]
                    answer = await client.post(f"http://127.0.0.1:{port}/api/v2/alerts", json=alerts)
                except httpx2.HTTPError:
                    return False
                return answer.status_code == 200

            async def request() -> list[str]:
                return received

            await eventually(fire)
            await eventually(request)
        finally:
            process.kill()
            await process.wait()
    token = webhook_token(layout)
    assert received[0].startswith("POST /hooks/alertmanager HTTP/1.1\r\n")
    assert f"authorization: bearer {token.lower()}" in received[0].lower()
    assert (layout.alertmanager / "webhook.token").stat().st_mode & 0o777 == 0o600
