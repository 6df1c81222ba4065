"""What a role may do. Denial is the answer when in doubt."""

from __future__ import annotations

from .errors import ErrorCode, PlatformError
from .identity import Principal, Role

READ_ACTIONS = frozenset(
    {"read_architecture", "query_metrics", "read_logs", "read_operation", "read_jobs", "read_gates", "read_secrets"}
)
CHANGE_ACTIONS = frozenset(
    {
        "configure_flag",
        "deploy_service",
        "manage_operation",
        "push_release",
        "release_service",
        "run_job",
        "scale_resources",
    }
)
# Not of all that may change something: agents in other roles refer to secrets, and set none.
SECRET_ACTIONS = frozenset({"set_secret", "remove_secret"})
# Not the owner's: who deploys by any right must not be who says that it is good enough.
ATTEST_ACTIONS = frozenset({"add_evidence"})
# The requester's own yes to what needs somebody else's: everybody is told.
EMERGENCY_ACTIONS = frozenset({"break_glass"})
OWNER_ACTIONS = frozenset({"choose_registry", "issue_token", "stop_platform"})

_ALLOWED: dict[Role, frozenset[str]] = {
    Role.OWNER: READ_ACTIONS | CHANGE_ACTIONS | SECRET_ACTIONS | OWNER_ACTIONS | EMERGENCY_ACTIONS,
    Role.PLATFORM: READ_ACTIONS | CHANGE_ACTIONS | SECRET_ACTIONS | EMERGENCY_ACTIONS,
    Role.DEVELOPER: READ_ACTIONS | CHANGE_ACTIONS | SECRET_ACTIONS,
    Role.QA: READ_ACTIONS | CHANGE_ACTIONS | ATTEST_ACTIONS,
    Role.PM: READ_ACTIONS | CHANGE_ACTIONS,
    Role.ARCHITECT: READ_ACTIONS | CHANGE_ACTIONS,
    Role.PIPELINE: READ_ACTIONS | CHANGE_ACTIONS | ATTEST_ACTIONS,
    Role.OBSERVER: READ_ACTIONS,
}


def may(role: Role, action: str) -> bool:
    return action in _ALLOWED.get(role, frozenset())


def authorise(principal: Principal, action: str, *, tenant: str | None = None) -> None:
    """Raises PlatformError(PERMISSION_DENIED) unless `principal` may do `action` on `tenant`'s things."""
    if not may(principal.role, action):
        raise PlatformError(
            ErrorCode.PERMISSION_DENIED,
            f"role {principal.role} may not {action}",
            "ask a principal whose role may, or the owner for a token with another role "
            "(`santiago token issue --role ROLE`)",
        )
    if tenant is not None and tenant != principal.tenant and principal.role is not Role.OWNER:
        raise PlatformError(
            # The same words as for a thing that does not exist: a tenant cannot name another's.
            ErrorCode.NOT_FOUND,
            "no such object in your tenant",
            "read_architecture lists what there is",
        )
