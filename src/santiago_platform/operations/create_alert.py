"""Creates an alert, or removes one: checked, tried and tested before, loaded and read back by the loop over rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from ..domain.alert import ALERTS, Alert, AlertName, AlertSpec, check_duplicate, condition, groups_of
from ..domain.change_request import Decision as Approved
from ..domain.change_request import MovedError
from ..domain.environment import Settings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Name, Principal, Role
from ..domain.monitoring import differences
from ..domain.operation import Operation, OperationState
from ..domain.plan import Plan, exactly, fingerprint
from ..domain.policy import Decision as Ruling
from ..domain.value import Value
from ..ports import Ports
from ..ports.store import Snapshot, Transaction
from .authority import authorise
from .change import Record, change
from .change_request import Live, Prepared, authorise_undo, hold, needs_of, wanted
from .operation_view import OperationView, view
from .plan_view import Advice, view_of
from .tenancy import require_operations, require_service
from .try_alert import try_alert

KIND = "create_alert"


class AlertChange(Value):
    """spec: of create. dry_run: all checks and tries, and nothing is loaded."""

    action: Literal["create", "remove"] = "create"
    name: AlertName
    service: Name
    environment: Name
    spec: AlertSpec | None = None
    dry_run: bool = False
    reason: Annotated[str, Field(max_length=500)] = ""


class Checked(Value):
    """before, after: the alert; None where there is none. tried: what came of trying it."""

    before: Alert | None
    after: Alert | None
    tried: tuple[str, ...] = ()
    ruling: Ruling


async def create_alert(
    ports: Ports, principal: Principal, asked: AlertChange, *, advice: Advice | None = None
) -> OperationView:
    """The operation that ends once the rule is read back.

    advice: it was planned of words, and waits for whoever said them.
    Raises PlatformError: INVALID_ARGUMENT, NOT_FOUND (service, environment, alert), CONFLICT (a duplicate; another
    change of the service's alerts is under way), FAILED_PRECONDITION (it can never fire), PERMISSION_DENIED.
    """
    subject = f"{asked.service}/{asked.environment} alert {asked.name}"
    known = advice.id if advice is not None else ""
    request = asked.model_dump(mode="json", exclude_defaults=True)
    async with change(ports, principal, KIND, subject, request, operation=known) as record:
        prepared = await _prepared_alert(ports, principal, asked, record)
        settings = ports.workspace.last_good_settings()
        if asked.dry_run:
            record.outcome = "planned"
            planned = prepared.operation.model_copy(update={"state": OperationState.PLANNED, "phase": "planned"})
            shown = await ports.store.read(lambda v: view(v, planned))
            return shown.model_copy(update={"plan": view_of(prepared.plan)})
        wants = wanted(settings, asked.environment, prepared.needs, advice)
        if wants is not None:
            held = await hold(ports, record, prepared, wants)
            return await ports.store.read(lambda v: view(v, held))
        await ports.store.write(prepared.begin)
        record.continues = True
    ports.activation.activate()
    begun = prepared.operation
    return await ports.store.read(lambda v: view(v, v.operation(begun.id) or begun))


async def prepare_alert(
    ports: Ports,
    principal: Principal,
    arguments: Mapping[str, Any],
    record: Record,
    approvals: tuple[Approved, ...] = (),
) -> Prepared:
    """Raises MovedError where another alert says the same by now, or it is gone; else as `create_alert` does."""
    asked = AlertChange.model_validate(arguments)
    try:
        return await _prepared_alert(ports, principal, asked, record)
    except PlatformError as exc:
        if exc.code not in (ErrorCode.CONFLICT, ErrorCode.NOT_FOUND):
            raise
        raise MovedError(exc.message) from exc


async def _prepared_alert(ports: Ports, principal: Principal, asked: AlertChange, record: Record) -> Prepared:
    checked = await check_alert(ports, principal, asked)
    settings = ports.workspace.last_good_settings()
    operation = _operation(ports, principal, settings, asked, checked, record)
    return Prepared(
        operation=operation,
        arguments=asked.model_dump(mode="json", exclude_defaults=True),
        plan=plan_of_alert(checked),
        live=_live(ports, asked),
        needs=needs_of(settings, asked.environment, checked.ruling),
        begin=lambda tx: store_alert(tx, settings, operation),
    )


async def undo_alert(ports: Ports, principal: Principal, of: Operation, reason: str) -> str:
    """Makes the alert as it was before an operation, unless it was changed since. Returns the new operation's id."""
    request = {"operation": of.id, "reason": reason}
    async with change(ports, principal, "manage_operation.rollback", of.id, request) as record:
        settings = ports.workspace.last_good_settings()
        authorise_undo(ports, principal, settings, of)
        await require_service(ports, principal, settings, of.service)
        before, after = changed_alert(of)
        now = await ports.store.read(lambda v: _named(v, _key(of)))
        if now != after:
            raise PlatformError(
                ErrorCode.CONFLICT, f"the alert is no longer as operation {of.id} left it", "create_alert lists alerts"
            )
        undone = _undone(ports, principal, of, record, before, after, reason)
        await ports.store.write(lambda tx: store_alert(tx, settings, undone, way_back=True))
        record.continues = True
    ports.activation.activate()
    return undone.id


async def check_alert(ports: Ports, principal: Principal, asked: AlertChange) -> Checked:
    """Raises what `create_alert` would, but for an approval that is needed; changes and records nothing."""
    settings = ports.workspace.last_good_settings()
    service, environment = asked.service, asked.environment
    ruling = authorise(ports, principal, KIND, settings, service=service, environment=environment, waits=True)
    await require_service(ports, principal, settings, asked.service)
    if asked.environment not in settings.environments:
        known = ", ".join(sorted(settings.environments))
        raise PlatformError(
            ErrorCode.NOT_FOUND, f"there is no environment {asked.environment}", f"santiago.yaml has: {known}"
        )
    alerts = await ports.store.read(lambda v: v.alerts())
    key = (asked.service, asked.environment, asked.name)
    before = next((alert for alert in alerts if alert.key == key), None)
    if asked.action == "remove":
        if before is None:
            mine = ", ".join(a.name for a in alerts if a.key[:2] == key[:2]) or "none"
            raise PlatformError(
                ErrorCode.NOT_FOUND, f"there is no alert {asked.name}", f"{'/'.join(key[:2])} has: {mine}"
            )
        return Checked(before=before, after=None, ruling=ruling)
    after = _alert(ports, principal, settings, asked)
    check_duplicate(after, alerts)
    return Checked(before=None, after=after, tried=await try_alert(ports, after), ruling=ruling)


def _alert(ports: Ports, principal: Principal, settings: Settings, asked: AlertChange) -> Alert:
    spec = asked.spec
    if spec is None:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT, "argument spec is missing", f"it takes {', '.join(AlertSpec.model_fields)}"
        )
    if spec.route is not None and spec.route not in {*Role, *settings.notify}:
        raise PlatformError(
            ErrorCode.NOT_FOUND,
            f"route {spec.route} is neither a role nor a receiver",
            f"roles: {', '.join(Role)}; notify in santiago.yaml has: {', '.join(settings.notify) or 'none'}",
        )
    of_signal = ports.metrics.expression(spec.signal, asked.service, asked.environment, None) if spec.signal else ""
    return Alert(
        name=asked.name,
        service=asked.service,
        environment=asked.environment,
        expression=condition(spec, of_signal, asked.service, asked.environment),
        spec=spec,
        by=principal.name,
        at=ports.clock.now(),
    )


def plan_of_alert(checked: Checked) -> Plan:
    alert = checked.after or checked.before
    assert alert is not None  # noqa: S101 - one of both is there
    before, after = (groups_of([a] if a else []) for a in (checked.before, checked.after))
    return Plan(
        changes=(*differences(before, after), *checked.tried),
        way_back="manage_operation with action rollback makes it as it was before",
        exact=exactly({"alert": alert.key, "rules": [g.model_dump(mode="json") for g in after]}),
    )


def store_alert(tx: Transaction, settings: Settings, operation: Operation, *, way_back: bool = False) -> None:
    """The operation, and the alerts as it wants them. Raises CONFLICT while another one changes the same alerts."""
    if not way_back:
        require_operations(tx, settings, operation.of_tenant)
    if any(o.kind == KIND for o in running_changes(tx, operation.service, operation.environment)):
        raise PlatformError(
            ErrorCode.CONFLICT,
            f"another change of the alerts of {operation.service}/{operation.environment} is under way",
            "it is a matter of seconds",
            retry_after=1,
        )
    before, after = changed_alert(operation)
    put_alert(tx, before, after)
    tx.save_operation(operation)


def put_alert(tx: Transaction, before: Alert | None, after: Alert | None) -> None:
    if after is not None:
        tx.save_alert(after)
    elif before is not None:
        tx.remove_alert(before)


def running_changes(view: Snapshot, service: str, environment: str) -> list[Operation]:
    found = view.operations(service=service, environment=environment, running=True, limit=100)
    return [o for o in found if o.state is OperationState.RUNNING]


def changed_alert(operation: Operation) -> tuple[Alert | None, Alert | None]:
    """Before it, and after it."""
    before, after = (operation.request.get(name) for name in ("before", "after"))
    return (Alert.model_validate(before) if before else None, Alert.model_validate(after) if after else None)


def _key(operation: Operation) -> tuple[str, str, str]:
    alert = next(alert for alert in changed_alert(operation) if alert is not None)
    return alert.key


def _named(view: Snapshot, key: Sequence[str]) -> Alert | None:
    return next((alert for alert in view.alerts() if alert.key == tuple(key)), None)


def _live(ports: Ports, asked: AlertChange) -> Live:
    """What an approval is bound to: the alert as it is now, and the policy."""
    policy = ports.policy.version()
    key = (asked.service, asked.environment, asked.name)

    def live(view: Snapshot) -> str:
        now = _named(view, key)
        return fingerprint({"alert": now.model_dump(mode="json") if now else None, "policy": policy})

    return live


def _operation(
    ports: Ports, principal: Principal, settings: Settings, asked: AlertChange, checked: Checked, record: Record
) -> Operation:
    now = ports.clock.now()
    alert = checked.after or checked.before
    return Operation(
        id=record.operation,
        kind=KIND,
        principal=principal,
        service=asked.service,
        environment=asked.environment,
        tenant=settings.tenant_of(asked.service),
        request=_request(asked.action, checked.before, checked.after),
        phase="loading",
        reason=asked.reason or (f"{asked.action} {alert.said()}" if alert else ""),
        detail=checked.tried,
        created_at=now,
        updated_at=now,
        log_entry=record.seq,
    )


def _undone(
    ports: Ports,
    principal: Principal,
    of: Operation,
    record: Record,
    before: Alert | None,
    after: Alert | None,
    reason: str,
) -> Operation:
    now = ports.clock.now()
    return Operation(
        id=record.operation,
        kind=KIND,
        principal=principal,
        service=of.service,
        environment=of.environment,
        tenant=of.of_tenant,
        request={**_request("rollback", after, before), "of": of.id},
        phase="loading",
        reason=reason or f"takes operation {of.id} back",
        created_at=now,
        updated_at=now,
        log_entry=record.seq,
    )


def _request(action: str, before: Alert | None, after: Alert | None) -> dict[str, Any]:
    said = {name: a.model_dump(mode="json") for name, a in (("before", before), ("after", after)) if a is not None}
    return {"action": action, "owner": ALERTS, **said}
