from __future__ import annotations

from functools import cached_property

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


class Squared(Value):
    side: int
    note: str = ""

    @cached_property
    def area(self) -> int:
        return self.side**2


class Holder(Value):
    either: Squared | Before


def test_what_is_derived_once_is_not_kept_by_a_copy_that_changes_it() -> None:
    small = Squared(side=2)
    assert small.area == 4
    assert small.model_copy(update={"side": 3}).area == 9
    assert small.model_copy(update={"side": 3}, deep=True).area == 9


def test_what_is_derived_is_no_part_of_a_value() -> None:
    looked_at, fresh = Squared(side=2), Squared(side=2)
    assert looked_at.area == 4
    assert looked_at == fresh
    assert hash(looked_at) == hash(fresh)
    assert looked_at.model_dump() == {"side": 2, "note": ""}
    assert looked_at.stored() == fresh.stored()
    assert Holder(either=looked_at).stored() == Holder(either=fresh).stored()
