"""The loop over rules: what is stored as in force is loaded, proven by read-back, and loaded again where it is not.

Level-triggered: each pass hands over the rules of every owner as they should be; equal ones write nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from ..domain.alert import ALERTS, groups_of
from ..domain.errors import ErrorCode, PlatformError, retryable
from ..domain.identity import PLATFORM
from ..domain.monitoring import Monitoring, claims_of, observed
from ..domain.operation import Operation, OperationState
from ..domain.proof import Proof, Verdict, prove
from ..domain.rules import RuleGroup
from ..domain.slo import PLATFORM as ITSELF
from ..operations.change import complete_operation, note
from ..operations.configure_monitoring import KIND as MONITORING_CHANGE
from ..operations.configure_monitoring import changed_monitoring, compiled
from ..operations.create_alert import KIND as ALERT_CHANGE
from ..operations.create_alert import changed_alert, put_alert
from ..ports import Ports
from ..ports.store import Snapshot, Transaction

log = logging.getLogger(__name__)

IDLE_SECONDS = 2.0
BUSY_SECONDS = 0.05
PROOF_SECONDS = 10.0
DOWN_SECONDS = 60.0  # a change waits for an evaluator that does not answer

KINDS = frozenset({ALERT_CHANGE, MONITORING_CHANGE})

Groups = tuple[RuleGroup, ...]


class MonitoringReconciler:
    """One per daemon."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._told: dict[str, str] = {}

    async def run(self) -> None:
        """Passes until it is cancelled; a failed pass is logged and tried again."""
        while True:
            rest = IDLE_SECONDS
            try:
                rest = await self.pass_over()
            except PlatformError as exc:
                log.warning("rules: %s %s", exc.message, exc.internal)
            except Exception:
                log.exception("the pass over rules failed")
            await self._ports.activation.wait(rest, loop="monitoring")

    async def pass_over(self) -> float:
        """Loads what should be in force, and moves every change as far as it goes. Returns the seconds until the next
        pass."""
        await self._watch_new_services()
        wanted, running = await self._ports.store.read(lambda view: (_wanted(view), _running(view)))
        failed = {owner: exc for owner, groups in wanted.items() if (exc := await self._load(owner, groups))}
        for operation in running:
            owner = operation.request["owner"]
            await self._move(operation, wanted.get(owner, ()), failed.get(owner))
        return BUSY_SECONDS if await self._ports.store.read(_running) else IDLE_SECONDS

    async def _watch_new_services(self) -> None:
        """A service that is live for the first time is watched by its SLOs, without being asked for it. Later changes
        of them are asked for."""
        for service, environment in await self._ports.store.read(_unwatched):
            try:
                slos = [slo for slo in self._ports.workspace.slos(service) if slo.environment == environment]
                made = compiled(slos)
                if not slos or self._told.get(f"{service}/{environment}") == made.source:
                    continue
                self._told[f"{service}/{environment}"] = made.source
                await self._ports.rules.check(made.groups, made.tests)
            except PlatformError as exc:
                self._tell(f"{service}/{environment} slo.yaml", exc)
                continue
            row = Monitoring(
                service=service,
                environment=environment,
                groups=made.groups,
                source=made.source,
                by=PLATFORM.name,
                at=self._ports.clock.now(),
            )
            await self._ports.store.write(lambda tx, row=row: tx.save_monitoring(row))  # type: ignore[misc]
            body = {"slos": [slo.name for slo in slos], "groups": [group.name for group in made.groups]}
            await note(self._ports, PLATFORM, "monitoring.first", f"{service}/{environment}", body)

    def _tell(self, what: str, exc: PlatformError) -> None:
        """Once, and not with each pass."""
        if self._told.get(what) != exc.message:
            self._told[what] = exc.message
            log.warning("the rules of %s are not loaded: %s %s", what, exc.message, exc.internal)

    async def _load(self, owner: str, groups: Groups) -> PlatformError | None:
        try:
            await self._ports.rules.apply(owner, groups)
        except PlatformError as exc:
            self._tell(owner, exc)
            return exc
        self._told.pop(owner, None)
        return None

    async def _move(self, operation: Operation, groups: Groups, failed: PlatformError | None) -> None:
        if failed is not None:
            if not retryable(failed.code) or self._age(operation) > DOWN_SECONDS:
                await self._end(operation, OperationState.FAILED, failed.message, None)
            return
        proof = await self._prove(operation, groups)
        if proof.verdict is Verdict.MATCH:
            await self._end(operation, OperationState.SUCCEEDED, operation.reason, proof)
        elif self._age(operation) > max(PROOF_SECONDS, self._ports.rules.settles_seconds):
            # Of an export the former rules are evaluated until somebody loads the new ones.
            drifted = proof.verdict is Verdict.DRIFT and self._ports.rules.verifiable
            state = OperationState.FAILED if drifted else OperationState.UNVERIFIED
            await self._end(operation, state, proof.summary(), proof)

    async def _prove(self, operation: Operation, groups: Groups) -> Proof:
        """The groups that the change is about, as the evaluator says that it runs them."""
        owner, about = operation.request["owner"], _about(operation)
        claims = claims_of(owner, [group for group in groups if group.name in about], about)
        loaded: Groups | None = None
        try:
            loaded = await self._ports.rules.loaded(owner)
        except PlatformError as exc:
            if exc.code not in (ErrorCode.UNAVAILABLE, ErrorCode.UNSUPPORTED):
                raise
        if not loaded and not self._ports.rules.verifiable:
            loaded = None  # nobody may have taken up what was written yet
        return prove(claims, observed(owner, claims, loaded, "the rules API"), self._ports.clock.now())

    def _age(self, operation: Operation) -> float:
        return (self._ports.clock.now() - operation.created_at).total_seconds()

    async def _end(self, operation: Operation, state: OperationState, reason: str, proof: Proof | None) -> None:
        """What has failed is no longer wanted: what was in force before it is."""
        now = self._ports.clock.now()
        finished = operation.model_copy(
            update={
                "state": state,
                "phase": "done",
                "progress": 1.0,
                "reason": reason,
                "proof": proof,
                "updated_at": now,
                "finished_at": now,
            }
        )

        def store(tx: Transaction) -> None:
            tx.save_operation(finished)
            if state is OperationState.FAILED:
                _restore(tx, operation)

        await self._ports.store.write(store)
        await complete_operation(self._ports, finished)


def _wanted(view: Snapshot) -> Mapping[str, Groups]:
    """By owner. Of SLOs those of services that are live there: what is not deployed fails nobody."""
    wanted: dict[str, Groups] = {ALERTS: groups_of(view.alerts())}
    for row in view.monitorings():
        deployment = view.deployment(row.service, row.environment)
        live = row.service == ITSELF or (deployment is not None and deployment.live is not None)
        wanted[row.service] = wanted.get(row.service, ()) + (row.groups if live else ())
    return wanted


def _unwatched(view: Snapshot) -> list[tuple[str, str]]:
    """Where services are live, and nobody has said yet by which rules they are watched."""
    live = [(d.service, d.environment) for d in view.deployments() if d.live is not None]
    return [place for place in (*live, (ITSELF, ITSELF)) if view.monitoring(*place) is None]


def _restore(tx: Transaction, operation: Operation) -> None:
    if operation.kind == MONITORING_CHANGE:
        tx.save_monitoring(changed_monitoring(operation)[0])
    else:
        before, after = changed_alert(operation)
        put_alert(tx, after, before)


def _running(view: Snapshot) -> list[Operation]:
    """Oldest first."""
    found = view.operations(running=True, limit=1000)
    return [o for o in reversed(found) if o.kind in KINDS and o.state is OperationState.RUNNING]


def _about(operation: Operation) -> list[str]:
    """Names of the groups that it changes."""
    if operation.kind == MONITORING_CHANGE:
        return [group.name for row in changed_monitoring(operation) for group in row.groups]
    return [f"alerts/{operation.service}/{operation.environment}"]
