from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from santiago_platform.domain.environment import ServiceSettings
from santiago_platform.domain.parity import Side, compare
from santiago_platform.domain.workload import Container, Limits, Template


def side(environment: str = "staging", *, settings: dict[str, Any] | None = None, **template: Any) -> Side:
    live = Template(
        service="web",
        environment=environment,
        tenant="default",
        **{"release": "sha256:aa", "command": ("./run",), **template},
    )
    return Side(
        environment=environment,
        settings=ServiceSettings(**{"replicas": 1, "drain_timeout_seconds": 30.0, **(settings or {})}),
        live=live,
        replicas=1,
    )


def test_environments_that_are_alike_differ_in_nothing() -> None:
    assert compare(side(), side("production"), {}) == ()


def test_what_differs_is_named_with_both_values_and_why_it_may() -> None:
    here = side("production", limits=Limits(memory_bytes=64), settings={"drain_timeout_seconds": 5.0})
    found = compare(side(), here.model_copy(update={"replicas": 3, "gates": ("tests",)}), {"replicas": "more load"})
    assert [str(difference) for difference in found] == [
        "drain_timeout_seconds: 30 | 5",
        "gates: none | tests",
        "limits.memory: none | 64",
        "replicas: 1 | 3 (allowed: more load)",
    ]


def test_a_value_of_a_variable_is_never_told() -> None:
    there = side(variables=(("PASSWORD", "hunter2"), ("ONLY", "there"), ("SAME", "1")))
    here = side("production", variables=(("PASSWORD", "correct horse"), ("SAME", "1"), ("NEW", "here")))
    found = [str(difference) for difference in compare(there, here, {"variables.P*": "each has its own"})]
    assert found == [
        "variables.NEW: none | set",
        "variables.ONLY: set | none",
        "variables.PASSWORD: set | another value (allowed: each has its own)",
    ]


def test_variables_of_containers_beside_are_told_by_the_containers_name() -> None:
    beside = Container(name="proxy", command=("./proxy",), variables=(("LEVEL", "debug"),))
    found = compare(side(), side("production", beside=(beside,)), {})
    assert [difference.name for difference in found] == ["containers", "variables.proxy.LEVEL"]


def test_what_is_not_deployed_differs_in_its_release_and_its_settings() -> None:
    here = side("production", settings={"variables": {"MODE": "x"}}).model_copy(update={"live": None, "replicas": None})
    found = compare(side(), here, {})
    assert [str(difference) for difference in found] == [
        "release: sha256:aa | not deployed",
        "variables.MODE: none | set",
    ]


@given(st.dictionaries(st.text("AB", min_size=1), st.text()), st.dictionaries(st.text("AB", min_size=1), st.text()))
def test_the_same_differences_are_seen_from_both_sides(there: dict[str, str], here: dict[str, str]) -> None:
    first, second = side(variables=tuple(there.items())), side("production", variables=tuple(here.items()))
    names = [difference.name for difference in compare(first, second, {})]
    assert names == [difference.name for difference in compare(second, first, {})]
    assert set(names) == {f"variables.{n}" for n in there.keys() | here.keys() if there.get(n) != here.get(n)}
