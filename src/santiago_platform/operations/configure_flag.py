"""Changes a feature flag: what it is, who gets it, off at once, back, or as it was before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, WithJsonSchema

from ..domain.change_plan import plan_of_flag
from ..domain.change_request import Decision as Approved
from ..domain.environment import Settings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.flag import (
    Flag,
    FlagEntry,
    FlagError,
    FlagFile,
    FlagKey,
    Override,
    check_file,
    killed,
    restored,
    shared,
)
from ..domain.identity import Name, Principal
from ..domain.operation import Operation, OperationState
from ..domain.plan import fingerprint
from ..domain.policy import Decision as Ruling
from ..domain.ramp import LONGEST_RAMP
from ..domain.value import Value
from ..ports import Ports
from ..ports.store import Snapshot, Transaction
from .authority import ALL, authorise, require_tenant
from .change import Record, change
from .change_request import Live, Prepared, hold, needs_of, needs_of_policy, wanted
from .plan_view import Advice
from .tenancy import require_operations

KIND = "configure_flag"
WAIT_SECONDS = 10.0
POLL_SECONDS = 0.02
LONGEST_MINUTES = int(LONGEST_RAMP / timedelta(minutes=1))
BOOLEAN: Mapping[str, bool] = {"on": True, "off": False}
WAY_BACK = frozenset({"kill", "rollback"})

Action = Literal["set", "ramp", "kill", "restore", "delete", "rollback"]
# To undo what stops harm, or takes back, is a change like any other.
_UNDOING: Mapping[str, Action] = {"kill": "restore", "rollback": "set"}


class FlagFields(Value):
    """environment: null means all. definition: fields of flagd (variants, defaultVariant, targeting, metadata); what is
    left out stays, and a new flag is a boolean that is off.

    set takes percent too: the share of users with variant. ramp moves that share from now on, within minutes, to
    percent. kill: everybody gets the code's default, until restore. rollback: as before the newest change of the flag.
    """

    environment: Name | None = None
    definition: Annotated[dict[str, Any], WithJsonSchema({"type": "object"})] | None = None
    variant: str | None = None
    percent: Annotated[int, Field(ge=0, le=100)] | None = None
    minutes: Annotated[int, Field(ge=1, le=LONGEST_MINUTES)] | None = None
    reason: Annotated[str, Field(max_length=500)] = ""


class FlagChange(FlagFields):
    """operation: which change a rollback undoes, where it is not the newest of the flag."""

    action: Action
    flag: FlagKey
    operation: str | None = None


async def configure_flag(
    ports: Ports,
    principal: Principal,
    asked: FlagChange,
    *,
    advice: Advice | None = None,
    operation_id: str = "",
    wait_seconds: float = WAIT_SECONDS,
) -> Operation:
    """The operation, at its end unless that takes longer than `wait_seconds`: served, and read back.

    advice: it was planned of words, and waits for whoever said them. operation_id: where it has one already.
    Raises PlatformError: INVALID_ARGUMENT, NOT_FOUND (flag, environment, operation), CONFLICT (another change of the
    flag is under way, or flags.json was edited since), FAILED_PRECONDITION, PERMISSION_DENIED.
    """
    subject = f"flag {asked.flag}" + (f"/{asked.environment}" if asked.environment else "")
    request = asked.model_dump(mode="json", exclude_defaults=True)
    known = advice.id if advice is not None else operation_id
    async with change(ports, principal, f"{KIND}.{asked.action}", subject, request, operation=known) as record:
        prepared = await prepare_flag_change(ports, principal, request, record)
        settings = ports.workspace.last_good_settings()
        wants = wanted(settings, prepared.operation.environment or None, prepared.needs, advice)
        if wants is not None:
            return await hold(ports, record, prepared, wants)
        await ports.store.write(prepared.begin)
        record.continues = True
    ports.activation.activate()
    return await _ended(ports, record.operation, wait_seconds)


async def prepare_flag_change(
    ports: Ports,
    principal: Principal,
    arguments: Mapping[str, Any],
    record: Record,
    approvals: tuple[Approved, ...] = (),
) -> Prepared:
    """Raises as `configure_flag` does."""
    change = await check_flag_change(ports, principal, FlagChange.model_validate(arguments))
    asked, settings = change.asked, ports.workspace.last_good_settings()
    known = asked.model_dump(mode="json", exclude_defaults=True)
    operation = _operation(ports, principal, settings, change, record)
    if change.amounts_to in WAY_BACK:  # needs nobody but whom a policy names
        needs = needs_of_policy(change.ruling)
    else:
        needs = needs_of(settings, asked.environment, change.ruling)

    def begin_it(tx: Transaction) -> None:
        _store(tx, settings, asked, operation)

    return Prepared(
        operation=operation,
        arguments=known,
        plan=plan_of_flag(
            asked.flag,
            asked.environment,
            change.before.written(),
            known,
            after=change.after.written() if asked.action == "rollback" else None,
        ),
        live=_live(ports, change.before),
        needs=needs,
        begin=begin_it,
    )


def _live(ports: Ports, before: FlagEntry) -> Live:
    """The file is not in the store: whoever has edited it since is found where the change is carried out."""
    seen = fingerprint({"flag": before.written(), "policy": ports.policy.version()})
    return lambda _view: seen


class CheckedChange(Value):
    """The flag before and after it, and what the policy says of it.

    asked: of a rollback, with the change that it undoes and the environment which that was about. amounts_to: the
    action whose right it takes. A rollback takes a change back; but of a kill it is what restore does, and of a
    rollback it does again what was taken back, as set would, or delete.
    """

    asked: FlagChange
    before: FlagEntry
    after: FlagEntry
    amounts_to: Action
    ruling: Ruling


async def check_flag_change(ports: Ports, principal: Principal, asked: FlagChange) -> CheckedChange:
    """Raises what `configure_flag` would, but for an approval that is needed; changes and records nothing."""
    settings = ports.workspace.last_good_settings()
    destroys = asked.action == "delete"
    ruling = _ruling(ports, principal, settings, asked, asked.action, destroys=destroys)
    if asked.environment is not None and asked.environment not in settings.environments:
        known = ", ".join(sorted(settings.environments))
        raise PlatformError(
            ErrorCode.NOT_FOUND, f"there is no environment {asked.environment}", f"santiago.yaml has: {known}"
        )
    file = await ports.flags.read()
    before, amounts_to = file.entry(asked.flag), asked.action
    if asked.action == "rollback":
        undone = await _undone(ports, asked, before)
        after = FlagEntry.model_validate(undone.request["before"])
        asked = asked.model_copy(update={"operation": undone.id, "environment": undone.environment or None})
        amounts_to = _UNDOING.get(undone.request.get("amounts_to") or undone.request["action"], "rollback")
        destroys = amounts_to == "set" and _leaves_out(before, after)
        amounts_to = "delete" if destroys else amounts_to
        ruling = _ruling(ports, principal, settings, asked, amounts_to, destroys=destroys)
    else:
        after = _after(ports, asked, before)
    _check(asked.flag, file, after)
    return CheckedChange(asked=asked, before=before, after=after, amounts_to=amounts_to, ruling=ruling)


def _ruling(
    ports: Ports, principal: Principal, settings: Settings, asked: FlagChange, action: Action, *, destroys: bool
) -> Ruling:
    """An approval that is needed is waited for."""
    where = asked.environment or ALL
    return admit_to_flags(ports, principal, f"{KIND}.{action}", settings, where, destroys=destroys, waits=True)


def _leaves_out(before: FlagEntry, after: FlagEntry) -> bool:
    return (before.flag is not None and after.flag is None) or bool(set(before.environments) - set(after.environments))


def admit_to_flags(
    ports: Ports,
    principal: Principal,
    action: str,
    settings: Settings,
    environment: str,
    *,
    destroys: bool = False,
    waits: bool = False,
) -> Ruling:
    """Flags are the workspace's own tenant's. environment: one, or ALL. Raises as `authorise`."""
    ruling = authorise(ports, principal, action, settings, environment=environment, destroys=destroys, waits=waits)
    require_tenant(principal, settings, settings.tenant)
    return ruling


def _after(ports: Ports, asked: FlagChange, before: FlagEntry) -> FlagEntry:
    now = ports.clock.now()
    if asked.action == "set":
        return _set(asked, before, now)
    if before.flag is None:
        raise PlatformError(
            ErrorCode.NOT_FOUND, f"there is no flag {asked.flag}", "action list lists them, and set makes one"
        )
    match asked.action:
        case "kill":
            return killed(before, asked.environment, now)
        case "restore":
            return restored(before, asked.environment, now)
        case "delete" if asked.environment is not None:
            others = {name: part for name, part in before.environments.items() if name != asked.environment}
            return before.model_copy(update={"environments": others})
        case "delete":
            return FlagEntry()
    if asked.percent is None or asked.minutes is None:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            "a ramp needs percent and minutes",
            "percent 100 and minutes 60: to everybody within an hour; set gives a share at once",
        )
    over = timedelta(minutes=asked.minutes)
    return shared(before, asked.environment, asked.variant, asked.percent, now, over)


def _set(asked: FlagChange, before: FlagEntry, now: datetime) -> FlagEntry:
    given = dict(asked.definition or {})
    entry = before
    if before.flag is None:
        if asked.environment is not None:
            raise PlatformError(
                ErrorCode.NOT_FOUND,
                f"there is no flag {asked.flag}, so nothing can differ in {asked.environment}",
                "set it without an environment first",
            )
        new: dict[str, Any] = {"state": "ENABLED", "variants": BOOLEAN}
        if "variants" not in given:
            new["defaultVariant"] = "off"
        entry = FlagEntry(flag=_validated(Flag, {**new, **given}))
    else:
        part = before.flag if asked.environment is None else before.environments.get(asked.environment, Override())
        fields = {**part.written(), **given}
        if isinstance(given.get("metadata"), dict):  # what is not named in it stays
            fields["metadata"] = {**part.metadata, **given["metadata"]}
        changed = _validated(Flag if asked.environment is None else Override, fields)
        entry = entry.updated(asked.environment, **dict(changed))
    if asked.percent is not None:
        entry = shared(entry, asked.environment, asked.variant, asked.percent, now, None)
    return entry


def _validated(kind: type[Flag] | type[Override], fields: Mapping[str, Any]) -> Flag | Override:
    try:
        return kind.model_validate(fields, strict=True)
    except ValidationError as exc:
        found = exc.errors(include_url=False, include_input=False)[:5]
        said = "; ".join(f"definition.{'.'.join(map(str, e['loc']))}: {e['msg'].lower()}" for e in found)
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            said[:1000],
            f"definition takes {', '.join(f.alias or name for name, f in kind.model_fields.items())}",
        ) from exc


def _check(key: str, file: FlagFile, after: FlagEntry) -> None:
    try:
        check_file(file.with_entry(key, after))
    except FlagError as exc:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT, f"{'.'.join(map(str, exc.path))}: {exc}", "nothing was changed"
        ) from exc


async def _undone(ports: Ports, asked: FlagChange, now: FlagEntry) -> Operation:
    """The change that a rollback undoes. One that somebody has changed since is not undone in silence."""
    found = await ports.store.read(lambda view: flag_operations(view, asked.flag, 50))
    named = (o for o in found if asked.operation in (None, o.id) and asked.environment in (None, o.environment))
    chosen = next((o for o in named if _written(o)), None)
    if chosen is None:
        what = f"operation {asked.operation} is no change" if asked.operation else "there is no change"
        where = f" in {asked.environment}" if asked.environment else ""
        raise PlatformError(ErrorCode.NOT_FOUND, f"{what} of the flag {asked.flag}{where}", "action history lists them")
    if now != FlagEntry.model_validate(chosen.request["after"]):
        raise PlatformError(
            ErrorCode.CONFLICT,
            f"the flag {asked.flag} is no longer as operation {chosen.id} left it",
            "action history shows each change with before and after; set makes it as you want it",
        )
    return chosen


def _written(operation: Operation) -> bool:
    """Whether it has changed the flag: not one that was turned down, or refused before it was written."""
    done = operation.state in (OperationState.SUCCEEDED, OperationState.UNVERIFIED)
    return done or (operation.state is OperationState.FAILED and operation.proof is not None)


def flag_operations(view: Snapshot, flag: str | None, limit: int) -> list[Operation]:
    """Changes of a flag, or of all, newest first."""
    found = view.operations(service="", limit=1000)
    changes = [o for o in found if o.kind == KIND and flag in (None, o.request["flag"])]
    return changes[:limit]


def _operation(
    ports: Ports,
    principal: Principal,
    settings: Settings,
    change: CheckedChange,
    record: Record,
) -> Operation:
    now, asked = ports.clock.now(), change.asked
    changed = {"before": change.before.written(), "after": change.after.written()}
    as_asked = asked.model_dump(mode="json", include={"action", "flag", "environment", "reason"})
    return Operation(
        id=record.operation,
        kind=KIND,
        principal=principal,
        tenant=settings.tenant,
        service="",
        environment=asked.environment or "",
        request={**as_asked, **changed, "amounts_to": change.amounts_to},
        phase="applying",
        reason=asked.reason or f"{asked.action} of the flag {asked.flag}",
        detail=tuple(f"{name}: {json.dumps(entry, ensure_ascii=False)}" for name, entry in changed.items()),
        created_at=now,
        updated_at=now,
        log_entry=record.seq,
    )


def _store(tx: Transaction, settings: Settings, asked: FlagChange, operation: Operation) -> None:
    flag = asked.flag
    if asked.action not in WAY_BACK:
        require_operations(tx, settings, operation.of_tenant)
    under_way = [
        o
        for o in tx.operations(service="", running=True, limit=1000)
        if o.kind == KIND and o.state is OperationState.RUNNING
    ]
    if any(o.request["flag"] == flag for o in under_way):
        raise PlatformError(
            ErrorCode.CONFLICT, f"another change of the flag {flag} is under way", "it is a matter of a moment"
        )
    tx.save_operation(operation)


async def _ended(ports: Ports, operation_id: str, wait_seconds: float) -> Operation:
    until = ports.clock.monotonic() + wait_seconds
    while True:
        operation = await ports.store.read(lambda view: view.operation(operation_id))
        assert operation is not None  # noqa: S101 - it was stored, and none is ever removed
        if (operation.state.finished and operation.logged) or ports.clock.monotonic() >= until:
            return operation
        await ports.clock.sleep(POLL_SECONDS)
