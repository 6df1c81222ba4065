"""What a service could aim for, from what its users have met: an slo.yaml to look at, and to commit."""

from __future__ import annotations

from datetime import timedelta

from ..domain.environment import EnvironmentKind, Settings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Name, Principal
from ..domain.slo_proposal import MIN_EVENTS, Proposal, Shown, openslo, propose
from ..domain.value import Value
from ..ports import Ports
from .authority import authorise, is_shown
from .tenancy import require_service

SHOWN = timedelta(days=14)


class SloQuery(Value):
    """service: whose SLO is to be proposed."""

    service: Name


class SloProposal(Value):
    """shown: what was counted in the last 14 days, or since there is something. yaml: for services/NAME/slo.yaml; empty
    where nothing is proposed, and `reason` says why."""

    service: str
    environment: str
    shown: Shown
    proposals: tuple[Proposal, ...] = ()
    yaml: str = ""
    reason: str = ""


async def propose_slo(ports: Ports, principal: Principal, query: SloQuery) -> SloProposal:
    """From the environment of kind production where it is live, else from another. It changes nothing.

    Raises PlatformError: NOT_FOUND (service), FAILED_PRECONDITION where it is live nowhere that the principal may see,
    PERMISSION_DENIED, UNAVAILABLE where Prometheus does not answer.
    """
    settings, service = ports.workspace.last_good_settings(), query.service
    authorise(ports, principal, "read_architecture", settings, service=service)
    await require_service(ports, principal, settings, service)
    environment = await _where(ports, principal, settings, service)
    end = ports.clock.now().timestamp()
    shown = await ports.metrics.shown(service, environment, start=end - SHOWN.total_seconds(), end=end)
    found = propose(shown)
    return SloProposal(
        service=service,
        environment=environment,
        shown=shown,
        proposals=found,
        yaml=openslo(service, environment, found),
        reason="" if found else _reason(shown),
    )


async def _where(ports: Ports, principal: Principal, settings: Settings, service: str) -> str:
    deployments = await ports.store.read(lambda view: view.deployments())
    live = [d.environment for d in deployments if d.service == service and d.live is not None]
    known = [e for e in live if is_shown(ports, principal, "read_architecture", settings, service, e)]
    known.sort(key=lambda e: (settings.kind_of(e) is not EnvironmentKind.PRODUCTION, e))
    if known:
        return known[0]
    raise PlatformError(
        ErrorCode.FAILED_PRECONDITION,
        f"{service} is live nowhere, so nothing is known of it",
        f"`santiago deploy {service}`, and ask again when it has been used",
    )


def _reason(shown: Shown) -> str:
    if shown.requests < MIN_EVENTS:
        return f"{shown.requests} requests were seen, and fewer than {MIN_EVENTS:,} say too little"
    return f"{shown.errors} of {shown.requests} requests failed: mend that before an objective is set"
