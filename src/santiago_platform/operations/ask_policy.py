"""Answers: may somebody do something, and which rule says so?"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Level, Name, Principal, Role, Scope
from ..domain.policy import ACTIONS, Verdict
from ..domain.value import Value
from ..ports import Ports
from .authority import ALL, authorise, question
from .tenancy import of_all_tenants

ANYBODY = "anybody"


class PolicyQuery(Value):
    """principal: whose newest valid token is meant; or role, and level and scope where they are not as santiago.yaml
    says. None: the caller itself.

    environment: `*` for all, as of a flag that is the same everywhere. destroys: as an action that leaves nothing to go
    back to, such as configure_flag.delete, is asked.
    """

    action: Annotated[str, Field(max_length=64)]
    principal: Name | None = None
    role: Role | None = None
    level: Level | None = None
    scope: Scope | None = None
    tenant: Name | None = None
    service: Name | None = None
    environment: Annotated[str, Field(max_length=40, pattern=r"^(\*|[a-z][a-z0-9-]*)$")] | None = None
    destroys: bool = False


class PolicyAnswer(Value):
    """rules: that say so; none where it is denied because none allows it. approver: whose approval it takes."""

    verdict: Verdict
    rules: tuple[str, ...]
    approver: Role | None
    principal: Principal
    action: str
    target: str


async def ask_policy(ports: Ports, principal: Principal, query: PolicyQuery) -> PolicyAnswer:
    """Nothing is done. Raises PlatformError: INVALID_ARGUMENT for what is no action, NOT_FOUND for somebody that the
    caller's tenant does not have."""
    settings = ports.workspace.last_good_settings()
    authorise(ports, principal, "read_policy", settings)
    if query.action not in ACTIONS:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            f"there is no action {query.action}",
            f"there are: {', '.join(sorted(ACTIONS))}",
        )
    somebody = await _somebody(ports, principal, query)
    asked = question(
        somebody,
        query.action,
        settings,
        service=query.service,
        environment=ALL if query.environment == "*" else query.environment,
        destroys=query.destroys,
    )
    decision = ports.policy.decide(asked)
    return PolicyAnswer(
        verdict=decision.verdict,
        rules=decision.rules,
        approver=decision.approver,
        principal=asked.principal,
        action=asked.action,
        target=str(asked.target),
    )


async def _somebody(ports: Ports, principal: Principal, query: PolicyQuery) -> Principal:
    tenant = query.tenant or principal.tenant
    if tenant != principal.tenant and not of_all_tenants(principal):
        raise _unknown(f"tenant {tenant}")
    if query.principal is not None:
        now = ports.clock.now()
        tokens = await ports.store.read(lambda view: view.tokens())
        found = [
            token.principal
            for token in tokens
            if (token.principal.name, token.principal.tenant) == (query.principal, tenant)
            and not token.revoked
            and (token.expires_at is None or now < token.expires_at)
        ]
        if not found:
            raise _unknown(f"valid token of {query.principal}")
        who = found[-1]
    elif query.role is not None:
        who = Principal(name=ANYBODY, role=query.role, tenant=tenant)
    else:
        who = principal
    given = {"role": query.role, "level": query.level, "scope": query.scope}
    return who.model_copy(update={name: value for name, value in given.items() if value is not None})


def _unknown(what: str) -> PlatformError:
    return PlatformError(
        ErrorCode.NOT_FOUND, f"there is no {what}", "`santiago token list` has the names; --role asks for a role"
    )
