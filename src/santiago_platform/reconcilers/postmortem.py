"""The loop over pages that are over: drafts the post-mortem of each.

It is not the loop over incidents: an advisor may take its time, and whoever is to be told of another one cannot wait.
"""

from __future__ import annotations

import hashlib
import logging

from ..domain.advisor import BUILTIN
from ..domain.errors import PlatformError
from ..domain.identity import PLATFORM
from ..domain.incident import EventKind, Incident, event
from ..domain.narrative import FACTS_AT_MOST, Fact
from ..domain.postmortem import file_name, postmortem
from ..domain.proposal import Task
from ..operations.narrate import narrate
from ..ports import Ports
from ..ports.store import Transaction

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
AT_ONCE = 20
REFUSED_SECONDS = 300.0  # until what could not be written is drafted again: an advisor is paid for each draft


class PostmortemReconciler:
    """One per daemon. What is drafted again after a crash takes the place of the draft before, unless somebody has
    changed that."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._not_before: dict[str, float] = {}

    async def run(self) -> None:
        """Passes until it is cancelled; a failed pass is logged and tried again."""
        while True:
            try:
                await self.pass_over()
            except PlatformError as exc:
                log.warning("post-mortems: %s %s", exc.message, exc.internal)
            except Exception:
                log.exception("the pass over post-mortems failed")
            await self._ports.activation.wait(LOOK_SECONDS, loop="post-mortems")

    async def pass_over(self) -> None:
        over = await self._ports.store.read(lambda view: view.incidents(open=False, unfinished=True, limit=AT_ONCE))
        now = self._ports.clock.monotonic()
        self._not_before = {id: at for id, at in self._not_before.items() if at > now}
        for incident in over:
            due = incident.id not in self._not_before
            if incident.page and not incident.postmortem and incident.attempt is None and due:
                await self._try(incident)

    async def _try(self, incident: Incident) -> None:
        """One that cannot be written keeps nobody else's waiting."""
        try:
            await self._draft(incident)
        except PlatformError as exc:
            log.warning("the post-mortem of incident %s: %s %s", incident.id, exc.message, exc.internal)
        except Exception:
            log.exception("the post-mortem of incident %s", incident.id)
        else:
            return
        self._not_before[incident.id] = self._ports.clock.monotonic() + REFUSED_SECONDS

    async def _draft(self, incident: Incident) -> None:
        named = {e.operation for e in incident.events if e.operation}
        outcomes = await self._ports.store.read(
            lambda view: {o.id: str(o.state) for name in sorted(named) if (o := view.operation(name)) is not None}
        )
        text = postmortem(incident, outcomes, await self._told(incident))
        path = await self._ports.postmortems.write(file_name(incident), text, replaces=incident.postmortem_sha256)
        written = {"postmortem": path, "postmortem_sha256": hashlib.sha256(text.encode()).hexdigest()}
        said = event(self._ports.clock.now(), EventKind.ACTION, f"the post-mortem is drafted: {path}")

        def unit(tx: Transaction) -> None:
            current = tx.incident(incident.id)
            if current is not None and not current.is_open and current.reopened == incident.reopened:
                tx.save_incident(current.model_copy(update=written).with_events((said,)))

        await self._ports.store.write(unit)
        self._ports.activation.activate()

    async def _told(self, incident: Incident) -> tuple[str, ...]:
        """The timeline in an advisor's prose, each figure of it checked; none where no advisor can be asked."""
        if all(advisor.name == BUILTIN for advisor in self._ports.advisors.order(Task.POST_MORTEM)):
            return ()
        events = incident.timeline()[:FACTS_AT_MOST]
        facts = [Fact(id=f"e{n}", text=f"{e.kind} by {e.by}: {e.text}", at=e.at) for n, e in enumerate(events, 1)]
        principal = PLATFORM.model_copy(update={"tenant": incident.tenant})
        try:
            told = await narrate(self._ports, principal, Task.POST_MORTEM, facts, operation=incident.id)
        except PlatformError as exc:
            log.warning("no advisor tells of incident %s: %s", incident.id, exc.message)
            return ()
        return () if told.by.advisor == BUILTIN else tuple(p.text for p in told.draft.request.paragraphs)
