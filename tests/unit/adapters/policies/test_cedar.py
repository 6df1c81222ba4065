from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from santiago_platform.adapters.policies.cedar import BROKEN, CedarPolicy, read_policies
from santiago_platform.adapters.policies.policy_set import compile_policies
from santiago_platform.domain.environment import EnvironmentKind
from santiago_platform.domain.errors import PlatformError
from santiago_platform.domain.identity import Level, Principal, Role, Scope
from santiago_platform.domain.policy import ACTIONS, Decision, Question, Target, Verdict

NO_DEPLOY = '@id("no-deploy")\nforbid (principal, action == Action::"deploy_service", resource);\n'
OSCAR_SCALES = """@id("oscar-scales")
permit (principal == Principal::"default/oscar", action == Action::"scale_resources", resource)
when { resource.service == "web" };"""
PAPERS = '@id("papers")\nforbid (principal, action == Action::"deploy_service", resource)\nunless { context.approved };'


def asked(action: str = "deploy_service", role: Role = Role.DEVELOPER, service: str = "web") -> Question:
    who = Principal(name="ann", role=role, level=Level.MASTER, scope=Scope.OCEAN)
    target = Target(tenant="default", service=service, environment="production", kind=EnvironmentKind.PRODUCTION)
    return Question(principal=who, action=action, target=target)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policies").mkdir()
    return tmp_path / "policies"


def test_the_schema_has_the_actions_that_operations_ask_about_and_no_others() -> None:
    policies = compile_policies([])
    known = {action for action in ACTIONS if policies.decide(asked(action, Role.OWNER)).rules}
    assert known == ACTIONS - {"add_evidence"}, "the owner attests nothing"


def test_a_workspace_adds_what_it_forbids_and_what_it_permits(folder: Path) -> None:
    (folder / "a.cedar").write_text(NO_DEPLOY)
    (folder / "b.cedar").write_text(OSCAR_SCALES)
    policy = CedarPolicy(folder.parent)
    assert policy.decide(asked()) == Decision(verdict=Verdict.DENY, rules=("no-deploy",))
    oscar = Principal(name="oscar", role=Role.OBSERVER, level=Level.MASTER, scope=Scope.OCEAN)
    by_oscar = [asked("scale_resources", service=s).model_copy(update={"principal": oscar}) for s in ("web", "till")]
    assert [policy.decide(q).verdict for q in by_oscar] == [Verdict.ALLOW, Verdict.DENY]


def test_an_approval_is_of_the_role_that_the_rule_names_else_of_the_owner(folder: Path) -> None:
    (folder / "a.cedar").write_text(PAPERS)
    assert CedarPolicy(folder.parent).decide(asked()).approver is Role.OWNER
    (folder / "a.cedar").write_text(PAPERS.replace("\n", '\n@approver("pm")\n', 1))
    decision = CedarPolicy(folder.parent).decide(asked())
    assert (decision.verdict, decision.rules, decision.approver) == (Verdict.NEEDS_APPROVAL, ("papers",), Role.PM)


def test_a_changed_file_counts_from_the_next_question_on(folder: Path) -> None:
    policy = CedarPolicy(folder.parent)
    assert policy.decide(asked()).verdict is Verdict.ALLOW
    (folder / "a.cedar").write_text(NO_DEPLOY)
    assert policy.decide(asked()).verdict is Verdict.DENY
    (folder / "a.cedar").unlink()
    assert policy.decide(asked()).verdict is Verdict.ALLOW


def test_the_last_valid_policies_go_on_while_a_file_is_broken(folder: Path) -> None:
    (folder / "a.cedar").write_text(NO_DEPLOY)
    policy = CedarPolicy(folder.parent)
    assert policy.decide(asked()).verdict is Verdict.DENY
    (folder / "a.cedar").write_text("forbid (")
    assert policy.decide(asked()).verdict is Verdict.DENY
    assert policy.decide(asked("scale_resources")).verdict is Verdict.ALLOW
    assert policy.problems()[0].startswith("policies/a.cedar:1: it is not a policy")
    (folder / "a.cedar").write_text(NO_DEPLOY)
    assert policy.problems() == []


def test_a_start_with_broken_policies_lets_only_the_owner_look(folder: Path) -> None:
    (folder / "a.cedar").write_text("forbid (")
    policy = CedarPolicy(folder.parent)
    assert policy.decide(asked("read_logs", Role.OWNER)).verdict is Verdict.ALLOW
    assert policy.decide(asked("issue_token", Role.OWNER)).verdict is Verdict.ALLOW
    for question in (asked("deploy_service", Role.OWNER), asked("read_logs"), asked("add_evidence", Role.QA)):
        assert policy.decide(question) == Decision(verdict=Verdict.DENY, rules=(BROKEN,))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('\n// a; "comment"\n\nforbid (principal, action, resource)', 4, "not a policy"),
        (NO_DEPLOY + "permit (principal, action, resource);", 3, "no @id"),
        (NO_DEPLOY + "\n\n" + NO_DEPLOY, 5, "there is a policy no-deploy already"),
        ('@id("owner-owns")\nforbid (principal, action, resource);', 1, "there is a policy owner-owns already"),
        ('@id("a")\nforbid (principal in Role::"devloper", action, resource);', 1, "devloper"),
        ('@id("a")\nforbid (principal, action == Action::"deploy", resource);', 1, "unrecognized action"),
        ('@id("a")\nforbid (principal, action, resource) when { resource.kin == Kind::"production" };', 1, "kin"),
        ('@id("a") @approver("boss")\nforbid (principal, action, resource);', 1, "boss"),
        ('@id("a;\\"b")\nforbid (principal == ?principal, action, resource);', 1, "template"),
    ],
)
def test_an_error_says_in_which_file_and_line(folder: Path, text: str, line: int, words: str) -> None:
    (folder / "own.cedar").write_text(text)
    with pytest.raises(PlatformError) as raised:
        read_policies(folder.parent)
    assert raised.value.message.startswith(f"policies/own.cedar:{line}: ")
    assert words in raised.value.message


def test_what_cannot_be_read_is_an_error_and_not_a_rule_less(folder: Path) -> None:
    (folder / "gone.cedar").symlink_to(folder / "nothing")
    with pytest.raises(PlatformError, match="leads to no file"):
        read_policies(folder.parent)
    (folder / "gone.cedar").unlink()
    os.symlink("/etc/passwd", folder / "out.cedar")
    with pytest.raises(PlatformError, match="link out of the workspace"):
        read_policies(folder.parent)


def test_the_policies_of_the_guide_do_what_they_say(folder: Path) -> None:
    guide = Path(__file__).parents[4] / "docs" / "guides" / "governance.md"
    [example] = re.findall(r"```cedar\n(.*?)```", guide.read_text(), re.DOTALL)
    (folder / "guide.cedar").write_text(example)
    policy = CedarPolicy(folder.parent)
    promote = {role: policy.decide(asked("manage_operation.promote", role)).verdict for role in Role}
    assert promote.pop(Role.PM) is Verdict.ALLOW
    assert set(promote.values()) == {Verdict.DENY}
    till = policy.decide(asked(service="till"))
    assert (till.verdict, till.approver) == (Verdict.NEEDS_APPROVAL, Role.PM)
    assert [policy.decide(asked(role=role, service="vault")).verdict for role in (Role.PLATFORM, Role.OWNER)] == [
        Verdict.ALLOW,
        Verdict.DENY,
    ]


def test_a_rule_that_fails_while_it_is_asked_does_not_let_pass(folder: Path) -> None:
    (folder / "a.cedar").write_text(
        '@id("overflow")\nforbid (principal, action, resource)\n'
        "when { 9223372036854775807 + (if context.destroys then 2 else 1) > 0 };"
    )
    assert CedarPolicy(folder.parent).decide(asked()).verdict is Verdict.DENY
