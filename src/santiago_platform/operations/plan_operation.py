"""A request in words, answered by an operation that waits for whoever asked to confirm its plan; a dry run shows it."""

from __future__ import annotations

import json

from pydantic import BaseModel

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from ..domain.operation import OperationState
from ..ports import Ports
from .context import Scope
from .operation_view import OperationView
from .plan_from_words import Plan, Plannable, T, plan_from_words

ALONE_WITH = frozenset({"request", "service", "environment", "flag", "dry_run", "wait", "timeout_seconds"})


async def plan_operation(
    ports: Ports, principal: Principal, kind: Plannable[T], words: str, scope: Scope, *, dry_run: bool
) -> OperationView:
    """Raises as `plan_from_words` does, and as the typed request does."""
    plan = await plan_from_words(ports, principal, kind, words, scope)
    shown = plan.view(ports)
    if plan.checked.hold is not None and shown.advice is not None and not dry_run:
        return await plan.checked.hold(shown.advice)
    update = {"id": plan.id, "plan": shown, "next": next_step(plan)}
    if isinstance(plan.checked.view, OperationView):
        return plan.checked.view.model_copy(update=update)
    request = plan.checked.request
    return OperationView(
        kind=plan.checked.tool,
        state=OperationState.PLANNED,
        phase="planned",
        progress=0.0,
        service=getattr(request, "service", ""),
        environment=getattr(request, "environment", ""),
        by=principal.name,
        started_at=ports.clock.now(),
        **update,
    )


def next_step(plan: Plan) -> str:
    """The typed call that does what was proposed."""
    arguments = plan.checked.request.model_dump(mode="json", exclude_defaults=True)
    return f"nothing was done; {plan.checked.tool} with {json.dumps(arguments)} does it"[:2000]


def only_words(call: BaseModel) -> None:
    """Raises INVALID_ARGUMENT where a request in words comes with typed arguments that say the same."""
    both = sorted(name for name in call.model_dump(exclude_defaults=True) if name not in ALONE_WITH)
    if both:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            f"say it in words or by typed arguments, not by both: request and {', '.join(both)}",
            "service, environment and flag may be named beside request: the plan stays within them",
        )
