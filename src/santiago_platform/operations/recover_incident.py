"""What the platform does by itself about an incident: each an operation like any other, under its own principal."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from ..domain.errors import PlatformError, retryable
from ..domain.identity import PLATFORM
from ..domain.incident import Attempt, Incident, Recovery
from ..domain.incident_policy import reason_of
from ..domain.operation import Operation, OperationState
from ..ports import Ports
from ..ports.compute import InstanceState
from .authority import authorise
from .change import Record, change
from .configure_flag import FlagChange, configure_flag
from .rollback_service import roll_back
from .scale_resources import ScaleRequest, scale_resources


async def recover(ports: Ports, incident: Incident, attempt: Attempt) -> str:
    """Begins it where it has not begun, and returns its outcome in words; empty while it goes on.

    Called again after a crash, it does nothing twice: its operation has a name before it begins. What the policy or the
    platform refuses is an outcome. Raises PlatformError for what may be tried again, such as UNAVAILABLE.
    """
    begun = await ports.store.read(lambda view: view.operation(attempt.operation))
    if begun is not None:
        return _outcome(begun)
    try:
        match attempt.recovery:
            case Recovery.ROLLBACK:
                return await _roll_back(ports, incident, attempt)
            case Recovery.FLAG_OFF:
                return await _turn_off(ports, incident, attempt)
            case Recovery.RESTART:
                return await _restart(ports, incident, attempt)
            case Recovery.SCALE_OUT:
                return await _scale_out(ports, incident, attempt)
    except PlatformError as exc:
        if retryable(exc.code):
            raise
        return f"refused: {exc.message}"


def _outcome(operation: Operation) -> str:
    if operation.state is OperationState.AWAITING:
        return f"waits for an approval: operation {operation.id}"
    if not operation.state.finished:
        return ""
    done = operation.state in (OperationState.SUCCEEDED, OperationState.UNVERIFIED)
    return f"{'done' if done else 'did not succeed'}: {operation.state}"


async def _roll_back(ports: Ports, incident: Incident, attempt: Attempt) -> str:
    suspect = incident.suspect
    assert suspect is not None  # noqa: S101 - nothing else is rolled back
    where = (incident.service, incident.environment)
    reason = _reason(incident, attempt)
    principal = PLATFORM.model_copy(update={"tenant": incident.tenant})
    async with _change(ports, incident, attempt) as record:
        action = "manage_operation.rollback"
        authorise(ports, principal, action, service=incident.service, environment=incident.environment)
        told = await roll_back(ports, principal, *where, record, reason=reason, of=suspect.operation)
    ports.activation.activate()
    return "" if told == attempt.operation else f"done: operation {told} is taken back"


async def _turn_off(ports: Ports, incident: Incident, attempt: Attempt) -> str:
    principal = PLATFORM.model_copy(update={"tenant": incident.tenant})
    asked = FlagChange(
        action="kill", flag=attempt.subject, environment=incident.environment or None, reason=_reason(incident, attempt)
    )
    return _outcome(await configure_flag(ports, principal, asked, operation_id=attempt.operation, wait_seconds=0))


async def _restart(ports: Ports, incident: Incident, attempt: Attempt) -> str:
    """Ends the instances; the loop over services starts them anew, as it does with any that is missing."""
    where = (incident.service, incident.environment)
    principal = PLATFORM.model_copy(update={"tenant": incident.tenant})
    async with _change(ports, incident, attempt) as record:
        authorise(ports, principal, "scale_resources", service=incident.service, environment=incident.environment)
        named = attempt.subject.split(", ")
        wedged = [s for s in await ports.compute.list(*where) if s.instance.id in named]
        ended = [s.instance.id for s in wedged if s.state is InstanceState.UNREADY]
        for instance_id in ended:
            await ports.compute.stop(instance_id)
        record.outcome, record.body = "restarted", {"instances": ended}
    ports.activation.activate()
    return f"done: {', '.join(ended)} was ended, and starts anew" if ended else "done: it was ready again"


async def _scale_out(ports: Ports, incident: Incident, attempt: Attempt) -> str:
    principal = PLATFORM.model_copy(update={"tenant": incident.tenant})
    asked = ScaleRequest(
        service=incident.service,
        environment=incident.environment,
        replicas=int(attempt.subject),
        reason=_reason(incident, attempt),
    )
    told = await scale_resources(ports, principal, asked, operation_id=attempt.operation)
    found = await ports.store.read(lambda view: view.operation(attempt.operation))
    return _outcome(found) if found is not None else f"done: told to operation {told.id}"


def _change(ports: Ports, incident: Incident, attempt: Attempt) -> AbstractAsyncContextManager[Record]:
    principal = PLATFORM.model_copy(update={"tenant": incident.tenant})
    subject = f"{incident.service}/{incident.environment}"
    body = {"incident": incident.id, "reason": attempt.reason}
    return change(ports, principal, f"incident.{attempt.recovery}", subject, body, operation=attempt.operation)


def _reason(incident: Incident, attempt: Attempt) -> str:
    return reason_of(incident, (attempt.reason,))
