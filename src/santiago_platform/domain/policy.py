"""What may be asked of the policy, and what it answers. Denial is the answer when in doubt."""

from __future__ import annotations

from enum import StrEnum

from .environment import EnvironmentKind
from .identity import Principal, Role
from .value import Value

READ_ACTIONS = frozenset(
    {
        "open_session",
        "query_metrics",
        "read_architecture",
        "read_gates",
        "read_incidents",
        "read_jobs",
        "read_logs",
        "read_operation",
        "read_policy",
        "read_secrets",
        "read_budget",
        "read_mailbox",
    }
)
# What takes a change back or stops its harm: like gates, the default policies never hold it up.
WAY_BACK_ACTIONS = frozenset(
    {"configure_flag.kill", "configure_flag.rollback", "manage_operation.abort", "manage_operation.rollback"}
)
CHANGE_ACTIONS = WAY_BACK_ACTIONS | frozenset(
    {
        "configure_flag.delete",
        "configure_flag.ramp",
        "configure_flag.restore",
        "configure_flag.set",
        "configure_monitoring",
        "create_alert",
        "deploy_service",
        "manage_operation.promote",
        "push_release",
        "release_service",
        "run_job",
        "scale_resources",
        "silence_alert",
    }
)
# What is only said to others.
COMMUNICATE_ACTIONS = frozenset({"message_role", "message_team", "manage_incident.acknowledge", "manage_incident.note"})
# Not of all that may change something: agents in other roles refer to secrets, and set none.
SECRET_ACTIONS = frozenset({"set_secret", "remove_secret"})
# Not the owner's: who deploys by any right must not be who says that it is good enough.
ATTEST_ACTIONS = frozenset({"add_evidence"})
# To a change that waits for somebody, and to an incident, which holds changes up while it is open.
DECIDE_ACTIONS = frozenset({"manage_operation.approve", "manage_operation.reject", "manage_incident.resolve"})
# The requester's own yes to what needs somebody else's: everybody is told.
EMERGENCY_ACTIONS = frozenset({"break_glass"})
OWNER_ACTIONS = frozenset({"choose_registry", "issue_token"})

GROUPS = {
    "read": READ_ACTIONS,
    "change": CHANGE_ACTIONS,
    "communicate": COMMUNICATE_ACTIONS,
    "secrets": SECRET_ACTIONS,
    "attest": ATTEST_ACTIONS,
    "decide": DECIDE_ACTIONS | EMERGENCY_ACTIONS,
    "own": OWNER_ACTIONS,
}
ACTIONS = frozenset().union(*GROUPS.values())


def is_granted(principal: Principal, action: str) -> bool:
    """Whether its token is for `action`: by its group, its name, or what stands before the point in that."""
    if principal.granted is None:
        return True
    return any(
        action in GROUPS.get(grant, ()) or grant in (action, action.partition(".")[0]) for grant in principal.granted
    )


class Target(Value):
    """What an action is about. service, environment: empty where it is about none.

    kind: of the environment, or the most delicate one where it is about all; None where it is about none.
    """

    tenant: str
    service: str = ""
    environment: str = ""
    kind: EnvironmentKind | None = None

    def __str__(self) -> str:
        return "/".join(part for part in (self.service, self.environment) if part)


class Question(Value):
    """May `principal`, whose level and scope are known, do `action` on `target`?

    destroys: something is gone afterwards that no rollback brings back.
    """

    principal: Principal
    action: str
    target: Target
    destroys: bool = False


class Verdict(StrEnum):
    ALLOW = "allow"
    NEEDS_APPROVAL = "needs_approval"
    DENY = "deny"


class Decision(Value):
    """rules: ids of those that say so; none where it is denied because no rule allows it.

    approver: whose approval is needed, where one is.
    """

    verdict: Verdict
    rules: tuple[str, ...] = ()
    approver: Role | None = None
