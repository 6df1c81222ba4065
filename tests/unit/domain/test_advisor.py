from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from santiago_platform.domain.advisor import Advisors, Provider
from santiago_platform.domain.proposal import Task

OPENAI: dict[str, Any] = {"type": "openai", "model": "gpt-5.4"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"base_url": "http://gpu.example/v1"}, "by https"),
        ({"base_url": "https://user:word@gpu.example/v1"}, "without a user"),
        ({"base_url": "file:///etc/passwd"}, "https://HOST"),
        ({"key_variable": "A", "key_file": "b"}, "not in both"),
        ({"type": "openai_compatible"}, "needs a base_url"),
        ({"type": "anthropic", "api": "responses"}, "OpenAI's alone"),
        ({"key": "sk-1"}, "Extra inputs"),
    ],
)
def test_a_provider_that_cannot_be_asked_safely_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Provider.model_validate({**OPENAI, **fields})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_on_loopback_plain_http_will_do(host: str) -> None:
    Provider.model_validate({**OPENAI, "type": "openai_compatible", "base_url": f"http://{host}:8000/v1"})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"providers": {"builtin": OPENAI}}, "the planner that ships"),
        ({"providers": {"a": OPENAI}, "order": ["b"]}, "no provider b"),
        ({"providers": {"a": OPENAI}, "tasks": {"summary": {"model": {"b": "m"}}}}, "no provider b"),
    ],
)
def test_settings_name_what_there_is(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Advisors.model_validate(settings)


def test_a_task_may_have_an_order_and_a_model_of_its_own() -> None:
    both = {"a": OPENAI, "b": {**OPENAI, "cheap_model": "mini"}}
    tasks = {"diagnosis": {"order": ["b"], "model": {"a": "x", "b": "y"}}}
    advisors = Advisors.model_validate({"providers": both, "tasks": tasks})
    assert advisors.order_for(Task.SUMMARY) == ("a", "b")
    assert advisors.order_for(Task.DIAGNOSIS) == ("b",)
    assert advisors.model_for("b", Task.DIAGNOSIS, cheap=False) == "y"
    assert advisors.model_for("b", Task.DIAGNOSIS, cheap=True) == "mini"
    assert advisors.model_for("a", Task.DIAGNOSIS, cheap=True) == "x", "it has no cheaper one"
    assert advisors.model_for("a", Task.SUMMARY, cheap=True) == "gpt-5.4"
