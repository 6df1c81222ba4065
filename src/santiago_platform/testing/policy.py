"""What everything that decides who may do what keeps to."""

from __future__ import annotations

from itertools import product

from ..domain.environment import EnvironmentKind
from ..domain.identity import Level, Principal, Role, Scope
from ..domain.policy import (
    ACTIONS,
    ATTEST_ACTIONS,
    CHANGE_ACTIONS,
    DECIDE_ACTIONS,
    EMERGENCY_ACTIONS,
    READ_ACTIONS,
    SECRET_ACTIONS,
    WAY_BACK_ACTIONS,
    Question,
    Target,
    Verdict,
)
from ..ports.policy import Policy

PRODUCTION = Target(tenant="default", service="web", environment="production", kind=EnvironmentKind.PRODUCTION)
STAGING = Target(tenant="default", service="web", environment="staging", kind=EnvironmentKind.STAGING)
WORKSPACE = Target(tenant="default")


def who(role: Role, level: Level = Level.JOURNEYMAN, scope: Scope = Scope.LAKE, tenant: str = "default") -> Principal:
    return Principal(name="ann", role=role, level=level, scope=scope, tenant=tenant)


def every_question() -> list[Question]:
    """About every action, of everybody, in every kind of place."""
    places = [PRODUCTION, STAGING, WORKSPACE, STAGING.model_copy(update={"kind": EnvironmentKind.DEVELOPMENT})]
    people = [who(*standing) for standing in product(Role, Level, Scope)]
    return [
        Question(principal=principal, action=action, target=place, destroys=destroys)
        for principal, action, place, destroys in product(people, sorted(ACTIONS), places, (False, True))
    ]


class PolicyContract:
    """Subclasses give the fixture `policy`, with the default rules alone."""

    def verdict(self, policy: Policy, principal: Principal, action: str, target: Target, **more: bool) -> Verdict:
        question = Question(principal=principal, action=action, target=target, **more)
        return policy.decide(question).verdict

    def test_what_is_no_action_is_denied(self, policy: Policy) -> None:
        for action in ("", "deploy", "read", "change", '"; permit (principal, action, resource);'):
            assert self.verdict(policy, who(Role.OWNER, Level.MASTER), action, STAGING) is Verdict.DENY

    def test_a_principal_without_a_level_is_denied(self, policy: Policy) -> None:
        blank = Principal(name="ann", role=Role.OBSERVER)
        for action in CHANGE_ACTIONS:
            assert self.verdict(policy, blank, action, STAGING) is Verdict.DENY

    def test_everybody_reads_and_an_observer_does_nothing_else(self, policy: Policy) -> None:
        for action in ACTIONS:
            allowed = self.verdict(policy, who(Role.OBSERVER, Level.MASTER), action, STAGING) is Verdict.ALLOW
            assert allowed == (action in READ_ACTIONS)

    def test_the_owner_does_everything_but_attest(self, policy: Policy) -> None:
        for action in ACTIONS:
            allowed = self.verdict(policy, who(Role.OWNER, Level.MASTER, Scope.OCEAN), action, PRODUCTION)
            assert (allowed is Verdict.ALLOW) == (action not in ATTEST_ACTIONS)

    def test_nobody_but_the_owner_does_anything_with_another_tenants_things(self, policy: Policy) -> None:
        for role, action in product(Role, ACTIONS):
            stranger = who(role, Level.MASTER, Scope.OCEAN, tenant="elsewhere")
            if role is not Role.OWNER:
                assert self.verdict(policy, stranger, action, STAGING) is Verdict.DENY

    def test_an_apprentice_changes_staging_alone_and_production_with_approval(self, policy: Policy) -> None:
        apprentice = who(Role.DEVELOPER, Level.APPRENTICE)
        for action in CHANGE_ACTIONS - WAY_BACK_ACTIONS:
            assert self.verdict(policy, apprentice, action, STAGING) is Verdict.ALLOW
            decision = policy.decide(Question(principal=apprentice, action=action, target=PRODUCTION))
            assert decision.verdict is Verdict.NEEDS_APPROVAL
            assert decision.rules
            assert decision.approver is Role.PLATFORM

    def test_an_apprentice_destroys_nothing_alone(self, policy: Policy) -> None:
        apprentice = who(Role.DEVELOPER, Level.APPRENTICE)
        for place in (STAGING, PRODUCTION):
            assert self.verdict(policy, apprentice, "configure_flag.delete", place, destroys=True) is (
                Verdict.NEEDS_APPROVAL
            )

    def test_the_way_back_waits_for_nobody(self, policy: Policy) -> None:
        for action, level in product(WAY_BACK_ACTIONS, Level):
            assert self.verdict(policy, who(Role.QA, level, Scope.POND), action, PRODUCTION) is Verdict.ALLOW

    def test_secrets_are_kept_by_those_who_develop_and_run_services_alone(self, policy: Policy) -> None:
        for role, action in product(Role, SECRET_ACTIONS):
            allowed = self.verdict(policy, who(role, Level.MASTER), action, PRODUCTION) is Verdict.ALLOW
            assert allowed == (role in (Role.OWNER, Role.PLATFORM, Role.DEVELOPER))

    def test_an_apprentice_decides_nothing_and_breaks_no_glass(self, policy: Policy) -> None:
        apprentice = who(Role.PLATFORM, Level.APPRENTICE)
        for action, place in product(DECIDE_ACTIONS, (STAGING, PRODUCTION)):
            assert self.verdict(policy, apprentice, action, place) is Verdict.DENY
            assert self.verdict(policy, who(Role.PLATFORM), action, place) is Verdict.ALLOW
        for role, action in product(Role, EMERGENCY_ACTIONS):
            assert self.verdict(policy, who(role, Level.APPRENTICE), action, STAGING) is Verdict.DENY
            allowed = self.verdict(policy, who(role), action, PRODUCTION) is Verdict.ALLOW
            assert allowed == (role in (Role.OWNER, Role.PLATFORM))

    def test_whose_knowledge_is_of_the_pond_decides_nothing_of_production_and_breaks_no_glass_there(
        self, policy: Policy
    ) -> None:
        near = who(Role.PLATFORM, Level.MASTER, Scope.POND)
        for action in DECIDE_ACTIONS | EMERGENCY_ACTIONS:
            assert self.verdict(policy, near, action, STAGING) is Verdict.ALLOW
            assert self.verdict(policy, near, action, PRODUCTION) is Verdict.DENY

    def test_an_approval_gives_nothing_that_the_role_does_not(self, policy: Policy) -> None:
        assert self.verdict(policy, who(Role.QA, Level.APPRENTICE), "deploy_service", PRODUCTION) is Verdict.DENY

    def test_a_level_takes_away_and_never_gives(self, policy: Policy) -> None:
        order = [Verdict.DENY, Verdict.NEEDS_APPROVAL, Verdict.ALLOW]
        for question in every_question()[::7]:
            master = question.principal.model_copy(update={"level": Level.MASTER, "scope": Scope.OCEAN})
            most = policy.decide(question.model_copy(update={"principal": master})).verdict
            assert order.index(policy.decide(question).verdict) <= order.index(most)

    def test_what_is_allowed_or_held_has_a_rule_that_says_so(self, policy: Policy) -> None:
        for question in every_question()[::11]:
            decision = policy.decide(question)
            assert decision.rules or decision.verdict is Verdict.DENY
            assert (decision.approver is not None) == (decision.verdict is Verdict.NEEDS_APPROVAL)
