from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from santiago_platform.domain.deployment import Deployment, Version
from santiago_platform.domain.live_period import LivePeriod, chosen, former, held, of_release, succession
from santiago_platform.domain.workload import Template

START = datetime(2026, 1, 1, tzinfo=UTC)
A, B, C = ("sha256:" + letter * 64 for letter in "abc")


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


def version(release: str, configured: str = "") -> Version:
    template = Template(
        service="web",
        environment="production",
        tenant="default",
        release=release,
        command=("./run",),
        variables=(("SAYS", configured),),
    )
    return Version(template=template, replicas=1)


class History:
    """Rollouts that succeeded one after the other, ten minutes apart."""

    def __init__(self) -> None:
        self.deployment = Deployment(service="web", environment="production", tenant="default")
        self.rows: dict[int, LivePeriod] = {}
        self.minute = 0

    @property
    def periods(self) -> list[LivePeriod]:
        return [self.rows[number] for number in sorted(self.rows)]

    def live(self, new: Version, *, proven: bool = True, rollback: bool = False) -> History:
        after = self.deployment.after(new, at(self.minute), None)
        last = self.periods[-1] if self.rows else None
        told = succession(self.deployment, after, last, at(self.minute), proven=proven, rollback=rollback)
        self.rows |= {period.number: period for period in told}
        self.deployment, self.minute = after, self.minute + 10
        return self

    def told(self, periods: list[LivePeriod]) -> list[tuple[str, datetime, datetime | None, bool]]:
        return [(p.version.name, p.since, p.until, p.taken_back) for p in periods]


def test_a_version_is_live_until_another_takes_over() -> None:
    history = History().live(version(A)).live(version(B))
    assert history.told(history.periods) == [
        (version(A).name, at(0), at(10), False),
        (version(B).name, at(10), None, False),
    ]


def test_the_same_version_again_such_as_scaled_goes_on() -> None:
    scaled = version(A).model_copy(update={"replicas": 5})
    history = History().live(version(A)).live(scaled).live(version(B))
    assert [(p.version.replicas, p.since, p.until) for p in history.periods] == [(5, at(0), at(20)), (1, at(20), None)]


def test_what_a_rollback_left_was_taken_back() -> None:
    history = History().live(version(A)).live(version(B)).live(version(A), rollback=True)
    assert [p.taken_back for p in history.periods] == [False, True, False]


def test_of_what_went_live_before_this_was_kept_only_the_end_is_certain() -> None:
    before = Deployment(service="web", environment="production", tenant="default", live=version(A), updated_at=at(3))
    told = succession(before, before.after(version(B), at(9), None), None, at(9), proven=True, rollback=False)
    assert [(p.since, p.until, p.proven) for p in told] == [(at(3), at(9), False), (at(9), None, True)]


def test_a_release_is_live_without_a_break_while_only_its_configuration_changes() -> None:
    history = History().live(version(A)).live(version(B)).live(version(B, "new")).live(version(C)).live(version(B))
    found = of_release(history.periods, B)
    assert [(p.since, p.until) for p in found] == [(at(10), at(30)), (at(40), None)]
    assert of_release(history.periods, "sha256:" + "d" * 64) == ()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (version(A), True),
        (version(A, "new"), False),  # of the same release, and yet another version
        (version(B), False),  # was taken back
        (version(B, "unproven"), False),
        (version(C), False),  # is live
    ],
)
def test_only_a_version_that_was_proven_and_left_in_peace_has_held(name: Version, expected: bool) -> None:
    history = History().live(version(A)).live(version(B, "unproven"), proven=False).live(version(B))
    history.live(version(C), rollback=True)
    assert (held(history.periods, name.name) is not None) is expected


def test_what_held_once_and_was_taken_back_later_has_not_held() -> None:
    history = History().live(version(A)).live(version(B)).live(version(A)).live(version(B), rollback=True)
    history.live(version(C))
    assert held(history.periods, version(A).name) is None
    assert held(history.periods, version(B).name) is not None


def test_what_can_be_gone_back_to_is_each_version_once_the_one_left_last_first() -> None:
    history = History().live(version(A)).live(version(B)).live(version(A)).live(version(B, "new")).live(version(C))
    assert former(history.deployment, history.periods) == (version(B, "new"), version(A), version(B))
    assert former(history.deployment, []) == (version(B, "new"),), "what was not kept yet has its previous version"


def test_a_version_of_another_tenant_is_not_gone_back_to() -> None:
    history = History().live(version(A)).live(version(B)).live(version(C))
    moved = history.deployment.model_copy(update={"tenant": "other"})
    assert former(moved, history.periods) == ()


@pytest.mark.parametrize("to", [B, B.removeprefix("sha256:"), B[:19]])
def test_a_release_stands_for_its_version_that_was_live_last(to: str) -> None:
    versions = (version(A), version(B, "new"), version(B))
    assert chosen(versions, to) == version(B, "new")
    assert chosen(versions, version(B).name) == version(B)
    assert chosen(versions, to[:10]) is None
    assert chosen(versions, C) is None
