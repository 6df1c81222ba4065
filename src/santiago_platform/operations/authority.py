"""The one place where operations ask the policy, and where what needs an approval is held up."""

from __future__ import annotations

from ..domain.environment import Settings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from ..domain.oauth import PREFIX, SCOPES
from ..domain.policy import READ_ACTIONS, Decision, Question, Target, Verdict, is_granted
from ..domain.session import alone
from ..ports import Ports
from .tenancy import is_own, of_all_tenants

ALL = ""  # in place of an environment: what is asked for concerns every one


def authorise(
    ports: Ports,
    principal: Principal,
    action: str,
    settings: Settings | None = None,
    *,
    service: str | None = None,
    environment: str | None = None,
    destroys: bool = False,
    plans: bool = False,
    waits: bool = False,
) -> Decision:
    """Returns where `principal` may do `action`; with an approval, where it only plans to or can wait for one.

    service, environment: what it is about, None where that is none, or not known yet. destroys: something is gone then
    that no rollback brings back. plans: a dry run. waits: the caller holds the change until it is approved.

    Raises PlatformError: PERMISSION_DENIED, with the rules that say so; NOT_FOUND where the workspace has no such
    tenant.
    """
    if not is_granted(principal, action):
        raise PlatformError(
            ErrorCode.PERMISSION_DENIED,
            f"the token is not for {action}",
            f"ask for the scope {PREFIX}{action.partition('.')[0]}, or that of its group: {', '.join(SCOPES)}",
        )
    settings = settings or ports.workspace.last_good_settings()
    asked = question(principal, action, settings, service=service, environment=environment, destroys=destroys)
    decision = ports.policy.decide(asked)
    if decision.verdict is Verdict.DENY:
        raise _denied(asked, decision)
    if decision.verdict is Verdict.NEEDS_APPROVAL and not (plans or waits):
        raise needs_approval(asked, decision)
    require_tenant(principal, settings, principal.tenant if principal.tenant in settings.tenant_names else "")
    return decision


def is_shown(
    ports: Ports, principal: Principal, action: str, settings: Settings, service: str, environment: str
) -> bool:
    """Whether what was found may be shown. Who asks without names is asked about again with those of what it finds:
    no rule about a service or an environment is evaded by leaving its name out."""
    asked = question(principal, action, settings, service=service or None, environment=environment)
    return ports.policy.decide(asked).verdict is Verdict.ALLOW


def question(
    principal: Principal,
    action: str,
    settings: Settings,
    *,
    service: str | None = None,
    environment: str | None = None,
    destroys: bool = False,
) -> Question:
    """What the policy is asked. Another tenant's service is asked about as none: no rule may tell that it is there."""
    named = service if service is not None and is_own(principal, settings, service) else ""
    tenant = settings.tenant_of(named) if named else principal.tenant
    kind = None
    if environment is not None:
        kind = settings.most_delicate if environment == ALL else settings.kind_of(environment)
    target = Target(tenant=tenant, service=named, environment=environment or "", kind=kind)
    return Question(principal=settings.standing(alone(principal)), action=action, target=target, destroys=destroys)


def require_tenant(principal: Principal, settings: Settings, tenant: str) -> None:
    """Raises NOT_FOUND unless what is `tenant`'s is the principal's to know."""
    if tenant != principal.tenant and not of_all_tenants(principal):
        raise PlatformError(
            # The same words as for a thing that does not exist: a tenant cannot name another's.
            ErrorCode.NOT_FOUND,
            "no such object in your tenant",
            "read_architecture lists what there is",
        )


def needs_approval(asked: Question, decision: Decision) -> PlatformError:
    """What is told of an action that nothing can hold until somebody has approved it."""
    return PlatformError(
        ErrorCode.PERMISSION_DENIED,
        f"{asked.action}{_of(asked)} needs an approval: {_rules(decision)}",
        f"{asked.action} does not wait for one here: ask somebody whom that rule does not hold up to do it; "
        f"`santiago policy test --role ROLE {asked.action}` says who that is",
    )


def _denied(asked: Question, decision: Decision) -> PlatformError:
    because = f": {_rules(decision)}" if decision.rules else ""
    return PlatformError(
        ErrorCode.PERMISSION_DENIED,
        f"role {asked.principal.role} may not {asked.action}{_of(asked) if decision.rules else ''}{because}",
        ("name the environment that you mean, or " if _is_read_of_all(asked) else "")
        + "ask a principal whose role may, or the owner for a token with another role "
        "(`santiago token issue --role ROLE`)",
    )


def _is_read_of_all(asked: Question) -> bool:
    target = asked.target
    return asked.action in READ_ACTIONS and target.kind is not None and not target.environment


def _of(asked: Question) -> str:
    return f" of {asked.target}" if str(asked.target) else ""


def _rules(decision: Decision) -> str:
    return f"rule {', '.join(decision.rules)}"
