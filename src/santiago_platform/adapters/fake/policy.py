from __future__ import annotations

from ...domain.environment import EnvironmentKind
from ...domain.identity import Level, Role, Scope
from ...domain.policy import (
    ACTIONS,
    ATTEST_ACTIONS,
    CHANGE_ACTIONS,
    COMMUNICATE_ACTIONS,
    DECIDE_ACTIONS,
    EMERGENCY_ACTIONS,
    OWNER_ACTIONS,
    READ_ACTIONS,
    SECRET_ACTIONS,
    WAY_BACK_ACTIONS,
    Decision,
    Question,
    Verdict,
)

_EVERYWHERE = {Role.OWNER, Role.PLATFORM, Role.DEVELOPER, Role.PIPELINE}


class FakePolicy:
    """Implements ports.policy.Policy: the default rules, said once more in Python. current: their version."""

    current = "1"

    def decide(self, question: Question) -> Decision:
        role = question.principal.role
        if not _permitted(question) or (role is not Role.OWNER and question.target.tenant != question.principal.tenant):
            return Decision(verdict=Verdict.DENY)
        if _held(question):
            return Decision(verdict=Verdict.NEEDS_APPROVAL, rules=("held",), approver=Role.PLATFORM)
        return Decision(verdict=Verdict.ALLOW, rules=("allowed",))

    def version(self) -> str:
        return self.current

    def problems(self) -> list[str]:
        return []


def _permitted(question: Question) -> bool:
    role, action = question.principal.role, question.action
    if action not in ACTIONS:
        return False
    if action in READ_ACTIONS:
        return True
    if action in ATTEST_ACTIONS:
        return role in (Role.QA, Role.PIPELINE)
    if action in OWNER_ACTIONS:
        return role is Role.OWNER
    if role is Role.OBSERVER:
        return False
    if action in COMMUNICATE_ACTIONS:
        return True
    if action in DECIDE_ACTIONS:
        return _may_decide(question)
    if action in EMERGENCY_ACTIONS:
        return role in (Role.OWNER, Role.PLATFORM) and _may_decide(question)
    if action in SECRET_ACTIONS:
        return role in (Role.OWNER, Role.PLATFORM, Role.DEVELOPER)
    if role in _EVERYWHERE or action in WAY_BACK_ACTIONS:
        return True
    if role is Role.PM and action.startswith("configure_flag."):
        return True
    return question.target.kind is not EnvironmentKind.PRODUCTION


def _may_decide(question: Question) -> bool:
    who, delicate = question.principal, question.target.kind is EnvironmentKind.PRODUCTION
    return who.level is not Level.APPRENTICE and not (delicate and who.scope is Scope.POND)


def _held(question: Question) -> bool:
    who, delicate = question.principal, question.target.kind is EnvironmentKind.PRODUCTION
    if question.action not in CHANGE_ACTIONS | SECRET_ACTIONS:
        return False
    if question.destroys and (who.level is Level.APPRENTICE or (who.level is Level.JOURNEYMAN and delicate)):
        return True
    near = who.level is Level.APPRENTICE or who.scope is Scope.POND
    return delicate and near and question.action not in WAY_BACK_ACTIONS
