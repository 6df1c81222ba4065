"""Asks all gates of an environment about a release: gathers the facts that they need, and lets each one answer.

Nobody asks on the way back: a rollback never waits for a gate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import Field

from ..domain.change_request import Decision
from ..domain.environment import Settings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.gate import Answer, Approval, Facts, Gate, Outcome, Reply, Unknown, may_pass
from ..domain.gates.approval import ApprovalGate
from ..domain.gates.error_budget import ErrorBudgetGate
from ..domain.gates.evidence import EvidenceGate
from ..domain.gates.incident import IncidentGate
from ..domain.gates.promotion import PromotionGate
from ..domain.gates.signature import SignatureGate
from ..domain.gates.webhook import WebhookGate
from ..domain.identity import Name, Principal, Role
from ..domain.live_period import LivePeriod, held, of_release
from ..domain.operation import Operation
from ..domain.release import Release
from ..domain.value import Value
from ..ports import Ports
from ..ports.store import Transaction
from .authority import authorise
from .change import note
from .evidence import inspect
from .release_service import template_of
from .require_fix import require_fix
from .tenancy import require_service

FAST_TRACK = "fast_track"

T = TypeVar("T")


Fixes = Annotated[str, Field(max_length=64)]


class Subject(Value):
    """What is to be deployed where. release: None while it is not built. version: the name of the release's in the
    environment, empty until then. fixes: an incident, or empty. approvals: of exactly this change."""

    service: str
    environment: str
    release: Release | None = None
    version: str = ""
    fixes: str = ""
    approvals: tuple[Decision, ...] = ()


async def check_gates(ports: Ports, settings: Settings, subject: Subject) -> tuple[Answer, ...]:
    """An answer of each gate, in the order of santiago.yaml. Never raises for what a gate asks: it is then unknown.

    A version that was live there before and held is on its way back: its only answer says so. Of a release that is not
    built yet the gates that ask about it are pending.
    """
    environment = settings.environments.get(subject.environment)
    gates = environment.gates if environment else ()
    if not gates:
        return ()
    before = await was_live(ports, subject.service, subject.environment, subject.version)
    if before is not None:
        return (_fast_track(before),)
    pending = {id(gate) for gate in gates if gate.of_release and subject.release is None}
    facts = await _gather(ports, settings, subject, [gate for gate in gates if id(gate) not in pending])
    return tuple(_later(gate) if id(gate) in pending else gate.answer(facts) for gate in gates)


async def was_live(ports: Ports, service: str, environment: str, version: str) -> LivePeriod | None:
    """When the version held there before, if to deploy it again is a way back and not a new deploy: the release alone
    does not tell, since its configuration may have changed."""
    return held(await ports.store.read(lambda view: view.live_periods(service, environment)), version)


class GatesQuery(Value):
    """release: a digest, or 12 or more of its hex digits; None means the newest of the service."""

    service: Name
    environment: Name
    release: Annotated[str, Field(max_length=200)] | None = None
    fixes: Fixes | None = None


class GatesView(Value):
    """release: what was asked about. passes: whether a deploy of it would be let through now."""

    service: str
    environment: str
    release: str
    passes: bool
    answers: tuple[Answer, ...]


async def read_gates(ports: Ports, principal: Principal, query: GatesQuery) -> GatesView:
    """What the gates say now. Raises PlatformError: NOT_FOUND (service, environment, release, the incident that it
    fixes), PERMISSION_DENIED."""
    settings = ports.workspace.settings()
    authorise(ports, principal, "read_gates", settings, service=query.service, environment=query.environment)
    await require_service(ports, principal, settings, query.service)
    if query.environment not in settings.environments:
        known = ", ".join(sorted(settings.environments))
        raise PlatformError(
            ErrorCode.NOT_FOUND, f"there is no environment {query.environment}", f"santiago.yaml has: {known}"
        )
    await require_fix(ports, principal, settings, query.service, query.environment, query.fixes)
    releases = await ports.artifacts.list(query.service)
    if query.release is not None:
        digits = query.release.removeprefix("sha256:")
        releases = [r for r in releases if len(digits) >= 12 and r.digest.removeprefix("sha256:").startswith(digits)]
    if not releases:
        raise PlatformError(
            ErrorCode.NOT_FOUND,
            f"{query.service} has no release" + (f" {query.release[:80]}" if query.release else " yet"),
            f"`santiago release {query.service}` builds one",
        )
    release = releases[0]
    subject = Subject(
        service=query.service,
        environment=query.environment,
        release=release,
        version=template_of(ports, release, query.environment).version,
        fixes=query.fixes or "",
    )
    answers = await check_gates(ports, settings, subject)
    return GatesView(
        service=query.service,
        environment=query.environment,
        release=release.digest,
        passes=may_pass(answers),
        answers=answers,
    )


async def require_gates(
    ports: Ports,
    settings: Settings,
    operation: Operation,
    release: Release | None,
    *,
    version: str = "",
    may_wait: bool = False,
    approvals: tuple[Decision, ...] = (),
) -> Operation:
    """The operation with the answers; exceptions are noted in the ship's log.

    release: None asks only what can be asked before it is built. version: its name in that environment. may_wait: that
    an approval is missing is no refusal. approvals: of exactly this change. Raises FAILED_PRECONDITION with
    each gate that does not pass, and what to do about it.
    """
    subject = Subject(
        service=operation.service,
        environment=operation.environment,
        release=release,
        version=version,
        fixes=operation.request.get("fixes", ""),
        approvals=approvals,
    )
    answers = await check_gates(ports, settings, subject)
    held = [a for a in answers if not (a.passes or a.pending or (may_wait and a.awaits is not None))]
    if held:
        raise _refusal(subject, held)
    for answer in answers:
        if answer.exception and release is not None:
            said = {"operation": operation.id, "release": release.digest, **answer.model_dump(mode="json")}
            where = f"{operation.service}/{operation.environment}"
            await note(ports, operation.principal, "gate.exception", where, said)
    return operation.model_copy(update={"gates": answers})


async def require_gates_of_build(ports: Ports, operation_id: str, release: Release, version: str) -> None:
    """Asks once the release of an operation is built, and stores the answers with it. Raises as `require_gates`."""
    operation = await ports.store.read(lambda view: view.operation(operation_id))
    if operation is None:
        return
    try:
        asked = await require_gates(ports, ports.workspace.settings(), operation, release, version=version)
    except PlatformError as exc:
        raise PlatformError(exc.code, f"{exc.message}. What to do: {exc.hint}", internal=exc.internal) from exc

    def store(tx: Transaction) -> None:
        current = tx.operation(operation_id)
        if current is not None:
            tx.save_operation(current.model_copy(update={"gates": asked.gates}))

    await ports.store.write(store)


async def require_gates_still(ports: Ports, operation_id: str) -> None:
    """Asks again, before traffic moves, what may have changed since: incidents, the budget, freezes.

    Raises FAILED_PRECONDITION where one does not pass now. An operation that goes back is not asked.
    """
    operation = await ports.store.read(lambda view: view.operation(operation_id))
    if operation is None or operation.kind != "deploy_service" or any(a.gate == FAST_TRACK for a in operation.gates):
        return
    await require_gates(ports, ports.workspace.last_good_settings(), operation, None)


def _refusal(subject: Subject, held: Sequence[Answer]) -> PlatformError:
    many = "1 gate does" if len(held) == 1 else f"{len(held)} gates do"
    return PlatformError(
        ErrorCode.FAILED_PRECONDITION,
        f"{subject.service}/{subject.environment}: {many} not pass: " + "; ".join(map(str, held)),
        "; ".join(f"{answer.gate}: {answer.hint}" for answer in held if answer.hint),
    )


def _fast_track(before: LivePeriod) -> Answer:
    said = f"it was live here from {before.since:%Y-%m-%d %H:%M:%S}Z to {before.until:%Y-%m-%d %H:%M:%S}Z"
    reason = f"{said}: the way back waits for no gate"
    return Answer(gate=FAST_TRACK, outcome=Outcome.PASS, reason=reason)


def _later(gate: Gate) -> Answer:
    reason = "it is asked once the release is built"
    return Answer(gate=gate.label, outcome=Outcome.UNKNOWN, reason=reason, required=gate.required, pending=True)


async def _gather(ports: Ports, settings: Settings, subject: Subject, gates: Sequence[Gate]) -> Facts:
    """Only what these gates need: what nobody asks for costs nothing."""
    service, environment, release = subject.service, subject.environment, subject.release
    before = settings.before(environment)
    promotions = [gate for gate in gates if isinstance(gate, PromotionGate)]
    sources = {source for gate in promotions if (source := gate.source(before))}
    budgeted = {source for gate in promotions if gate.slo and (source := gate.source(before))}
    if any(isinstance(gate, ErrorBudgetGate) for gate in gates):
        budgeted.add(environment)
    hooks = {gate.url: gate for gate in gates if isinstance(gate, WebhookGate)}
    roles = {gate.role for gate in gates if isinstance(gate, ApprovalGate)}
    deployment = await ports.store.read(lambda view: view.deployment(service, environment))
    facts: dict[str, Any] = {
        "budgets": {name: await _known(ports.error_budget.state(service, name)) for name in budgeted},
    }
    if any(isinstance(gate, IncidentGate) for gate in gates):
        found = await _known(ports.incidents.open(service, environment))
        facts["incidents"] = found if isinstance(found, Unknown) else tuple(found)
    if release is not None:
        if any(isinstance(gate, SignatureGate) for gate in gates):
            facts["damage"] = await _damage(ports, release)
        if any(isinstance(gate, EvidenceGate) for gate in gates):
            facts["evidence"] = await inspect(ports, release.digest)
        facts["periods"] = await ports.store.read(
            lambda view: {name: of_release(view.live_periods(service, name), release.digest) for name in sources}
        )
        facts["approvals"] = {role: await _approval(ports, subject, release, role) for role in roles}
        replies = await asyncio.gather(*(_known(_ask(ports, subject, release, hook)) for hook in hooks.values()))
        facts["replies"] = dict(zip(hooks, replies, strict=True))
    return Facts(
        now=ports.clock.now(),
        service=service,
        environment=environment,
        release=release,
        first=deployment is None or deployment.live is None,
        fixes=subject.fixes,
        before=before,
        **facts,
    )


async def _approval(ports: Ports, subject: Subject, release: Release, role: Role) -> Approval | Unknown | None:
    for by in subject.approvals:
        if by.approved and (by.role is role or by.break_glass):
            return Approval(by=by.by, at=by.at, reason=by.reason)
    return await _known(ports.approvals.of(release.digest, subject.environment, role))


async def _known(asked: Awaitable[T]) -> T | Unknown:
    """The fact, or why it could not be had."""
    try:
        return await asked
    except PlatformError as exc:
        return Unknown(reason=exc.message)


async def _damage(ports: Ports, release: Release) -> str | Unknown:
    try:
        await ports.artifacts.verify(release.digest)
    except PlatformError as exc:
        certain = exc.code in (ErrorCode.DATA_CORRUPT, ErrorCode.NOT_FOUND)
        return exc.message if certain else Unknown(reason=exc.message)
    return ""


async def _ask(ports: Ports, subject: Subject, release: Release, hook: WebhookGate) -> Reply:
    body = {
        "service": subject.service,
        "environment": subject.environment,
        "release": release.digest,
        "commit": release.commit,
        "fixes": subject.fixes,
    }
    return await ports.webhook.ask(hook.url, body, timeout_seconds=hook.timeout_seconds, token_file=hook.token_file)
