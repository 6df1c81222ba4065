from __future__ import annotations

from typing import Any

import pytest

from santiago_platform.domain.change_plan import plan_of_rollout
from santiago_platform.domain.deployment import Version
from santiago_platform.domain.secret import SecretRef
from santiago_platform.domain.workload import Container, File, Limits
from santiago_platform.testing.rows import rollout, version

BASE = version("sha256:" + "a" * 64)


def configured(**fields: Any) -> Version:
    return BASE.model_copy(update={"template": BASE.template.model_copy(update=fields)})


def secret(version: int, service: str | None = None) -> dict[str, Any]:
    ref = SecretRef(name="db", version=version, service=service)
    return {"secrets": (ref,), "files": (File(path="/etc/key", content=str(ref)),)}


def beside(**variables: str) -> Container:
    return Container(name="agent", command=("agent",), variables=tuple(variables.items()))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            {"variables": (("A", "1"), ("B", "1"))},
            {"variables": (("B", "2"), ("C", "1"))},
            ["variables added: C", "variables removed: A", "variables changed: B"],
        ),
        (secret(1), secret(2), ["secrets changed: db 1 -> 2", "changed too: files"]),
        (secret(3, "web"), secret(4, "web"), ["secrets changed: web/db 3 -> 4", "changed too: files"]),
        ({}, secret(1), ["secrets added: db", "changed too: files"]),
        (
            {"beside": (beside(TOKEN="<secret db@1>"),), "secrets": secret(1)["secrets"]},
            {"beside": (beside(TOKEN="<secret db@2>"),), "secrets": secret(2)["secrets"]},
            ["variables of agent changed: TOKEN", "secrets changed: db 1 -> 2", "changed too: further containers"],
        ),
        (
            {},
            {"limits": Limits(memory_bytes=2**28), "stop_grace_seconds": 20.0},
            ["changed too: limits, stop grace"],
        ),
    ],
)
def test_a_plan_names_what_differs_in_the_configuration_and_no_value(
    old: dict[str, Any], new: dict[str, Any], said: list[str]
) -> None:
    plan = plan_of_rollout(rollout(old=configured(**old), new=configured(**new)))
    assert list(plan.changes[2 : 2 + len(said)]) == said
    assert plan.changes[2 + len(said)].startswith("by ")
