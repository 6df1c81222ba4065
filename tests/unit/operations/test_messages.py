"""Mail, sent and read by tools over the platform in memory."""

from __future__ import annotations

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.environment import Settings
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.mailbox import MailSettings, Severity
from santiago_platform.operations.messages import (
    MailboxQuery,
    MailboxView,
    MailFields,
    acknowledge_mail,
    read_mailbox,
    send_mail,
)
from santiago_platform.testing.rows import operation

ANN = Principal(name="ann", role=Role.DEVELOPER)
QUINN = Principal(name="quinn", role=Role.QA)
OTHER = Principal(name="eve", role=Role.QA, tenant="other")


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform()


async def send(platform: FakePlatform, text: str, to: Role | None = Role.QA, who: Principal = ANN, **fields: object):
    platform.clock.advance(1)
    return await send_mail(platform.ports, who, MailFields.model_validate({"text": text, **fields}), to)


async def box(platform: FakePlatform, who: Principal = QUINN, **query: object) -> MailboxView:
    return await read_mailbox(platform.ports, who, MailboxQuery.model_validate(query))


def texts(view: MailboxView) -> list[str]:
    return [mail.text for mail in view.mails]


async def test_mail_to_a_role_lies_in_its_mailbox_until_it_is_acknowledged(platform: FakePlatform) -> None:
    first = await send(platform, "one", severity="critical")
    await send(platform, "two", thread=first.id)
    found = await box(platform)
    assert (texts(found), found.unread, found.role, found.untrusted) == (["two", "one"], 2, Role.QA, True)
    assert found.mails[1].by == "ann (developer)"
    assert {mail.thread for mail in found.mails} == {first.id}
    done = await acknowledge_mail(platform.ports, QUINN, (found.mails[0].id,))
    assert (done.unread, done.mails[0].unread) == (1, False)
    later = await box(platform)
    assert [(mail.text, mail.unread) for mail in later.mails] == [("one", True), ("two", False)]
    assert texts(await box(platform, ANN)) == []


async def test_mail_to_the_team_is_acknowledged_by_each_role_for_itself(platform: FakePlatform) -> None:
    sent = await send(platform, "to all", to=None)
    await acknowledge_mail(platform.ports, QUINN, (sent.id,))
    for role in Role:
        view = await box(platform, Principal(name="x", role=role))
        assert texts(view) == ["to all"]
        assert view.unread == (0 if role is Role.QA else 1)


async def test_pages_show_unread_mail_first_and_each_mail_once(platform: FakePlatform) -> None:
    ids = [(await send(platform, f"{number}")).id for number in range(7)]
    await acknowledge_mail(platform.ports, QUINN, (ids[6], ids[2]))
    shown, cursor = [], None
    while True:
        page = await box(platform, limit=2, cursor=cursor)
        assert len(page.mails) <= 2
        shown += texts(page)
        cursor = page.cursor
        if cursor is None:
            break
    assert shown == ["5", "4", "3", "1", "0", "6", "2"]
    with pytest.raises(PlatformError, match="is no cursor"):
        await box(platform, cursor="5")


async def test_what_is_told_again_within_the_hour_is_one_mail_unless_it_got_worse(platform: FakePlatform) -> None:
    first = await send(platform, "disk is filling", key="disk", severity="warning")
    again = await send(platform, "disk is filling", key="disk", severity="info")
    assert (again.id, again.repeat) == (first.id, True)
    assert not (await send(platform, "disk is full", key="disk", severity="critical")).repeat
    assert not (await send(platform, "disk is filling", key="disk", who=QUINN)).repeat, "of another sender"
    assert not (await send(platform, "disk is filling", key="disk", to=Role.PM)).repeat
    platform.clock.advance(3600)
    assert not (await send(platform, "disk is filling", key="disk")).repeat


async def test_one_sender_may_send_so_many_an_hour_and_mail_to_all_is_one(platform: FakePlatform) -> None:
    platform.workspace.current = Settings(mailbox=MailSettings(per_hour=3))
    await send(platform, "one", to=None)
    await send(platform, "two")
    await send(platform, "three")
    with pytest.raises(PlatformError, match="ann has sent 3") as refused:
        await send(platform, "four")
    assert refused.value.code is ErrorCode.RESOURCE_EXHAUSTED
    await send(platform, "of another", who=QUINN)
    platform.clock.advance(3600)
    await send(platform, "five")


async def test_a_sender_goes_on_with_its_own_thread_in_another_session(platform: FakePlatform) -> None:
    first = await send(platform, "one", who=ANN.model_copy(update={"session": "se-1"}))
    second = await send(platform, "two", who=ANN.model_copy(update={"session": "se-2"}), thread=first.id)
    assert second.thread == first.id


async def test_a_tenant_neither_gets_nor_names_the_mail_of_another(platform: FakePlatform) -> None:
    await platform.store.write(lambda tx: tx.save_operation(operation(1)))
    platform.workspace.current = Settings.model_validate({"tenants": {"other": {}}})
    sent = await send(platform, "ours", to=None)
    assert (await box(platform, OTHER)).mails == ()
    for call in (
        acknowledge_mail(platform.ports, OTHER, (sent.id,)),
        send(platform, "reply", who=OTHER, thread=sent.id),
        send(platform, "about", who=OTHER, operation="op-1"),
    ):
        with pytest.raises(PlatformError) as refused:
            await call
        assert refused.value.code is ErrorCode.NOT_FOUND
    await send(platform, "about", operation="op-1")


async def test_acknowledging_is_all_or_nothing(platform: FakePlatform) -> None:
    sent = await send(platform, "one")
    with pytest.raises(PlatformError, match="no mail ml-gone"):
        await acknowledge_mail(platform.ports, QUINN, (sent.id, "ml-gone"))
    with pytest.raises(PlatformError, match="no mail"):
        await acknowledge_mail(platform.ports, ANN, (sent.id,))
    assert (await box(platform)).unread == 1


async def test_an_observer_reads_and_does_not_write(platform: FakePlatform) -> None:
    oscar = Principal(name="oscar", role=Role.OBSERVER)
    await send(platform, "to all", to=None)
    assert texts(await box(platform, oscar)) == ["to all"]
    with pytest.raises(PlatformError) as refused:
        await send(platform, "no", who=oscar)
    assert refused.value.code is ErrorCode.PERMISSION_DENIED
    assert platform.ship_log.entries[-1].outcome == "denied"


async def test_what_a_terminal_would_obey_is_shown_and_what_cannot_be_stored_is_too(platform: FakePlatform) -> None:
    await send(platform, "red \x1b[31m,\tback \u202eward\nürgent")
    assert texts(await box(platform)) == ["red \\u001b[31m,\tback \\u202eward\nürgent"]


def test_severities_are_ranked() -> None:
    assert [severity.rank for severity in (Severity.INFO, Severity.WARNING, Severity.CRITICAL)] == [0, 1, 2]
