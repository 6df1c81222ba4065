"""Deliveries, over the platform in memory; and over a killed process, with rows on disk and a webhook on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.stores.sqlite import SqliteStore
from santiago_platform.domain.delivery import ATTEMPTS, Delivery, DeliveryState, Receiver, deliveries
from santiago_platform.domain.environment import Settings, Tenant
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.mailbox import Severity
from santiago_platform.operations.deliveries import dead_letters, delivery_warnings, retry_deliveries
from santiago_platform.operations.messages import MailFields, send_mail
from santiago_platform.reconcilers.delivery import DeliveryReconciler
from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.rows import mail
from santiago_platform.testing.webhook_double import webhook_double

ANN = Principal(name="ann", role=Role.DEVELOPER)
DOWN = PlatformError(ErrorCode.UNAVAILABLE, "the receiver did not take it")


@pytest.fixture
def platform() -> FakePlatform:
    platform = FakePlatform()
    chat = {"url_file": "chat", "severity": "warning"}
    testers = {"url_file": "testers", "roles": ["qa"]}
    platform.workspace.current = Settings.model_validate({"notify": {"chat": chat, "testers": testers}})
    return platform


async def send(platform: FakePlatform, severity: Severity = Severity.WARNING, to: Role | None = None) -> None:
    await send_mail(platform.ports, ANN, MailFields(text="look", severity=severity), to)


async def of(platform: FakePlatform, state: DeliveryState) -> list[Delivery]:
    return list(await platform.store.read(lambda v: v.deliveries(state=state)))


async def test_each_receiver_gets_what_it_wants_once(platform: FakePlatform) -> None:
    await send(platform)
    await send(platform, Severity.INFO)
    await send(platform, Severity.CRITICAL, Role.PM)
    loop = DeliveryReconciler(platform.ports)
    assert [await loop.pass_over(), await loop.pass_over()] == [4, 0]
    sent = platform.notifier.sent
    assert sorted((name, n.severity) for name, n in sent) == [
        ("chat", "critical"),
        ("chat", "warning"),
        ("testers", "info"),
        ("testers", "warning"),
    ]
    assert all(n.id in n.text for _, n in sent)
    assert len({n.id for _, n in sent}) == 4


async def test_what_is_not_taken_is_tried_again_later_and_later(platform: FakePlatform) -> None:
    platform.notifier.failing["chat"] = DOWN
    await send(platform, to=Role.PM)
    loop = DeliveryReconciler(platform.ports)
    await loop.pass_over()
    [waiting] = await of(platform, DeliveryState.PENDING)
    assert (waiting.attempts, waiting.next_at - platform.clock.now()) == (1, timedelta(seconds=5))
    assert await loop.pass_over() == 0, "not before its time"
    platform.clock.advance(5)
    await loop.pass_over()
    [waiting] = await of(platform, DeliveryState.PENDING)
    assert waiting.next_at - platform.clock.now() == timedelta(seconds=10)
    del platform.notifier.failing["chat"]
    platform.clock.advance(10)
    await loop.pass_over()
    assert await of(platform, DeliveryState.PENDING) == []
    [done] = await of(platform, DeliveryState.DELIVERED)
    assert (done.attempts, done.reason) == (3, "")


async def test_what_is_never_taken_is_given_up_and_the_log_keeps_it(platform: FakePlatform) -> None:
    platform.notifier.failing["chat"] = DOWN
    await send(platform, to=Role.PM)
    loop = DeliveryReconciler(platform.ports)
    for _ in range(ATTEMPTS):
        assert await loop.pass_over() == 1
        platform.clock.advance(900)
    assert await loop.pass_over() == 0
    [dead] = await of(platform, DeliveryState.DEAD)
    assert (dead.attempts, dead.reason) == (ATTEMPTS, DOWN.message)
    assert platform.ship_log.entries[-1].action == "delivery.dead"
    [warning] = await delivery_warnings(platform.ports)
    assert "chat was given up (1): the receiver did not take it" in warning
    other = Principal(name="eve", role=Role.DEVELOPER, tenant="other")
    platform.workspace.current = platform.workspace.current.model_copy(update={"tenants": {"other": Tenant()}})
    assert (await dead_letters(platform.ports, other)).deliveries == ()
    assert (await retry_deliveries(platform.ports, other)).deliveries == ()
    assert [d.id for d in (await dead_letters(platform.ports, ANN)).deliveries] == [dead.id]
    del platform.notifier.failing["chat"]
    await retry_deliveries(platform.ports, ANN)
    assert await loop.pass_over() == 1
    assert await delivery_warnings(platform.ports) == []


async def test_a_receiver_that_was_taken_away_ends_its_deliveries(platform: FakePlatform) -> None:
    await send(platform, to=Role.PM)
    platform.workspace.current = Settings()
    await DeliveryReconciler(platform.ports).pass_over()
    [dead] = await of(platform, DeliveryState.DEAD)
    assert "no such receiver" in dead.reason


def test_a_receiver_gets_the_mail_of_its_own_tenant_alone() -> None:
    ours, theirs = mail(1), mail(2, tenant="other")
    receivers = {"own": Receiver(url_file="x"), "other": Receiver(url_file="x", tenant="other")}
    assert [d.receiver for d in deliveries(ours, receivers, "default")] == ["own"]
    assert [d.receiver for d in deliveries(theirs, receivers, "default")] == ["other"]


@pytest.mark.parametrize("address", [{}, {"url_file": "a", "url_variable": "B"}, {"url": "json://secret"}])
def test_a_receiver_has_one_address_and_never_in_santiago_yaml_itself(address: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Receiver.model_validate(address)


WORKER = """
import asyncio, dataclasses, sys
from pathlib import Path
from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.notifiers.apprise import AppriseNotifier
from santiago_platform.adapters.stores.sqlite import SqliteStore
from santiago_platform.adapters.system import SystemClock
from santiago_platform.domain.environment import Settings
from santiago_platform.reconcilers.delivery import DeliveryReconciler

async def main(root):
    platform = FakePlatform(clock=SystemClock())
    platform.workspace.current = Settings.model_validate({"notify": {"chat": {"url_file": "chat.url"}}})
    ports = dataclasses.replace(platform.ports, store=SqliteStore(root / "db"), notifier=AppriseNotifier(root))
    await DeliveryReconciler(ports).run()

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_after_kill_9_every_mail_arrives_at_least_once_under_one_id(tmp_path: Path) -> None:
    settings = Settings.model_validate({"notify": {"chat": {"url_file": "chat.url"}}})
    count = 40
    with webhook_double() as double:
        (tmp_path / "chat.url").write_text(double.url("x"))
        store = SqliteStore(tmp_path / "db")
        for number in range(count):
            for delivery in deliveries(mail(number), settings.notify, settings.tenant):
                await store.write(lambda tx, n=number, d=delivery: (tx.add_mail(mail(n)), tx.add_delivery(d)))

        async def arrived() -> int:
            return len({body["message"].rsplit(" ", 1)[1] for body in double.bodies})

        for enough in (5, 20, count):
            with subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)]) as worker:
                try:
                    assert await eventually(arrived, lambda n, enough=enough: n >= enough, seconds=30) >= enough
                finally:
                    os.kill(worker.pid, signal.SIGKILL)
        assert len(double.bodies) < count + 3 * 8, "what was stored as delivered does not come again"
        await store.close()
