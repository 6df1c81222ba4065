"""The loop over flags on the in-memory platform: proofs, lies, edits by hand, and what is told."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.change_request import ApprovalRule
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.flag import FlagEntry
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.operation import Operation, OperationState
from santiago_platform.domain.proof import Verdict
from santiago_platform.domain.ship_log import EntryKind
from santiago_platform.operations.configure_flag import FlagChange, configure_flag
from santiago_platform.operations.manage_operation import OperationCommand, manage_operation
from santiago_platform.operations.read_flags import FlagsAnswer, flag_warnings, read_flags
from santiago_platform.reconcilers.flag import FlagReconciler

OWNER = Principal(name="root", role=Role.OWNER)


class Running:
    """The platform with its loop over flags."""

    def __init__(self) -> None:
        self.platform = FakePlatform()
        self.loop = FlagReconciler(self.platform.ports)

    async def change(self, action: str, flag: str = "new", who: Principal = OWNER, **fields: Any) -> Operation:
        asked = FlagChange.model_validate({"action": action, "flag": flag, **fields})
        call = asyncio.create_task(configure_flag(self.platform.ports, who, asked))
        while not call.done():
            await self.loop.pass_over()
            await asyncio.sleep(0)
        return await call

    async def listed(self, flag: str | None = None, *, history: bool = False) -> FlagsAnswer:
        return await read_flags(self.platform.ports, OWNER, flag, None, history=history)

    def told(self, action: str) -> list[dict[str, Any]]:
        return [e.body for e in self.platform.ship_log.entries if e.kind is EntryKind.NOTED and e.action == action]


@pytest.fixture
def running() -> Running:
    return Running()


ASKED = ApprovalRule(required=True)


async def unwritable(*_: Any) -> None:
    raise PlatformError(ErrorCode.FAILED_PRECONDITION, "flags.json cannot be written", "make it writable")


async def refused(change: Any) -> PlatformError:
    with pytest.raises(PlatformError) as raised:
        await change
    return raised.value


async def test_a_change_is_written_served_and_read_back(running: Running) -> None:
    done = await running.change("set", percent=10)
    assert (done.state, done.logged) == (OperationState.SUCCEEDED, True)
    assert done.proof is not None
    assert [e.subject for e in done.proof.evidence] == ["flag new production", "flag new staging"]
    opened, completed = running.platform.ship_log.entries[-2:]
    assert (opened.action, opened.subject) == ("configure_flag.set", "flag new")
    assert (completed.of, completed.outcome) == (opened.seq, "succeeded")
    assert completed.body["detail"][0].startswith("before: ")
    assert '"fractional": [["on", 10], ["off", 90]]' in completed.body["detail"][1]


@pytest.mark.parametrize("action", ["set", "ramp", "kill", "restore", "delete", "rollback"])
async def test_a_writer_that_says_done_and_does_nothing_is_found_out(running: Running, action: str) -> None:
    await running.change("set", percent=10)
    if action == "restore":
        await running.change("kill")
    running.platform.flags.sabotaged = True
    more: dict[str, Any] = {"set": {"percent": 20}, "ramp": {"percent": 50, "minutes": 5}}.get(action, {})
    lied = await running.change(action, **more)
    assert lied.state is OperationState.FAILED
    assert lied.proof is not None
    assert lied.proof.verdict is Verdict.DRIFT


async def test_what_cannot_be_read_back_is_not_called_done(running: Running) -> None:
    running.platform.probe.blind = True
    assert (await running.change("set")).state is OperationState.UNVERIFIED


async def test_a_change_of_one_environment_is_proven_there(running: Running) -> None:
    await running.change("set")
    done = await running.change("kill", environment="staging")
    assert done.proof is not None
    assert [e.subject for e in done.proof.evidence] == ["flag new staging"]
    assert (await running.listed()).flags[0].serves == "off=false"


async def test_a_rollback_undoes_the_newest_change_and_only_that(running: Running) -> None:
    await running.change("set")
    await running.change("set", percent=50)
    assert (await running.change("rollback")).state is OperationState.SUCCEEDED
    assert (await running.listed()).flags[0].serves == "off=false"


async def test_an_operation_is_rolled_back_like_any_other(running: Running) -> None:
    await running.change("set")
    killed = await running.change("kill")
    command = OperationCommand(action="rollback", operation=killed.id)
    call = asyncio.create_task(manage_operation(running.platform.ports, OWNER, command))
    while not call.done():
        await running.loop.pass_over()
        await asyncio.sleep(0)
    assert (await call).operations[0].state == "succeeded"
    assert (await running.listed()).flags[0].serves == "off=false"


@pytest.mark.parametrize("how", ["turned down", "never written"])
async def test_a_change_that_did_not_happen_is_not_what_a_rollback_undoes(running: Running, how: str) -> None:
    await running.change("set")
    await running.change("set", percent=50)
    running.platform.clock.advance(1)
    if how == "turned down":
        settings = running.platform.workspace.current
        strict = {n: e.model_copy(update={"approvals": ASKED}) for n, e in settings.environments.items()}
        running.platform.workspace.current = settings.model_copy(update={"environments": strict})
        held = await running.change("set", percent=100)
        await manage_operation(running.platform.ports, OWNER, OperationCommand(action="reject", operation=held.id))
        running.platform.workspace.current = settings
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(running.platform.flags, "put", unwritable)
            assert (await running.change("set", percent=100)).state is OperationState.FAILED
    running.platform.clock.advance(1)
    assert (await running.change("rollback")).state is OperationState.SUCCEEDED
    assert (await running.listed()).flags[0].serves == "off=false"


async def test_what_was_changed_since_is_not_rolled_back_in_silence(running: Running) -> None:
    first = await running.change("set")
    await running.change("kill")
    error = await refused(running.change("rollback", operation=first.id))
    assert error.code is ErrorCode.CONFLICT
    assert (await running.listed()).flags[0].serves.startswith("the code's default")


async def test_two_changes_of_a_flag_at_once_are_refused_and_of_two_flags_are_not(running: Running) -> None:
    asked = [FlagChange(action="set", flag=flag) for flag in ("one", "one", "two")]
    calls = [asyncio.create_task(configure_flag(running.platform.ports, OWNER, change)) for change in asked]
    while not all(call.done() for call in calls):
        await asyncio.sleep(0)
        await running.loop.pass_over()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    codes = [e.code for e in ended if isinstance(e, PlatformError)]
    assert codes in ([ErrorCode.CONFLICT], [])  # the second may come when the first has ended
    assert set((await running.platform.flags.read()).flags) == {"one", "two"}


async def test_a_daemon_that_was_killed_in_between_goes_on_with_the_change(running: Running) -> None:
    ports = running.platform.ports
    call = asyncio.create_task(configure_flag(ports, OWNER, FlagChange(action="set", flag="new")))
    while not await ports.store.read(lambda view: view.operations(running=True)):
        await asyncio.sleep(0)
    call.cancel()
    await FlagReconciler(ports).pass_over()
    (operation,) = await ports.store.read(lambda view: list(view.operations()))
    assert (operation.state, operation.logged) == (OperationState.SUCCEEDED, True)
    assert await running.platform.ship_log.unfinished() == []


async def test_a_file_that_was_edited_in_between_is_left_alone(running: Running) -> None:
    await running.change("set")
    ports = running.platform.ports
    call = asyncio.create_task(configure_flag(ports, OWNER, FlagChange(action="kill", flag="new")))
    while not await ports.store.read(lambda view: view.operations(running=True)):
        await asyncio.sleep(0)
    flags = running.platform.flags
    by_hand = flags.file.entry("new").updated(None, default_variant="on")
    flags.file = flags.served = flags.file.with_entry("new", by_hand)
    while not call.done():
        await running.loop.pass_over()
        await asyncio.sleep(0)
    assert ((await call).state, (await call).proof) == (OperationState.FAILED, None)
    assert flags.file.entry("new") == by_hand
    await running.loop.pass_over()
    assert [told["after"] for told in running.told("flag.edited")] == [by_hand.written()]


async def test_an_edit_by_hand_is_in_the_ships_log_once(running: Running) -> None:
    await running.change("set")
    flags = running.platform.flags
    flags.file = flags.file.with_entry("new", flags.file.entry("new").updated(None, default_variant="on"))
    for _ in range(3):
        await running.loop.pass_over()
    (told,) = running.told("flag.edited")
    assert told["after"]["flag"]["defaultVariant"] == "on"


async def test_an_edit_while_the_daemon_was_down_is_in_the_ships_log_once(running: Running) -> None:
    await running.change("set")
    await running.change("set", flag="other")
    flags = running.platform.flags
    flags.file = flags.served = flags.file.with_entry(
        "new", flags.file.entry("new").updated(None, default_variant="on")
    )
    for _ in range(2):  # daemons
        running.loop = FlagReconciler(running.platform.ports)
        for _ in range(2):
            await running.loop.pass_over()
    (told,) = running.told("flag.edited")
    assert told["how"] == "by hand, while the platform was down"
    assert (told["before"]["flag"]["defaultVariant"], told["after"]["flag"]["defaultVariant"]) == ("off", "on")


async def test_a_file_that_was_broken_while_the_daemon_was_down_is_told_and_what_was_edited_once_it_is_mended(
    running: Running,
) -> None:
    await running.change("set")
    flags = running.platform.flags
    flags.broken = "flags.json:3: is not valid JSON"
    running.loop = FlagReconciler(running.platform.ports)
    await running.loop.pass_over()
    assert running.told("flag.refused") == [{"problem": flags.broken}]
    assert await flag_warnings(running.platform.ports) == [f"flags go on as they were: {flags.broken}"]
    flags.broken = ""
    flags.file = flags.served = flags.file.with_entry("new", FlagEntry())
    await running.loop.pass_over()
    assert [told["after"] for told in running.told("flag.edited")] == [FlagEntry().written()]


async def test_rules_that_flags_share_are_noted_when_they_are_edited(running: Running) -> None:
    await running.change("set")
    flags = running.platform.flags
    flags.file = flags.file.model_copy(update={"evaluators": {"staff": {"==": [1, 1]}}})
    for _ in range(3):
        await running.loop.pass_over()
    assert [told["after"] for told in running.told("flag.edited")] == [{"staff": {"==": [1, 1]}}]


async def test_what_operations_changed_is_no_edit_also_for_a_daemon_that_starts_later(running: Running) -> None:
    await running.change("set")
    await running.change("kill", environment="staging")
    ports = running.platform.ports
    call = asyncio.create_task(
        configure_flag(ports, OWNER, FlagChange(action="ramp", flag="new", percent=9, minutes=9))
    )
    while not await ports.store.read(lambda view: view.operations(running=True)):
        await asyncio.sleep(0)
    call.cancel()
    (asked,) = await ports.store.read(lambda view: list(view.operations(running=True)))
    entries = [FlagEntry.model_validate(asked.request[name]) for name in ("before", "after")]
    await running.platform.flags.put("new", *entries)  # and then it was killed
    for _ in range(2):
        running.loop = FlagReconciler(ports)
        await running.loop.pass_over()
    assert running.told("flag.edited") == []
    assert not await ports.store.read(lambda view: view.operations(running=True))


async def test_a_file_that_is_broken_by_hand_is_told_once_and_changes_are_refused(running: Running) -> None:
    await running.change("set")
    running.platform.flags.broken = "flags.json:3: is not valid JSON"
    for _ in range(3):
        await running.loop.pass_over()
    assert running.told("flag.refused") == [{"problem": "flags.json:3: is not valid JSON"}]
    assert (await refused(running.change("kill"))).code is ErrorCode.INVALID_ARGUMENT


async def test_a_flag_that_expired_is_told_once(running: Running) -> None:
    last = (running.platform.clock.now() + timedelta(days=1)).date().isoformat()
    await running.change("set", definition={"metadata": {"owner": "web", "expires": last}})
    assert running.told("flag.expired") == []
    running.platform.clock.advance(3 * 86400)
    for _ in range(3):
        await running.loop.pass_over()
    assert len(running.told("flag.expired")) == 1
    assert (await running.listed()).warnings


@pytest.mark.parametrize(
    ("action", "fields", "code"),
    [
        ("kill", {"flag": "nobody"}, ErrorCode.NOT_FOUND),
        ("ramp", {"flag": "nobody", "percent": 1, "minutes": 1}, ErrorCode.NOT_FOUND),
        ("ramp", {"percent": 1}, ErrorCode.INVALID_ARGUMENT),
        ("rollback", {"flag": "nobody"}, ErrorCode.NOT_FOUND),
        ("rollback", {"operation": "op-none"}, ErrorCode.NOT_FOUND),
        ("set", {"environment": "moon"}, ErrorCode.NOT_FOUND),
        ("set", {"flag": "nobody", "environment": "staging"}, ErrorCode.NOT_FOUND),
        ("set", {"definition": {"variants": {"on": True, "off": 0}}}, ErrorCode.INVALID_ARGUMENT),
        ("set", {"definition": {"defaultVariant": "maybe"}}, ErrorCode.INVALID_ARGUMENT),
        ("set", {"definition": {"targeting": {"log": ["x"]}}}, ErrorCode.INVALID_ARGUMENT),
        ("set", {"definition": {"colour": "red"}}, ErrorCode.INVALID_ARGUMENT),
        ("set", {"definition": {"metadata": {"owner": ["a"]}}}, ErrorCode.INVALID_ARGUMENT),
        ("set", {"definition": {"state": "ON"}}, ErrorCode.INVALID_ARGUMENT),
        ("set", {"percent": 10, "variant": "maybe"}, ErrorCode.INVALID_ARGUMENT),
    ],
)
async def test_what_cannot_be_done_is_refused_in_words_and_changes_nothing(
    running: Running, action: str, fields: dict[str, Any], code: ErrorCode
) -> None:
    await running.change("set")
    before = running.platform.flags.file
    error = await refused(running.change(action, **fields))
    assert error.code is code
    assert error.message
    assert running.platform.flags.file == before
    assert running.platform.ship_log.entries[-1].outcome == "refused"


@pytest.mark.parametrize(
    "who",
    [
        Principal(name="oscar", role=Role.OBSERVER),
        Principal(name="mallory", role=Role.DEVELOPER, tenant="elsewhere"),
    ],
)
async def test_who_may_not_change_flags_is_refused_and_logged(running: Running, who: Principal) -> None:
    error = await refused(running.change("set", who=who))
    assert error.code in (ErrorCode.PERMISSION_DENIED, ErrorCode.NOT_FOUND)
    assert len(running.platform.ship_log.entries) == 2


async def test_the_history_has_what_was_before_and_after(running: Running) -> None:
    await running.change("set")
    await running.change("kill", reason="it fails")
    newest, oldest = (await running.listed("new", history=True)).changes
    assert (newest.what, newest.reason, newest.state) == ("kill new", "it fails", "succeeded")
    assert newest.before == oldest.after
    assert oldest.before == {"flag": None, "environments": {}}
