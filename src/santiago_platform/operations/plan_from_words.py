"""Words in place of typed arguments: an advisor's proposal, checked like any caller's request, and not executed.

    words -> context -> advisors -> typed request -> scope, guard rails, the operation's own checks -> a plan to read

Whoever asks must be allowed to do by typed arguments what the words are for, before anybody is asked and after.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, Field

from ..domain.context import clean
from ..domain.environment import Settings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.guard_rails import check_exposure
from ..domain.identity import Principal
from ..domain.proposal import Draft, Proposal, Task
from ..ports import Ports
from ..ports.client_model import NeedsInput, calling
from .advise import advise
from .change import change
from .context import Scope, build_ask
from .operation_view import OperationView
from .plan_view import Advice, PlanView

T = TypeVar("T", bound=BaseModel)

Words = Annotated[str, Field(max_length=2000)]


@dataclass(frozen=True)
class Checked:
    """A proposal's request once it has passed all checks. tool, request: the typed call. view: of the operation's own
    dry run, where it has one; what it would change and how it is undone. hold: asks for it, to wait for a confirmation;
    None of what is only shown."""

    tool: str
    request: BaseModel
    changes: tuple[str, ...]
    way_back: str
    view: BaseModel | None = None
    hold: Callable[[Advice], Awaitable[OperationView]] | None = None


@dataclass(frozen=True)
class Plannable(Generic[T]):
    """One kind of request in words. action: what the caller must be allowed to do.

    An operation that is to take words has one beside its typed request, and its tool calls `plan_operation` with it:
    the scope, the guard rails of any request, the record and the budget are the same for all. What the built-in planner
    reads of it is one reader in `domain/planner`; without one it asks for typed arguments.

    admit: raises PlatformError unless the caller may. check: of a proposal: scope, guard rails, and whatever would
    refuse the same typed request.
    """

    task: Task
    action: str
    draft: type[Draft[T]]
    admit: Callable[[Ports, Principal, Settings], None]
    check: Callable[[Ports, Principal, Scope, T], Awaitable[Checked]]


@dataclass(frozen=True)
class Plan:
    """id: of the plan's entry in the ship's log and of its charges."""

    id: str
    proposal: Proposal[Any]
    checked: Checked

    def view(self, ports: Ports) -> PlanView:
        """Bounded, without secrets, and without characters that a reader does not see: an advisor wrote it."""
        draft = self.proposal.draft

        def told(text: str) -> str:
            return clean(ports.advisors.redacted(text))

        def each(texts: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(told(text) for text in texts)

        advice = Advice(
            id=self.id,
            tool=self.checked.tool,
            arguments=self.checked.request.model_dump(mode="json", exclude_defaults=True),
            rationale=told(draft.rationale),
            assumptions=each(draft.assumptions),
            risks=each(draft.risks),
            questions=each(draft.questions),
            confidence=draft.confidence,
            by=told(str(self.proposal.by)),
            tried=tuple(told(line)[:400] for line in self.proposal.tried),
            cost_usd=f"{self.proposal.cost_usd:f}",
        )
        return PlanView(changes=self.checked.changes, way_back=self.checked.way_back, advice=advice)


async def plan_from_words(ports: Ports, principal: Principal, kind: Plannable[T], words: str, scope: Scope) -> Plan:
    """Asks, checks and notes it in the ship's log; executes nothing.

    Raises PlatformError: PERMISSION_DENIED before anybody is asked; FAILED_PRECONDITION where a guard rail refuses;
    what the typed request would raise; INVALID_ARGUMENT where no advisor made anything of the words.
    """
    subject = "/".join(value for value in (scope.service, scope.flag, scope.environment) if value) or "in words"
    said = {"request": words, **_said(scope)}
    client = calling.get()
    resumed = client.operation if client is not None else ""
    async with change(ports, principal, kind.action, subject, said, operation=resumed) as record:
        kind.admit(ports, principal, ports.workspace.settings())
        ask = await build_ask(ports, principal, kind.task, words, scope, kind.draft.model_json_schema())
        checked: list[Checked] = []

        async def check(request: T) -> None:
            check_exposure(ports.workspace.settings().advisors.guard_rails, request.model_dump(mode="json"))
            checked.append(await kind.check(ports, principal, scope, request))

        try:
            proposal = await advise(ports, principal, ask, kind.draft, operation=record.operation, check=check)
        except NeedsInput as needed:
            needed.operation = record.operation
            raise
        plan = Plan(record.operation, proposal, checked[-1])
        record.outcome, record.body = "planned", {"plan": plan.view(ports).model_dump(mode="json")}
    return plan


def _said(scope: Scope) -> dict[str, str]:
    return {name: value for name, value in scope.model_dump().items() if value}


def confined(scope: Scope, **named: str | None) -> None:
    """Raises INVALID_ARGUMENT where a proposal names something else than its caller did."""
    for name, value in named.items():
        wanted = getattr(scope, name)
        if wanted and value != wanted:
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT, f"the request is of {name} {wanted} alone, not of {value or 'all'}", ""
            )
