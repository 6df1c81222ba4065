"""What is known of the surroundings of an incident: what was changed, what the versions answered, how they are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import zip_longest

from ..domain.counters import buckets
from ..domain.errors import PlatformError
from ..domain.incident import Event, EventKind, Incident, event
from ..domain.incident_policy import Facts
from ..domain.operation import Operation, OperationState
from ..domain.suspicion import Answered, Change, candidates
from ..ports import Ports
from ..ports.compute import InstanceState
from ..ports.store import Snapshot
from .configure_flag import KIND as FLAG_CHANGE

ROLLOUTS = ("deploy_service", "rollback_service")
OPERATIONS_LOOKED_AT = 200
COMPARED = 3  # changes whose versions are compared
COMPARED_SECONDS = 600
BUCKET_SECONDS = 2
_TURNED_ON = ("set", "ramp", "restore")  # what turning the flag off takes back


def operations_about(view: Snapshot, incident: Incident, since: datetime) -> list[Operation]:
    """Newest first: of its service and environment, and of flags that are served there."""
    found = list(
        view.operations(service=incident.service, environment=incident.environment, limit=OPERATIONS_LOOKED_AT)
    )
    if incident.service:
        flags = view.operations(tenant=incident.tenant, service="", limit=OPERATIONS_LOOKED_AT)
        found += [o for o in flags if o.kind == FLAG_CHANGE and o.environment in ("", incident.environment)]
    return [o for o in found if max(o.created_at, o.finished_at or o.created_at) >= since]


def changes(view: Snapshot, operations: Sequence[Operation]) -> list[Change]:
    """What of them users have met."""
    return [change for o in operations if (change := _change(view, o)) is not None]


def _change(view: Snapshot, operation: Operation) -> Change | None:
    common = {"operation": operation.id, "kind": operation.kind, "by": operation.principal.name}
    if operation.kind == FLAG_CHANGE:
        if operation.state not in (OperationState.RUNNING, OperationState.SUCCEEDED, OperationState.UNVERIFIED):
            return None
        action, flag = operation.request["action"], operation.request["flag"]
        what = f"{action} of the flag {flag}"
        return Change(**common, what=what, at=operation.created_at, flag=flag if action in _TURNED_ON else "")
    rollout = view.rollout_of(operation.id) if operation.kind in ROLLOUTS else None
    if rollout is None or rollout.new is None or rollout.moved_at is None or rollout.unchanged:
        return None
    new, old = rollout.new.name, rollout.old.name if rollout.old else ""
    return Change(**common, what=f"version {new}", at=rollout.moved_at, version=new, before=old)


def events_of(operations: Sequence[Operation]) -> list[Event]:
    """Their beginnings and ends, each once."""
    found = []
    for o in operations:
        what = f"{o.kind} {o.request['action']} of {o.request['flag']}" if o.kind == FLAG_CHANGE else o.kind
        fixes = f", as the fix of {o.request['fixes']}" if o.request.get("fixes") else ""
        by = o.principal.name
        begun = f"{what} was asked for{fixes}"
        found.append(event(o.created_at, EventKind.CHANGE, begun, by, operation=o.id, key=f"{o.id} begun"))
        if o.state.finished and o.finished_at is not None:
            ended = f"{what} ended: {o.state}" + (f": {o.reason}" if o.reason else "")
            found.append(event(o.finished_at, EventKind.CHANGE, ended, by, operation=o.id, key=f"{o.id} ended"))
    return found


async def answered(ports: Ports, incident: Incident, found: Sequence[Change], within: timedelta) -> dict[str, Answered]:
    """What the versions of the last changes and those before them answered. Without those that nobody can say."""
    now, known = ports.clock.now(), {}
    for change in candidates(incident, found, within)[:COMPARED]:
        spans = {change.version: (max(change.at, now - timedelta(seconds=COMPARED_SECONDS)), now)}
        spans[change.before] = (change.at - timedelta(seconds=COMPARED_SECONDS), change.at)
        for version, (start, end) in spans.items():
            if not version or version in known:
                continue
            try:
                known[version] = await _answered(ports, incident, version, start, end)
            except PlatformError:
                continue  # by time it may be suspected all the same, and the next look asks again
    return known


async def _answered(ports: Ports, incident: Incident, version: str, start: datetime, end: datetime) -> Answered:
    seconds = max(BUCKET_SECONDS, round(ports.metrics.shortest_bucket_seconds))
    first, last = int(start.timestamp()) // seconds * seconds, int(end.timestamp()) // seconds * seconds
    samples = await ports.metrics.history(
        incident.service, incident.environment, version, start=first, end=last, bucket_seconds=seconds
    )
    rows = [delta for row in zip_longest(*buckets(samples).values()) for delta in row if delta]
    return Answered(requests=sum(d.requests for d in rows), errors=sum(d.errors for d in rows))


async def facts_of(ports: Ports, incident: Incident) -> Facts:
    where = (incident.service, incident.environment)
    deployment, rollout = await ports.store.read(lambda view: (view.deployment(*where), view.active_rollout(*where)))
    live = deployment.live if deployment is not None else None
    coming = rollout.new.name if rollout is not None and rollout.new is not None else ""
    if live is None:
        return Facts(deploying=rollout is not None, coming=coming)
    mine = [s for s in await ports.compute.list(*where) if s.instance.template.version == live.name]
    unready = tuple(s.instance.id for s in mine if s.state is InstanceState.UNREADY)
    deploying = rollout is not None
    return Facts(live=live.name, unready=unready, replicas=live.replicas, deploying=deploying, coming=coming)
