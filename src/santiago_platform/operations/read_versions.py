"""The version that is live in an environment, and those that can be gone back to: when each was live."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from ..domain.deployment import Deployment, Version
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Name, Principal
from ..domain.live_period import LivePeriod, former
from ..domain.value import Value
from ..ports import Ports
from ..ports.store import Snapshot
from .authority import authorise
from .tenancy import require_service


class VersionsQuery(Value):
    service: Name
    environment: Name


class Standing(StrEnum):
    LIVE = "live"
    WARM = "warm"  # it runs, and takes over by one change of weights
    KEPT = "kept"  # its release is kept: it is started first


class VersionView(Value):
    """since, until: it was live, the last time; since is None where that is not known. taken_back: by a rollback."""

    version: str
    release: str
    replicas: int
    standing: Standing
    since: datetime | None = None
    until: datetime | None = None
    taken_back: bool = False


class VersionsView(Value):
    """The live one first, then the one that was left last."""

    service: str
    environment: str
    versions: tuple[VersionView, ...]


async def read_versions(ports: Ports, principal: Principal, query: VersionsQuery) -> VersionsView:
    """Raises PlatformError: NOT_FOUND (service; nothing was ever deployed there), PERMISSION_DENIED."""
    settings = ports.workspace.last_good_settings()
    authorise(ports, principal, "read_operation", settings, service=query.service, environment=query.environment)
    await require_service(ports, principal, settings, query.service)
    kept = frozenset(release.digest for release in await ports.artifacts.list(query.service))
    now = ports.clock.now()

    def look(view: Snapshot) -> VersionsView | None:
        deployment = view.deployment(query.service, query.environment)
        if deployment is None:
            return None
        periods = view.live_periods(query.service, query.environment)
        return VersionsView(
            service=query.service,
            environment=query.environment,
            versions=_versions(deployment, periods, kept, now),
        )

    found = await ports.store.read(look)
    if found is None:
        raise PlatformError(
            ErrorCode.NOT_FOUND,
            f"{query.service} was never deployed to {query.environment}",
            "read_architecture lists what there is",
        )
    return found


def _versions(
    deployment: Deployment, periods: Sequence[LivePeriod], kept: frozenset[str], now: datetime
) -> tuple[VersionView, ...]:
    last = {period.version.name: period for period in periods}
    live, warm = deployment.live, deployment.warm(now)
    known = [(live, Standing.LIVE)] if live else []
    for version in former(deployment, periods):
        if version.template.release in kept:
            is_warm = warm is not None and warm.name == version.name
            known.append((version, Standing.WARM if is_warm else Standing.KEPT))
    return tuple(_view(version, standing, last.get(version.name)) for version, standing in known)


def _view(version: Version, standing: Standing, period: LivePeriod | None) -> VersionView:
    return VersionView(
        version=version.name,
        release=version.template.release,
        replicas=version.replicas,
        standing=standing,
        since=period.since if period else None,
        until=period.until if period else None,
        taken_back=period.taken_back if period else False,
    )
