from __future__ import annotations

from santiago_platform.domain.value import Value


class Before(Value):
    name: str
    replicas: int = 1


class After(Before):
    protocol: str = "http"
    files: tuple[str, ...] = ()


def test_what_a_newer_version_stores_is_read_by_an_older_one_where_it_uses_nothing_new() -> None:
    stored = After(name="web", replicas=2).stored()
    assert Before.model_validate_json(stored) == Before(name="web", replicas=2)


def test_what_is_stored_comes_back_as_it_was() -> None:
    for value in (After(name="web"), After(name="web", protocol="h2c", files=("a",))):
        assert After.model_validate_json(value.stored()) == value
