"""Builds of releases, beside the passes over their rollouts."""

from __future__ import annotations

import asyncio
import logging

from ..domain.deployment import Version
from ..domain.errors import PlatformError
from ..domain.rollout import Rollout
from ..operations.check_gates import require_gates_of_build
from ..operations.deploy_service import version_of
from ..operations.tenancy import require_quota
from ..ports import Ports

log = logging.getLogger(__name__)


class Builds:
    """One for each rollout that waits for its release. After a crash it is begun again, which the port says is
    harmless."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._tasks: dict[str, asyncio.Task[Version]] = {}

    def seen(self, rollout: Rollout) -> dict[str, object]:
        """What a pass sees of it, as fields of `Seen`; it is begun where it was not. Empty while it goes on."""
        task = self._tasks.get(rollout.id)
        if task is None:
            task = asyncio.create_task(self._build(rollout), name=f"build {rollout.id}")
            task.add_done_callback(lambda _: self._ports.activation.activate())
            self._tasks[rollout.id] = task
        if not task.done():
            return {}
        del self._tasks[rollout.id]
        failure = task.exception()
        if failure is None:
            return {"released": task.result()}
        if isinstance(failure, PlatformError):
            return {"release_error": failure.message[:2000]}
        if not isinstance(failure, Exception):
            raise failure
        log.error("build of %s failed", rollout.id, exc_info=failure)
        return {"release_error": "the build failed inside the platform; its log has the trace"}

    def forget(self, rollout_id: str) -> None:
        """Of a rollout that has ended: its build is broken off where it still goes on."""
        if task := self._tasks.pop(rollout_id, None):
            task.cancel()

    async def end(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _build(self, rollout: Rollout) -> Version:
        release = await self._ports.artifacts.build(rollout.service, rollout.git_ref or "HEAD")
        version = await version_of(self._ports, release.digest, rollout.service, rollout.environment, rollout.replicas)
        await require_gates_of_build(self._ports, rollout.operation_id, release, version.name)
        settings, known = self._ports.workspace.settings(), rollout.model_copy(update={"new": version})
        await self._ports.store.read(lambda view: require_quota(view, settings, known))
        return version
