"""What an operation says of itself, to whom, and how loudly. Pure.

A mail's id follows from the operation and from what is said, so that whoever says it again after a crash says it once.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from .environment import EnvironmentKind
from .identity import PLATFORM, Name, Role
from .mailbox import TEXT_CHARACTERS, Mail, Severity
from .operation import Operation, OperationState

FLAG_CHANGE = "configure_flag"
OF_ALL_USERS = ("deploy_service", "rollback_service")  # what everybody hears of in production
REASON_CHARACTERS = 600
_WORDS = {
    "deploy_service": "the deployment of {service} to {environment}",
    "rollback_service": "the rollback of {service} in {environment}",
    "scale_resources": "the scaling of {service} in {environment}",
    "configure_flag": "the change of flag {flag} in {environment}",
    "manage_operation": "the word {action} to {service} in {environment}",
    "run_job": "the run of job {job} of {service} in {environment}",
    "set_secret": "the new value of a secret of {environment}",
    "remove_secret": "the removal of a secret of {environment}",
}
_ENDED = {
    OperationState.SUCCEEDED: "succeeded",
    OperationState.UNVERIFIED: "ended, but could not be read back",
    OperationState.ROLLED_BACK: "was taken back",
    OperationState.FAILED: "failed",
    OperationState.REJECTED: "was not approved",
    OperationState.VOID: "is void, and nothing of it was done",
}


def announcements(operation: Operation, kind: EnvironmentKind, version: str = "") -> list[Mail]:
    """What is to be said of an operation as it stands: that it has begun, or how it ended. kind: of its environment.
    version: of the service."""
    if operation.state is OperationState.RUNNING:
        return _begun(operation, kind)
    return _ended(operation, kind, version)


def approval_asked(operation: Operation, approvers: Iterable[Role], words: str, at: datetime) -> Mail:
    """Asks those roles to approve. words: what would be done, as a person reads it."""
    text = f"{_subject(operation)} waits for an approval: {words}"
    return _mail(operation, "approval", tuple(approvers), Severity.WARNING, text, at)


def glass_broken(operation: Operation, by: str, reason: str, at: datetime) -> Mail:
    """Tells everybody that somebody has approved its own change."""
    text = f"{by} has broken glass for {_subject(operation)}: {reason}"
    return _mail(operation, "break-glass", (), Severity.CRITICAL, text, at)


def for_the_owner(mail: Mail, home: Name) -> list[Mail]:
    """A copy where the owner looks: its mailbox is in `home`, the workspace's own tenant, whoever's change it is."""
    if mail.tenant == home or (mail.to and Role.OWNER not in mail.to):
        return []
    return [
        mail.model_copy(update={"id": f"{mail.id}-owner", "tenant": home, "mailbox": Role.OWNER, "to": (Role.OWNER,)})
    ]


def _begun(operation: Operation, kind: EnvironmentKind) -> list[Mail]:
    if not _before_all_users(operation, kind):
        return []
    loud = Severity.WARNING if _fixes(operation) or operation.kind == "rollback_service" else Severity.INFO
    fix = f" as the fix of {_fixes(operation)}" if _fixes(operation) else ""
    return [_mail(operation, "begun", (), loud, f"{_subject(operation)} has begun{fix}", operation.created_at)]


def _ended(operation: Operation, kind: EnvironmentKind, version: str) -> list[Mail]:
    words = _ENDED.get(operation.state)
    if words is None:
        return []
    if operation.state is OperationState.SUCCEEDED:
        killed = operation.request.get("action") == "kill"
        if not (_before_all_users(operation, kind) or (killed and _in_production(operation, kind))):
            return []
        to: tuple[Role, ...] = ()
        severity = Severity.WARNING if killed else Severity.INFO
    else:
        concerned = {Role.DEVELOPER, Role.PLATFORM, operation.principal.role}
        to, severity = tuple(role for role in Role if role in concerned), Severity.WARNING
    text = f"{_subject(operation)} {words}"
    if version:
        text += f"; version {version}"
    if operation.proof is not None:
        text += f"; proof {operation.proof.verdict}"
    if operation.reason:
        text += f": {operation.reason[:REASON_CHARACTERS]}"
    return [_mail(operation, "ended", to, severity, text, operation.finished_at or operation.updated_at)]


def _before_all_users(operation: Operation, kind: EnvironmentKind) -> bool:
    return operation.kind in OF_ALL_USERS and _in_production(operation, kind)


def _in_production(operation: Operation, kind: EnvironmentKind) -> bool:
    """A flag's change without an environment is one of all."""
    return kind is EnvironmentKind.PRODUCTION or (operation.kind == FLAG_CHANGE and not operation.environment)


def _fixes(operation: Operation) -> str:
    return str(operation.request.get("fixes") or "")[:100]


def _subject(operation: Operation) -> str:
    what = _WORDS.get(operation.kind, "{kind} of {service} in {environment}").format(
        kind=operation.kind,
        service=operation.service,
        environment=operation.environment or "all environments",
        **{name: operation.request.get(name, "") for name in ("flag", "action", "job")},
    )
    return f"{what} by {operation.principal.name} ({operation.principal.role})"


def _mail(operation: Operation, said: str, to: tuple[Role, ...], severity: Severity, text: str, at: datetime) -> Mail:
    return Mail(
        id=f"ml-{operation.id}-{said}",
        tenant=operation.of_tenant,
        mailbox=to[0] if to else Role.PLATFORM,
        to=to,
        thread=f"ml-{operation.id}",
        sender=PLATFORM.model_copy(update={"tenant": operation.of_tenant}),
        severity=severity,
        text=text[:TEXT_CHARACTERS],
        operation=operation.id,
        at=at,
    )
