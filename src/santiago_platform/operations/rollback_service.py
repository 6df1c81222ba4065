"""Takes a service back to the version before: one weight change while that one is kept warm."""

from __future__ import annotations

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from ..domain.operation import Operation
from ..domain.phase import Phase
from ..domain.rollout import Rollout
from ..domain.rollout_decision import begin
from ..domain.strategy import Strategy
from ..ports import Ports
from ..ports.store import Transaction
from .change import Record


async def start_rollback(
    ports: Ports,
    principal: Principal,
    service: str,
    environment: str,
    reason: str,
    record: Record,
    *,
    leaving: str | None = None,
) -> Operation:
    """Starts a rollout to the previous version. leaving: the version that must be live for it.

    Raises FAILED_PRECONDITION where there is none, or another one is live.
    """
    now = ports.clock.now()
    rollout_id = ports.clock.new_id("ro")

    def unit(tx: Transaction) -> Operation:
        deployment = tx.deployment(service, environment)
        if deployment is None or deployment.live is None or deployment.previous is None:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"{service}/{environment} has no version to go back to",
                "deploy_service with an older release does the same; manage_operation history lists them",
            )
        if leaving not in (None, deployment.live.name):
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"version {leaving} is not live in {service}/{environment} any more",
                "somebody else has changed it meanwhile",
            )
        if deployment.watch is not None:  # whoever goes back decides it
            tx.save_deployment(deployment.model_copy(update={"watch": None}))
        rollout = Rollout(
            id=rollout_id,
            operation_id=record.operation,
            service=service,
            environment=environment,
            tenant=deployment.tenant,
            strategy=Strategy.BLUE_GREEN if deployment.strategy is Strategy.CANARY else deployment.strategy,
            old=deployment.live,
            new=deployment.previous,
            replicas=deployment.previous.replicas,
            phase=Phase.STARTING,
            ready_timeout_seconds=deployment.ready_timeout_seconds,
            drain_timeout_seconds=deployment.drain_timeout_seconds,
            rollback_window_seconds=deployment.rollback_window_seconds,
            started_at=now,
            phase_since=now,
            reason=reason,
        )
        operation = Operation(
            id=record.operation,
            kind="rollback_service",
            principal=principal,
            service=service,
            environment=environment,
            tenant=deployment.tenant,
            request={"to": deployment.previous.name, "reason": reason},
            phase=Phase.STARTING,
            reason=reason,
            created_at=now,
            updated_at=now,
            log_entry=record.seq,
        )
        tx.add_rollout(begin(rollout, now).model_copy(update={"epoch": 0}))
        tx.save_operation(operation)
        return operation

    operation = await ports.store.write(unit)
    record.continues = True
    return operation
