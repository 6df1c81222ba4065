"""What a tenant's services use of its quotas, counted at the most that a rollout comes to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from .deployment import Deployment, Version
from .environment import Quotas
from .errors import ErrorCode, PlatformError
from .quantity import memory_bytes, memory_rounded
from .rollout import Rollout
from .strategy import Strategy
from .value import Value

Row = tuple[Deployment, Rollout | None]

OPERATION_SECONDS = 5.0  # after which one that runs may have ended


class Usage(Value):
    """instances: that run, or will at the height of a rollout. memory_bytes: the sum of their limits."""

    instances: int = 0
    memory_bytes: int = 0


def usage(rows: Iterable[Row], now: datetime) -> Usage:
    """Of all these deployments and their rollouts, if they have one."""
    instances, memory = 0, 0
    for deployment, rollout in rows:
        counts, versions = _at_most(deployment, rollout, now)
        instances += sum(counts.values())
        memory += sum(count * _memory(versions.get(name)) for name, count in counts.items())
    return Usage(instances=instances, memory_bytes=memory)


def _at_most(
    deployment: Deployment, rollout: Rollout | None, now: datetime
) -> tuple[Mapping[str, int], Mapping[str, Version]]:
    """How many instances of each version there are at the height, and the versions that are known by then."""
    counts: dict[str, int] = {}
    versions: dict[str, Version] = {}

    def want(version: Version | None, count: int) -> None:
        name = version.name if version else ""  # of a release that is not built yet
        counts[name] = max(count, counts.get(name, 0))
        if version is not None:
            versions[name] = version

    warm = deployment.warm(now)
    if warm is not None:
        want(warm, warm.replicas)
    if rollout is None or rollout.phase.finished:
        if deployment.live is not None:
            want(deployment.live, deployment.live.replicas)
        return counts, versions
    old = rollout.old.replicas if rollout.old else 0
    new = rollout.new.replicas if rollout.new else rollout.replicas
    if rollout.old is not None:
        want(rollout.old, old)
    unchanged = rollout.old is not None and rollout.new is not None and rollout.old.name == rollout.new.name
    match rollout.strategy:
        case Strategy.ROLLING if not unchanged:
            new = min(new, max(0, new - old) + 1)
        case Strategy.RECREATE if not unchanged:
            new = max(0, new - old)
        case _:
            pass
    want(rollout.new, new)
    return counts, versions


def _memory(version: Version | None) -> int:
    return (version.template.limits.memory_bytes or 0) if version else 0


def check_quota(tenant: str, quotas: Quotas, before: Usage, after: Usage) -> None:
    """Raises PlatformError(RESOURCE_EXHAUSTED) where a change from `before` to `after` goes beyond the quotas. What
    lessens is always within them."""
    if quotas.instances is not None and before.instances < after.instances > quotas.instances:
        raise _exhausted(
            tenant,
            "instances",
            f"it may run {quotas.instances} instances, has {before.instances}, and this would make {after.instances}",
        )
    limit = memory_bytes(quotas.memory) if quotas.memory is not None else None
    if limit is not None and before.memory_bytes < after.memory_bytes > limit:
        raise _exhausted(
            tenant,
            "memory",
            f"its limits may come to {quotas.memory} of memory, come to {memory_rounded(before.memory_bytes)}, "
            f"and this would make {memory_rounded(after.memory_bytes)}",
        )


def check_disk(tenant: str, quotas: Quotas, in_use_bytes: int) -> None:
    """Raises PlatformError(RESOURCE_EXHAUSTED) where the tenant keeps as much on disk as it may, or more."""
    if quotas.disk is not None and in_use_bytes >= memory_bytes(quotas.disk):
        raise _exhausted(
            tenant,
            "disk",
            f"it may keep {quotas.disk} on disk, and its homes and volumes have {memory_rounded(in_use_bytes)}",
        )


def check_operations(tenant: str, quotas: Quotas, running: int) -> None:
    """Raises PlatformError(RESOURCE_EXHAUSTED) where as many operations of the tenant run as may."""
    if quotas.operations is not None and running >= quotas.operations:
        raise _exhausted(
            tenant, "operations", f"{quotas.operations} of its operations may run at once, and {running} do"
        )


def _exhausted(tenant: str, what: str, said: str) -> PlatformError:
    instead = "fewer replicas and the strategies rolling and recreate need less; versions kept warm end by themselves"
    if what == "disk":
        instead = "remove what is no longer needed"
    if what == "operations":
        instead = "wait for the end of one: manage_operation history has them"
    return PlatformError(
        ErrorCode.RESOURCE_EXHAUSTED,
        f"the quota of the tenant {tenant} is exhausted: {said}",
        f"{instead}; or let the owner raise tenants.{tenant}.quotas.{what} in santiago.yaml",
        retry_after=OPERATION_SECONDS if what == "operations" else None,
    )
