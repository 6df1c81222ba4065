"""A change request: a planned change that waits for somebody's word. Pure.

It is bound to the hash of its plan and to the fingerprint of what was live when it was planned: when either has moved,
it is void, and nobody's yes to the old one counts for the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from .errors import ErrorCode, PlatformError
from .identity import Name, Principal, Role
from .plan import Plan
from .value import Value


class Wants(StrEnum):
    CONFIRMATION = "confirmation"  # of the requester: a plan that was made of words
    APPROVAL = "approval"  # of somebody else


class ApprovalRule(Value):
    """Who lets a change of an environment through. required: every change needs it, whatever the policy says.

    by: roles that may. expires_seconds: how long a request waits.
    """

    required: bool = False
    by: Annotated[tuple[Role, ...], Field(min_length=1)] = (Role.OWNER, Role.PLATFORM)
    expires_seconds: Annotated[float, Field(ge=60, le=30 * 86400)] = 86400.0


class Decision(Value):
    """A person's word. break_glass: the requester's own, in an emergency, with a reason. token: the id of the one by
    which it came, where that was issued here: a yes counts for as long as that is not revoked."""

    approved: bool
    by: Name
    role: Role
    at: datetime
    reason: str = ""
    break_glass: bool = False
    token: str = ""


class Need(Value):
    """Somebody of one of these roles has to say yes. why: what asks for it."""

    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    why: str

    def is_met(self, approvals: Iterable[Decision]) -> bool:
        return any(a.approved and (a.role in self.roles or a.break_glass) for a in approvals)

    def __str__(self) -> str:
        return f"role {' or '.join(self.roles)} ({self.why})"


def unmet(needs: Iterable[Need], approvals: Iterable[Decision]) -> tuple[Need, ...]:
    given = tuple(approvals)
    return tuple(need for need in needs if not need.is_met(given))


class ChangeRequest(Value):
    """id: of its operation. kind: the operation that carries it out. arguments: typed, with what was resolved.

    live: fingerprint of what was live when it was planned. release: a digest, where it is about one. advice: of whoever
    planned it of words. needs: each of them takes a yes of its own. approvals: given so far, by others than the
    requester, or by broken glass. decision: the word that has started it or ended it; None while it waits.
    """

    id: str
    kind: str
    requester: Principal
    arguments: dict[str, Any]
    service: str
    environment: str
    tenant: Name
    plan: Plan
    live: str
    release: str = ""
    wants: Wants
    advice: dict[str, Any] = {}
    needs: tuple[Need, ...] = ()
    approvals: tuple[Decision, ...] = ()
    asked_at: datetime
    expires_at: datetime
    decision: Decision | None = None
    ended: str = ""

    @property
    def is_open(self) -> bool:
        return self.decision is None and not self.ended

    @property
    def missing(self) -> tuple[Need, ...]:
        return unmet(self.needs, self.approvals)

    @property
    def approvers(self) -> tuple[Role, ...]:
        """Roles of which somebody's yes is still missing."""
        return tuple(dict.fromkeys(role for need in self.missing for role in need.roles))

    def require_open(self, now: datetime) -> None:
        """Raises FAILED_PRECONDITION where it was decided, is void or has expired."""
        if self.decision is not None:
            said = "approved" if self.decision.approved else "rejected"
            raise _closed(self, f"was {said} by {self.decision.by}")
        if self.ended:
            raise _closed(self, f"is void: {self.ended}")
        if now >= self.expires_at:
            raise _closed(self, f"has expired at {self.expires_at:%Y-%m-%d %H:%M:%S}Z")

    def require_hash(self, plan_hash: str | None) -> None:
        """Raises CONFLICT where whoever decides has seen another plan. None: they name the operation alone."""
        if plan_hash is not None and plan_hash != self.plan.hash:
            raise PlatformError(
                ErrorCode.CONFLICT,
                f"operation {self.id} has another plan than the one that you have seen",
                "action status shows it with its hash",
            )

    def require_decider(self, who: Principal, *, break_glass: bool) -> None:
        """Raises PERMISSION_DENIED unless `who` may say yes or no to it. A requester never approves its own."""
        own = (who.name, who.tenant) == (self.requester.name, self.requester.tenant)
        if self.wants is Wants.CONFIRMATION:
            if not own:
                raise PlatformError(
                    ErrorCode.PERMISSION_DENIED,
                    f"operation {self.id} waits for {self.requester.name}, who asked for it in words",
                    "whoever asked confirms that the plan is what was meant",
                )
            if break_glass:
                raise PlatformError(
                    ErrorCode.INVALID_ARGUMENT,
                    f"operation {self.id} waits for its confirmation alone: there is no glass to break",
                    "confirm it without break_glass",
                )
            return
        if break_glass:
            return  # who may is for the policy to say
        if own:
            raise PlatformError(
                ErrorCode.PERMISSION_DENIED,
                f"{who.name} asked for operation {self.id} and cannot approve it",
                f"somebody else of role {' or '.join(self.approvers)} can; break_glass is for emergencies",
            )
        if who.role not in self.approvers:
            raise PlatformError(
                ErrorCode.PERMISSION_DENIED,
                f"role {who.role} may not approve operation {self.id}",
                f"role {' or '.join(self.approvers)} may",
            )


def _closed(request: ChangeRequest, how: str) -> PlatformError:
    return PlatformError(
        ErrorCode.FAILED_PRECONDITION, f"operation {request.id} {how}", "ask for the change again, which plans it anew"
    )


class NeedsMoreError(Exception):
    """No failure: somebody else has to say yes, too. needs: all of the change, as they are now."""

    def __init__(self, needs: tuple[Need, ...]) -> None:
        super().__init__("; ".join(map(str, needs)))
        self.needs = needs


class Granted(Value):
    """decision: the word that starts it. approvals: of others, that word included where it is one."""

    decision: Decision
    approvals: tuple[Decision, ...] = ()

    def that_stand(self, stands: Callable[[Decision], bool]) -> Granted:
        return self.model_copy(update={"approvals": tuple(filter(stands, self.approvals))})

    def require(self, needs: tuple[Need, ...]) -> None:
        """Raises NeedsMoreError where they do not suffice for what is needed by now."""
        if unmet(needs, self.approvals):
            raise NeedsMoreError(needs)


class MovedError(PlatformError):
    """The plan, or what was live, is no longer what was approved: the request is void."""

    def __init__(self, what: str) -> None:
        super().__init__(
            ErrorCode.FAILED_PRECONDITION,
            f"{what}, so what was planned is no longer what would be done",
            "ask for the change again, which plans it anew",
        )
