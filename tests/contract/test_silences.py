from __future__ import annotations

import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from pathlib import Path

import httpx2
import pytest

from santiago_platform.adapters.fake.clock import ManualClock
from santiago_platform.adapters.fake.silences import FakeSilences
from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local.alertmanager import alertmanager_command
from santiago_platform.adapters.local.binaries import keep
from santiago_platform.adapters.local.silences import AlertmanagerSilences
from santiago_platform.testing.silences import SilencesContract


class TestFakeSilences(SilencesContract):
    clock = ManualClock()

    def now(self) -> datetime:
        return self.clock.now()

    @pytest.fixture
    def silences(self) -> FakeSilences:
        return FakeSilences(self.clock)

    @pytest.fixture
    def unanswering(self) -> FakeSilences:
        fake = FakeSilences(self.clock)
        fake.down = True
        return fake


@pytest.fixture(scope="module")
def alertmanager(layout: Layout, binary: Callable[[str], Path], free_port: Callable[[], int]) -> Iterator[int]:
    """The port of a running one."""
    port = free_port()
    binary("alertmanager")
    kept = keep("alertmanager", layout.binaries, layout.alertmanager).path
    command = alertmanager_command(layout, kept, port=port, daemon_port=free_port())
    process = subprocess.Popen(command, cwd=layout.alertmanager, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 15
    while True:
        try:
            if httpx2.get(f"http://127.0.0.1:{port}/-/ready").status_code == 200:
                break
        except httpx2.HTTPError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield port
    process.kill()
    process.wait()


class TestAlertmanagerSilences(SilencesContract):
    @pytest.fixture
    async def silences(self, alertmanager: int) -> AsyncIterator[AlertmanagerSilences]:
        silences = AlertmanagerSilences(alertmanager)
        yield silences
        await silences.close()

    @pytest.fixture
    async def unanswering(self, free_port: Callable[[], int]) -> AsyncIterator[AlertmanagerSilences]:
        silences = AlertmanagerSilences(free_port())
        yield silences
        await silences.close()

    async def test_what_others_have_silenced_more_broadly_is_not_taken_for_ours(
        self, silences: AlertmanagerSilences, alertmanager: int
    ) -> None:
        broad = [{"name": "alertname", "value": ".*", "isRegex": True}, {"name": "service", "value": "web"}]
        body = {
            "matchers": [{"isRegex": False, **matcher} for matcher in broad],
            "startsAt": "2020-01-01T00:00:00Z",
            "endsAt": "2099-01-01T00:00:00Z",
            "createdBy": "amtool",
            "comment": "all of it",
        }
        async with httpx2.AsyncClient() as client:
            made = await client.post(f"http://127.0.0.1:{alertmanager}/api/v2/silences", json=body)
        assert made.status_code == 200, made.text
        assert await silences.active() == ()
        await silences.end(made.json()["silenceID"])
