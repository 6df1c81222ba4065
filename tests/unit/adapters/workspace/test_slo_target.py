from __future__ import annotations

import pytest

from santiago_platform.adapters.workspace.slo_target import tightest_target
from santiago_platform.domain.errors import ErrorCode, PlatformError


def slo(*objectives: str, kind: str = "SLO") -> str:
    return f"apiVersion: openslo/v1\nkind: {kind}\nspec:\n  objectives: [{', '.join(objectives)}]\n"


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (slo("{target: 0.99}", "{target: 0.999}"), 0.999),
        (slo("{targetPercent: 99.9}"), 0.999),
        (slo("{target: 0.9}") + "---\n" + slo("{target: 0.95}"), 0.95),
        (slo("{target: 0.9}", kind="SLI"), None),
        (slo("{target: 1}", "{target: 0}", "{target: true}", "{target: often}", "late"), None),
        ("", None),
        ("kind: SLO\nspec: 7\n", None),
        ("- SLO\n", None),
    ],
)
def test_the_tightest_of_all_objectives_counts_and_what_is_none_is_passed_over(text: str, target: float | None) -> None:
    assert tightest_target(text, "services/web/slo.yaml") == pytest.approx(target) if target else target is None


def test_what_is_no_yaml_is_refused_with_its_line() -> None:
    with pytest.raises(PlatformError, match=r"^services/web/slo\.yaml:2: it is not valid YAML") as refused:
        tightest_target("kind: SLO\nspec: [", "services/web/slo.yaml")
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
