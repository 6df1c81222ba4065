"""The deployment of a service in an environment: which version is live, which one is the way back."""

from __future__ import annotations

from datetime import datetime

from .identity import Name
from .job import Job
from .strategy import Strategy
from .value import Value
from .watch import Watch
from .workload import Template


class Version(Value):
    """A template with the number of replicas it runs at, and the jobs of its release."""

    template: Template
    replicas: int
    jobs: tuple[Job, ...] = ()

    @property
    def name(self) -> str:
        return self.template.version


class Deployment(Value):
    """One row per service and environment.

    live: gets all traffic outside a rollout. previous: kept warm until `warm_until`, so that a rollback is
    one weight change; afterwards it can still be rolled back to, with its instances started anew.
    generation: rises with each change of `live`. live_since: when another version became it, where that has jobs.
    strategy and the times: of the rollout that made `live`; the way back takes them too. watch: over `live`, while it
    lasts.
    """

    service: Name
    environment: Name
    tenant: Name
    live: Version | None = None
    previous: Version | None = None
    warm_until: datetime | None = None
    strategy: Strategy = Strategy.BLUE_GREEN
    ready_timeout_seconds: float = 60.0
    rollback_window_seconds: float = 600.0
    drain_timeout_seconds: float = 30.0
    generation: int = 0
    updated_at: datetime | None = None
    live_since: datetime | None = None
    watch: Watch | None = None

    def warm(self, now: datetime) -> Version | None:
        """The previous version while it is kept warm."""
        return self.previous if self.warm_until is not None and now < self.warm_until else None

    def after(self, live: Version, now: datetime, keep_warm_until: datetime | None) -> Deployment:
        """The deployment once `live` has taken over from the version that was live."""
        same = self.live is not None and self.live.name == live.name
        return self.model_copy(
            update={
                "live": live,
                "previous": self.previous if same else self.live,
                "warm_until": self.warm_until if same else keep_warm_until,
                "generation": self.generation + 1,
                "updated_at": now,
                "watch": None,
                "live_since": self.live_since if same else now if live.jobs else None,
            }
        )
