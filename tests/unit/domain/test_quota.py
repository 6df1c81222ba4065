from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from santiago_platform.domain.deployment import Deployment, Version
from santiago_platform.domain.environment import Quotas
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.phase import Phase
from santiago_platform.domain.quota import Usage, check_disk, check_quota, usage
from santiago_platform.domain.rollout import Rollout
from santiago_platform.domain.strategy import Strategy
from santiago_platform.domain.workload import Limits, Template

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MIB = 1 << 20


def version(name: str, replicas: int, mib: int | None = 10) -> Version:
    limits = Limits(memory_bytes=mib * MIB if mib is not None else None)
    return Version(
        template=Template(
            service="web", environment="production", tenant="shop", release=name, command=("run",), limits=limits
        ),
        replicas=replicas,
    )


def deployment(**fields: Any) -> Deployment:
    return Deployment(service="web", environment="production", tenant="shop", **fields)


def rollout(strategy: Strategy, old: Version | None, new: Version | None, **fields: Any) -> Rollout:
    known: dict[str, Any] = {
        "id": "ro-1",
        "operation_id": "op-1",
        "service": "web",
        "environment": "production",
        "tenant": "shop",
        "phase": Phase.STARTING,
        "started_at": NOW,
        "phase_since": NOW,
    }
    return Rollout(**{**known, "strategy": strategy, "old": old, "new": new, **fields})


def test_what_is_live_counts_and_what_is_kept_warm_while_it_is() -> None:
    warm = deployment(live=version("b", 2), previous=version("a", 3), warm_until=NOW + timedelta(seconds=1))
    assert usage([(warm, None)], NOW) == Usage(instances=5, memory_bytes=50 * MIB)
    assert usage([(warm, None)], NOW + timedelta(seconds=2)) == Usage(instances=2, memory_bytes=20 * MIB)
    assert usage([], NOW) == usage([(deployment(), None)], NOW) == Usage()


@pytest.mark.parametrize(
    ("strategy", "old", "new", "instances"),
    [
        (Strategy.BLUE_GREEN, 3, 4, 7),
        (Strategy.ROLLING, 3, 3, 4),
        (Strategy.ROLLING, 3, 5, 6),
        (Strategy.ROLLING, 5, 2, 6),
        (Strategy.RECREATE, 3, 3, 3),
        (Strategy.RECREATE, 3, 5, 5),
        (Strategy.RECREATE, 3, 1, 3),
    ],
)
def test_a_rollout_counts_at_its_height(strategy: Strategy, old: int, new: int, instances: int) -> None:
    row = (deployment(live=version("a", old)), rollout(strategy, version("a", old), version("b", new)))
    assert usage([row], NOW) == Usage(instances=instances, memory_bytes=instances * 10 * MIB)


def test_a_version_that_stays_counts_once() -> None:
    row = (deployment(live=version("a", 2)), rollout(Strategy.BLUE_GREEN, version("a", 2), version("a", 3)))
    assert usage([row], NOW).instances == 3


def test_a_release_that_is_not_built_yet_counts_by_its_replicas() -> None:
    row = (deployment(live=version("a", 2)), rollout(Strategy.BLUE_GREEN, version("a", 2), None, replicas=4))
    assert usage([row], NOW) == Usage(instances=6, memory_bytes=20 * MIB)


def test_a_finished_rollout_counts_no_more() -> None:
    done = rollout(Strategy.BLUE_GREEN, None, version("b", 9), phase=Phase.FAILED)
    assert usage([(deployment(live=version("a", 2)), done)], NOW).instances == 2


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (Usage(instances=2), Usage(instances=4), "may run 3 instances, has 2, and this would make 4"),
        (
            Usage(instances=1, memory_bytes=512 * MIB),
            Usage(instances=2, memory_bytes=1536 * MIB),
            "may come to 1Gi of memory, come to 512Mi, and this would make 1.5Gi",
        ),
    ],
)
def test_more_than_the_quota_is_refused_with_limit_and_use(before: Usage, after: Usage, said: str) -> None:
    with pytest.raises(PlatformError) as caught:
        check_quota("shop", Quotas(instances=3, memory="1Gi"), before, after)
    assert caught.value.code is ErrorCode.RESOURCE_EXHAUSTED
    assert said in caught.value.message
    assert "tenants.shop.quotas." in caught.value.hint


@pytest.mark.parametrize(("before", "after"), [(2, 3), (7, 5), (5, 5), (0, 0)])
def test_what_is_within_or_lessens_is_let(before: int, after: int) -> None:
    check_quota("shop", Quotas(instances=3), Usage(instances=before), Usage(instances=after))
    check_quota("shop", Quotas(), Usage(instances=before), Usage(instances=after + 1000, memory_bytes=1 << 60))


def test_a_full_disk_quota_is_refused() -> None:
    check_disk("shop", Quotas(disk="1Mi"), MIB - 1)
    check_disk("shop", Quotas(), 1 << 60)
    with pytest.raises(PlatformError) as caught:
        check_disk("shop", Quotas(disk="1Mi"), 3 * MIB)
    assert caught.value.code is ErrorCode.RESOURCE_EXHAUSTED
    assert "may keep 1Mi on disk, and its homes and volumes have 3Mi" in caught.value.message
