from __future__ import annotations

from typing import Any

import pytest

from santiago_platform.domain.announcement import announcements, approval_asked, for_the_owner
from santiago_platform.domain.environment import EnvironmentKind, Settings
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.mailbox import TEXT_CHARACTERS, Mail, Severity
from santiago_platform.domain.operation import OperationState
from santiago_platform.testing.rows import START, operation

QUINN = Principal(name="quinn", role=Role.QA)


def said(state: OperationState, **fields: Any) -> list[Mail]:
    told = operation(1, state=state, **fields)
    return announcements(told, Settings().kind_of(told.environment), "1a2b")


def test_a_deployment_to_production_is_told_to_everybody_when_it_begins_and_ends_well() -> None:
    [begun] = said(OperationState.RUNNING)
    [ended] = said(OperationState.SUCCEEDED, reason="all instances are ready")
    assert (begun.to, begun.severity, begun.operation) == ((), Severity.INFO, "op-1")
    assert begun.text == "the deployment of web to production by ann (developer) has begun"
    assert ended.text == (
        "the deployment of web to production by ann (developer) succeeded; version 1a2b: all instances are ready"
    )
    assert begun.thread == ended.thread
    assert begun.id != ended.id


def test_it_is_the_kind_of_an_environment_that_counts_and_not_its_name() -> None:
    live, trial = operation(1, environment="live"), operation(2, environment="production")
    assert [mail.to for mail in announcements(live, EnvironmentKind.PRODUCTION)] == [()]
    assert announcements(trial, EnvironmentKind.STAGING) == []


def test_the_owner_finds_what_is_asked_of_it_in_the_workspaces_own_tenant() -> None:
    asked = approval_asked(operation(1, tenant="other"), [Role.PM, Role.OWNER], "it goes to production", START)
    [copy] = for_the_owner(asked, "home")
    assert (copy.tenant, copy.mailbox, copy.to, copy.text) == ("home", Role.OWNER, (Role.OWNER,), asked.text)
    assert copy.id != asked.id
    assert for_the_owner(asked, "other") == []
    assert for_the_owner(approval_asked(operation(1, tenant="other"), [Role.PM], "so", START), "home") == []


def test_what_goes_well_elsewhere_is_told_to_nobody() -> None:
    for state in (OperationState.RUNNING, OperationState.SUCCEEDED, OperationState.PLANNED):
        assert said(state, environment="staging") == []
        assert said(state, kind="scale_resources") == []
        assert said(state, kind="configure_flag", request={"flag": "new", "action": "set"}) == []


@pytest.mark.parametrize("state", [OperationState.FAILED, OperationState.ROLLED_BACK, OperationState.UNVERIFIED])
def test_what_does_not_go_well_is_told_to_developers_the_platform_and_who_asked(state: OperationState) -> None:
    for fields in ({}, {"environment": "staging"}, {"kind": "scale_resources"}):
        [mail] = said(state, principal=QUINN, **fields)
        assert mail.to == (Role.DEVELOPER, Role.QA, Role.PLATFORM)
        assert mail.severity is Severity.WARNING


def test_a_fix_past_the_gates_a_rollback_and_a_killed_flag_are_loud() -> None:
    [fix] = said(OperationState.RUNNING, request={"fixes": "inc-7"})
    assert (fix.severity, fix.text.endswith("as the fix of inc-7")) == (Severity.WARNING, True)
    [back] = said(OperationState.RUNNING, kind="rollback_service")
    assert back.severity is Severity.WARNING
    flag = {"kind": "configure_flag", "service": "", "environment": "", "request": {"flag": "new", "action": "kill"}}
    [killed] = said(OperationState.SUCCEEDED, **flag)
    assert (killed.to, killed.severity) == ((), Severity.WARNING)
    assert killed.text.startswith("the change of flag new in all environments by ann")


def test_a_mail_is_of_the_tenant_whose_service_it_is_and_bounded() -> None:
    [mail] = said(OperationState.FAILED, tenant="other", reason="x" * 10_000)
    assert (mail.tenant, mail.sender.tenant, mail.sender.role) == ("other", "other", Role.PLATFORM)
    assert len(mail.text) <= TEXT_CHARACTERS


def test_an_approval_is_asked_of_those_who_may_give_it() -> None:
    mail = approval_asked(operation(1), [Role.PM, Role.OWNER], "hello 1.4 goes to production", START)
    assert (mail.to, mail.severity) == ((Role.PM, Role.OWNER), Severity.WARNING)
    assert "waits for an approval: hello 1.4 goes to production" in mail.text
