"""Puts the rules of a service's SLOs in force: compiled, tested, diffed, loaded, and read back by a loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from ..domain.change_request import Decision as Approved
from ..domain.change_request import MovedError
from ..domain.environment import Settings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Name, Principal
from ..domain.monitoring import Monitoring, differences
from ..domain.operation import Operation, OperationState
from ..domain.plan import Plan, exactly, fingerprint
from ..domain.policy import Decision as Ruling
from ..domain.rules import RuleGroup, RuleTest
from ..domain.slo import PLATFORM as ITSELF
from ..domain.slo import Slo
from ..domain.slo_cases import rule_tests
from ..domain.slo_rules import rule_groups
from ..domain.value import Value
from ..ports import Ports
from ..ports.store import Snapshot, Transaction
from .authority import authorise, require_tenant
from .change import Record, change
from .change_request import Live, Prepared, authorise_undo, hold, needs_of, wanted
from .create_alert import running_changes
from .operation_view import OperationView, view
from .plan_view import view_of
from .tenancy import of_all_tenants, require_operations, require_service

KIND = "configure_monitoring"


class MonitoringChange(Value):
    """apply: the rules of what services/NAME/slo.yaml says. remove: none of it, until they are applied again."""

    action: Literal["apply", "remove"] = "apply"
    service: Name
    environment: Name
    dry_run: bool = False
    reason: Annotated[str, Field(max_length=500)] = ""


class Compiled(Value):
    """source: fingerprint of the SLOs. tests: that show what the rules do."""

    groups: tuple[RuleGroup, ...]
    tests: tuple[RuleTest, ...]
    source: str


async def configure_monitoring(ports: Ports, principal: Principal, asked: MonitoringChange) -> OperationView:
    """The operation that ends once the rules are read back.

    Raises PlatformError: INVALID_ARGUMENT (slo.yaml, with file and line; rules that fail their tests), NOT_FOUND
    (service, environment, no SLO), CONFLICT, FAILED_PRECONDITION (it is so already), PERMISSION_DENIED.
    """
    subject = f"{asked.service}/{asked.environment}"
    request = asked.model_dump(mode="json", exclude_defaults=True)
    async with change(ports, principal, KIND, subject, request) as record:
        prepared = await _prepared_rules(ports, principal, asked, record)
        if asked.dry_run:
            record.outcome = "planned"
            planned = prepared.operation.model_copy(update={"state": OperationState.PLANNED, "phase": "planned"})
            shown = await ports.store.read(lambda v: view(v, planned))
            return shown.model_copy(update={"plan": view_of(prepared.plan)})
        wants = wanted(ports.workspace.last_good_settings(), asked.environment, prepared.needs)
        if wants is not None:
            held = await hold(ports, record, prepared, wants)
            return await ports.store.read(lambda v: view(v, held))
        await ports.store.write(prepared.begin)
        record.continues = True
    ports.activation.activate()
    begun = prepared.operation
    return await ports.store.read(lambda v: view(v, v.operation(begun.id) or begun))


async def prepare_monitoring(
    ports: Ports,
    principal: Principal,
    arguments: Mapping[str, Any],
    record: Record,
    approvals: tuple[Approved, ...] = (),
) -> Prepared:
    """Raises MovedError where the rules are so by now, or the SLOs are gone; else as `configure_monitoring` does."""
    asked = MonitoringChange.model_validate(arguments)
    try:
        return await _prepared_rules(ports, principal, asked, record)
    except PlatformError as exc:
        if exc.code not in (ErrorCode.FAILED_PRECONDITION, ErrorCode.NOT_FOUND):
            raise
        raise MovedError(exc.message) from exc


async def _prepared_rules(ports: Ports, principal: Principal, asked: MonitoringChange, record: Record) -> Prepared:
    before, after, ruling = await _checked(ports, principal, asked)
    settings = ports.workspace.last_good_settings()
    operation = _operation(ports, principal, settings, record, asked.action, before, after, asked.reason)
    return Prepared(
        operation=operation,
        arguments=asked.model_dump(mode="json", exclude_defaults=True),
        plan=_plan(before, after),
        live=_live(ports, asked),
        needs=needs_of(settings, asked.environment, ruling),
        begin=lambda tx: _store(tx, settings, operation),
    )


async def undo_monitoring(ports: Ports, principal: Principal, of: Operation, reason: str) -> str:
    """Puts the rules of before an operation in force, unless they were changed since. Returns the new operation."""
    action = "manage_operation.rollback"
    async with change(ports, principal, action, of.id, {"operation": of.id, "reason": reason}) as record:
        settings = ports.workspace.last_good_settings()
        authorise_undo(ports, principal, settings, of)
        require_tenant(principal, settings, of.of_tenant)
        before, after = changed_monitoring(of)
        now = await ports.store.read(lambda v: v.monitoring(of.service, of.environment))
        if now != after:
            raise PlatformError(
                ErrorCode.CONFLICT,
                f"the rules of {of.service}/{of.environment} are no longer as operation {of.id} left them",
                "manage_operation with action history shows what came after it",
            )
        why = reason or f"takes operation {of.id} back"
        undone = _operation(ports, principal, settings, record, "rollback", after, before, why)
        await ports.store.write(lambda tx: _store(tx, settings, undone, way_back=True))
        record.continues = True
    ports.activation.activate()
    return undone.id


def compiled(slos: Sequence[Slo]) -> Compiled:
    """Of one service in one environment."""
    return Compiled(
        groups=tuple(group for slo in slos for group in rule_groups(slo)),
        tests=tuple(test for slo in slos for test in rule_tests(slo)),
        source=source_of(slos),
    )


def source_of(slos: Sequence[Slo]) -> str:
    """What rules were made of, without making them."""
    return fingerprint({"slos": [slo.model_dump(mode="json") for slo in slos]})


def changed_monitoring(operation: Operation) -> tuple[Monitoring, Monitoring]:
    """Before it, and after it."""
    before, after = (Monitoring.model_validate(operation.request[name]) for name in ("before", "after"))
    return before, after


async def _checked(
    ports: Ports, principal: Principal, asked: MonitoringChange
) -> tuple[Monitoring, Monitoring, Ruling]:
    """The rules before and after it, tested, and what the policy says."""
    settings = ports.workspace.last_good_settings()
    service, environment = asked.service, asked.environment
    ruling = authorise(ports, principal, KIND, settings, service=service, environment=environment, waits=True)
    if service != ITSELF or not of_all_tenants(principal):
        await require_service(ports, principal, settings, service)
        if environment not in settings.environments:
            known = ", ".join(sorted(settings.environments))
            raise PlatformError(
                ErrorCode.NOT_FOUND, f"there is no environment {environment}", f"santiago.yaml has: {known}"
            )
    now = ports.clock.now()
    new = Monitoring(service=service, environment=environment, by=principal.name, at=now)
    before = await ports.store.read(lambda v: v.monitoring(service, environment)) or new
    if asked.action == "apply":
        slos = [slo for slo in ports.workspace.slos(service) if slo.environment == environment]
        if not slos:
            raise PlatformError(
                ErrorCode.NOT_FOUND,
                f"services/{service}/slo.yaml has no SLO for {environment}",
                "write one (OpenSLO v1), then apply it",
            )
        made = compiled(slos)
        await ports.rules.check(made.groups, made.tests)
        new = new.model_copy(update={"groups": made.groups, "source": made.source})
    if not differences(before.groups, new.groups):
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"the rules of {service}/{environment} are so already: nothing comes, goes or changes",
            "manage_operation with action history shows when they were put in force",
        )
    return before, new, ruling


def _plan(before: Monitoring, after: Monitoring) -> Plan:
    return Plan(
        changes=differences(before.groups, after.groups),
        way_back="manage_operation with action rollback puts the rules of before in force",
        exact=exactly(
            {
                "target": [after.service, after.environment],
                "rules": [group.model_dump(mode="json") for group in after.groups],
            }
        ),
    )


def _live(ports: Ports, asked: MonitoringChange) -> Live:
    policy = ports.policy.version()

    def live(view: Snapshot) -> str:
        now = view.monitoring(asked.service, asked.environment)
        groups = [group.model_dump(mode="json") for group in now.groups] if now else []
        return fingerprint({"rules": groups, "policy": policy})

    return live


def _store(tx: Transaction, settings: Settings, operation: Operation, *, way_back: bool = False) -> None:
    if not way_back:
        require_operations(tx, settings, operation.of_tenant)
    if any(o.kind == KIND for o in running_changes(tx, operation.service, operation.environment)):
        raise PlatformError(
            ErrorCode.CONFLICT,
            f"another change of the rules of {operation.service}/{operation.environment} is under way",
            "it is a matter of seconds",
            retry_after=1,
        )
    tx.save_monitoring(changed_monitoring(operation)[1])
    tx.save_operation(operation)


def _operation(
    ports: Ports,
    principal: Principal,
    settings: Settings,
    record: Record,
    action: str,
    before: Monitoring,
    after: Monitoring,
    reason: str,
) -> Operation:
    now = ports.clock.now()
    changes = differences(before.groups, after.groups)
    request: dict[str, Any] = {
        "action": action,
        "owner": after.service,
        "before": before.model_dump(mode="json"),
        "after": after.model_dump(mode="json"),
    }
    return Operation(
        id=record.operation,
        kind=KIND,
        principal=principal,
        service=after.service,
        environment=after.environment,
        tenant=settings.tenant_of(after.service),
        request=request,
        phase="loading",
        reason=reason or f"{action} of {len(changes)} rules of {after.service} in {after.environment}",
        detail=changes,
        created_at=now,
        updated_at=now,
        log_entry=record.seq,
    )
