"""Builds a release without deploying it."""

from __future__ import annotations

from datetime import timedelta

from ..domain.identity import Name, Principal
from ..domain.release import Release, prunable
from ..domain.value import Value
from ..domain.workload import Template
from ..ports import Ports
from ..ports.store import Snapshot
from .authority import authorise
from .change import change
from .tenancy import require_service


class ReleaseRequest(Value):
    service: Name
    git_ref: str = "HEAD"


async def release_service(ports: Ports, principal: Principal, request: ReleaseRequest) -> Release:
    """The release of the service at a git ref; built once, returned again later. Raises as ports.artifacts says."""
    asked = request.model_dump(mode="json")
    async with change(ports, principal, "release_service", request.service, asked) as record:
        settings = ports.workspace.settings()
        authorise(ports, principal, "release_service", settings, service=request.service)
        await require_service(ports, principal, settings, request.service)
        commit = await ports.artifacts.resolve(request.git_ref)
        release = await ports.artifacts.build(request.service, commit)
        record.outcome, record.body = "released", {"release": release.digest, "commit": commit}
    return release


def template_of(ports: Ports, release: Release, environment: str) -> Template:
    """What an instance of the release runs in an environment, as santiago.yaml says now."""
    where = f"score.yaml of release {release.short}"
    return ports.workspace.template(release.score, release=release.digest, environment=environment, where=where)


def releases_in_use(view: Snapshot) -> frozenset[str]:
    """Digests that are live, kept to go back to, rolling out, or waiting for somebody's yes."""
    used = set()
    for deployment in view.deployments():
        used |= {v.template.release for v in (deployment.live, deployment.previous) if v is not None}
    for rollout in view.active_rollouts():
        used |= {v.template.release for v in (rollout.old, rollout.new) if v is not None}
    used |= {run.template.release for run in view.job_runs(unfinished=True, limit=1000)}
    used |= {request.release for request in view.change_requests(open=True, limit=1000) if request.release}
    return frozenset(used)


async def prune_releases(ports: Ports) -> list[Release]:
    """Removes old releases as santiago.yaml says, never one in use. Returns what was removed."""
    retention = ports.workspace.last_good_settings().releases
    in_use = await ports.store.read(releases_in_use)
    removed: list[Release] = []
    by_service: dict[str, list[Release]] = {}
    for release in await ports.artifacts.list():
        by_service.setdefault(release.service, []).append(release)
    for releases in by_service.values():
        keep_for = timedelta(days=retention.keep_days)
        for release in prunable(releases, in_use, keep=retention.keep, keep_for=keep_for, now=ports.clock.now()):
            await ports.artifacts.remove(release.digest)
            await ports.store.write(lambda tx, digest=release.digest: tx.forget_live_periods(digest))  # type: ignore[misc]
            await ports.evidence.forget(release.digest)
            removed.append(release)
    return removed
