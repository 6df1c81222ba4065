from __future__ import annotations

from typing import Any

import pytest

from santiago_platform.domain.planner import PlanError, plan
from santiago_platform.domain.proposal import Draft, Task
from santiago_platform.operations.configure_flag import FlagChange
from santiago_platform.operations.plan_checks import DeploymentPlan
from santiago_platform.operations.scale_resources import ScaleRequest

KNOWN = {
    "services": ("api", "hello", "web"),
    "environments": ("development", "staging", "production"),
    "flags": ("new-checkout", "Dark.Mode"),
}
TYPES: dict[Task, Any] = {
    Task.DEPLOYMENT_PLAN: Draft[DeploymentPlan],
    Task.SCALING_PLAN: Draft[ScaleRequest],
    Task.FLAG_CHANGE: Draft[FlagChange],
}


def read(task: Task, words: str, **scope: str) -> dict[str, Any]:
    known = {**KNOWN, **{name: (value,) for name, value in scope.items()}}
    draft = TYPES[task].model_validate(plan(task, words, known))
    return draft.request.model_dump(mode="json", exclude_defaults=True)  # type: ignore[no-any-return]


def asked(task: Task, words: str) -> str:
    with pytest.raises(PlanError) as caught:
        plan(task, words, KNOWN)
    return caught.value.missing


@pytest.mark.parametrize(
    ("words", "deploy"),
    [
        ("deploy hello v1.2 to production as a canary", {"git_ref": "v1.2", "strategy": "canary"}),
        ("Please deploy hello to production from commit 1a2b3c4d.", {"git_ref": "1a2b3c4d"}),
        ("deploy HEAD of hello to production, and hold it", {"git_ref": "HEAD", "hold": True}),
        ("roll out the latest hello to production with 3 replicas", {"git_ref": "HEAD", "replicas": 3}),
        ("promote hello from staging to production", {"from_environment": "staging"}),
        ("ship branch feature/x of hello to production blue-green", {"git_ref": "feature/x", "strategy": "blue_green"}),
        (f"deploy release sha256:{'ab' * 32} of hello to production", {"release": f"sha256:{'ab' * 32}"}),
    ],
)
def test_plain_requests_to_deploy_are_read(words: str, deploy: dict[str, Any]) -> None:
    expected = {"deploy": {"service": "hello", "environment": "production", **deploy}}
    assert read(Task.DEPLOYMENT_PLAN, words) == expected
    assert read(Task.DEPLOYMENT_PLAN, words) == expected


def test_a_rollback_is_read() -> None:
    expected = {"rollback": {"service": "hello", "environment": "production"}}
    assert read(Task.DEPLOYMENT_PLAN, "roll back hello in production") == expected


def test_what_the_caller_named_beside_the_words_need_not_be_said_in_them() -> None:
    said = read(Task.DEPLOYMENT_PLAN, "HEAD as a canary", service="web", environment="staging")
    assert said["deploy"] == {"service": "web", "environment": "staging", "git_ref": "HEAD", "strategy": "canary"}


@pytest.mark.parametrize(
    ("words", "replicas"),
    [
        ("scale web in production to 5", 5),
        ("scale web to 5 in production", 5),
        ("give web in production three replicas", 3),
        ("I want 12 instances of web in production", 12),
    ],
)
def test_plain_requests_to_scale_are_read(words: str, replicas: int) -> None:
    assert read(Task.SCALING_PLAN, words) == {"service": "web", "environment": "production", "replicas": replicas}


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("turn new-checkout off in production", {"action": "kill", "environment": "production"}),
        ("turn new-checkout on", {"action": "set", "percent": 100}),
        ("give new-checkout to 10% in staging", {"action": "set", "percent": 10, "environment": "staging"}),
        ("ramp new-checkout to 50 percent within 2 hours", {"action": "ramp", "percent": 50, "minutes": 120}),
        ("restore new-checkout", {"action": "restore"}),
    ],
)
def test_plain_requests_to_change_a_flag_are_read(words: str, change: dict[str, Any]) -> None:
    assert read(Task.FLAG_CHANGE, words) == {"flag": "new-checkout", **change}


def test_a_flag_keeps_its_own_spelling() -> None:
    assert read(Task.FLAG_CHANGE, "turn dark.mode off")["flag"] == "Dark.Mode"


@pytest.mark.parametrize(
    ("task", "words", "missing"),
    [
        (Task.DEPLOYMENT_PLAN, "deploy helo HEAD to production", "which service: did you mean hello?"),
        (Task.DEPLOYMENT_PLAN, "deploy HEAD to production", "which service? there are api, hello, web"),
        (Task.DEPLOYMENT_PLAN, "deploy web and api HEAD to production", "which service: web or api?"),
        (Task.DEPLOYMENT_PLAN, "deploy hello HEAD", "which environment? there are"),
        (Task.DEPLOYMENT_PLAN, "deploy hello HEAD to staging and to production", "to which environment"),
        (Task.DEPLOYMENT_PLAN, "promote hello from staging", "to which environment?"),
        (Task.DEPLOYMENT_PLAN, "deploy hello to production", "what of hello"),
        (Task.DEPLOYMENT_PLAN, "deploy hello v1.2 or v1.3 to production", "which of v1.2, v1.3?"),
        (Task.DEPLOYMENT_PLAN, "hello HEAD production", "what is to be done?"),
        (Task.DEPLOYMENT_PLAN, "do not deploy hello HEAD to production", "what does 'not' mean here"),
        (Task.SCALING_PLAN, "scale web in production by 2", "in all?"),
        (Task.SCALING_PLAN, "scale web in production to 500", "1 to 100?"),
        (Task.FLAG_CHANGE, "change new-checkout", "on, off, or to how many percent"),
        (Task.POST_MORTEM, "write it", "it makes no post mortem of words"),
    ],
)
def test_what_cannot_be_made_out_is_asked_and_not_guessed(task: Task, words: str, missing: str) -> None:
    assert missing in asked(task, words)
