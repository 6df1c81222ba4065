"""The loop over incidents: tells the next role, finds the suspect, recovers by policy, and resolves.

All that it does follows from the row. Whatever is done is in the row before it is in the world (an attempt), or is told
in the transaction that stores it (a mail), or is written again from the row (the ship's log).
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from ..domain.environment import Settings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import PLATFORM
from ..domain.incident import Attempt, EventKind, Incident, event, resolved, without_stale
from ..domain.incident_notice import told
from ..domain.incident_policy import IncidentPolicy, is_over, next_role, next_step
from ..domain.mailbox import Mail
from ..domain.suspicion import candidates, suspect
from ..operations.change import note
from ..operations.incident_facts import answered, changes, events_of, facts_of, operations_about
from ..operations.incidents import ended_mails
from ..operations.post import post
from ..operations.recover_incident import recover
from ..ports import Ports
from ..ports.store import Transaction

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
AT_ONCE = 1_000
COMPARE_SECONDS = 5.0  # between two looks at what the versions of an incident answer
COMPARED_FOR = timedelta(minutes=15)  # from its beginning
REFUSED_SECONDS = 5.0  # until what could not be done is tried again


class IncidentReconciler:
    """One per daemon. Holds, in this process alone, when it last looked and last tried."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._not_before: dict[str, float] = {}

    async def run(self) -> None:
        """Passes until it is cancelled; a failed pass is logged and tried again."""
        while True:
            try:
                await self.pass_over()
            except PlatformError as exc:
                log.warning("incidents: %s %s", exc.message, exc.internal)
            except Exception:
                log.exception("the pass over incidents failed")
            await self._ports.activation.wait(LOOK_SECONDS, loop="incidents")

    async def pass_over(self) -> None:
        """Takes each incident with something left to do a step further."""
        found = await self._ports.store.read(lambda view: view.incidents(unfinished=True, limit=AT_ONCE))
        settings = self._ports.workspace.last_good_settings()
        names = {i.id for i in found} | {a.operation for i in found for a in i.attempts}
        self._not_before = {key: at for key, at in self._not_before.items() if key.split()[1] in names}
        for incident in found:
            try:
                await self._step(incident, settings)
            except PlatformError as exc:
                log.warning("incident %s: %s %s", incident.id, exc.message, exc.internal)
            except Exception:
                log.exception("incident %s", incident.id)

    async def _step(self, incident: Incident, settings: Settings) -> None:
        policy, now = settings.incidents_of(incident.environment), self._ports.clock.now()
        if incident.is_open:
            looked = await self._look(without_stale(incident, now), policy)
            after, mails = self._tell(looked, settings, policy, now)
            if is_over(after, policy, now):
                after = resolved(after, PLATFORM.name, now, "its alerts have ended")
                mails += ended_mails(settings, after)
            incident = await self._save(incident, after, settings, mails)
            incident = await self._begin(incident, settings, policy)
        incident = await self._recover(incident, settings)
        await self._log(incident, settings)

    async def _look(self, incident: Incident, policy: IncidentPolicy) -> Incident:
        """With what was changed since a while before it began, and what is suspected."""
        if not incident.service or not self._due(f"look {incident.id}", COMPARE_SECONDS):
            return incident
        within, now = timedelta(seconds=policy.suspect_seconds), self._ports.clock.now()
        operations, found = await self._ports.store.read(
            lambda view: (
                about := operations_about(view, incident, incident.began_at - within),
                changes(view, about),
            )
        )
        incident = incident.with_events(events_of(operations))
        if (
            incident.certain_suspect
            or now - incident.began_at > COMPARED_FOR
            or not candidates(incident, found, within)
        ):
            return await self._with_affected(incident)
        known = await answered(self._ports, incident, found, within)
        suspected = suspect(incident, found, within, known)
        if suspected is None or suspected == incident.suspect:
            return await self._with_affected(incident)
        fresh = incident.suspect is None or suspected.evidence is not incident.suspect.evidence
        words = f"suspected: {'; '.join(suspected.reasons)}"
        key = f"suspect {suspected.operation} {suspected.evidence}"
        said = event(now, EventKind.SUSPECT, words, operation=suspected.operation, key=key)
        incident = incident.model_copy(update={"suspect": suspected}) if fresh else incident
        return await self._with_affected(incident.with_events((said,)))

    async def _with_affected(self, incident: Incident) -> Incident:
        suspected = incident.suspect
        if suspected is None:
            return incident
        others = await self._ports.store.read(lambda view: view.incidents(tenant=incident.tenant, open=True))
        same = [i for i in others if i.suspect is not None and i.suspect.operation == suspected.operation]
        affected = tuple(sorted({*incident.affected, *(i.service for i in same if i.service)}))
        return incident.model_copy(update={"affected": affected}) if affected != incident.affected else incident

    def _tell(
        self, incident: Incident, settings: Settings, policy: IncidentPolicy, now: datetime
    ) -> tuple[Incident, list[Mail]]:
        role = next_role(incident, policy, now)
        if role is None:
            return incident, []
        mail = told(incident, role, now)
        said = event(now, EventKind.NOTICE, f"{role} is told", key=f"{incident.reopened} {mail.id}")
        update = {"escalated": incident.escalated + 1, "told_at": now}
        return incident.model_copy(update=update).with_events((said,)), [mail]

    async def _begin(self, incident: Incident, settings: Settings, policy: IncidentPolicy) -> Incident:
        """Stores what is tried next, before it is."""
        if not (incident.service and incident.pages_now and policy.recover):
            return incident
        now = self._ports.clock.now()
        step = next_step(incident, policy, await facts_of(self._ports, incident), now)
        if step is None:
            return incident
        attempt = Attempt(**step.model_dump(), operation=self._ports.clock.new_id("op"), at=now)
        words = f"{step.recovery} of {step.subject} begins: {step.reason}"
        said = event(now, EventKind.ACTION, words, operation=attempt.operation, key=f"{attempt.operation} begins")
        after = incident.model_copy(update={"attempts": (*incident.attempts, attempt)}).with_events((said,))
        return await self._save(incident, after, settings)

    async def _recover(self, incident: Incident, settings: Settings) -> Incident:
        attempt = incident.attempt
        if attempt is None or not self._due(f"try {attempt.operation}", 0):
            return incident
        try:
            outcome = await recover(self._ports, incident, attempt)
        except PlatformError:
            self._due(f"try {attempt.operation}", REFUSED_SECONDS)
            raise
        if not outcome:
            return incident
        ended = attempt.model_copy(update={"outcome": outcome[:500]})
        attempts = tuple(ended if a == attempt else a for a in incident.attempts)
        words = f"{attempt.recovery} of {attempt.subject} ended: {outcome}"
        now, operation = self._ports.clock.now(), attempt.operation
        said = event(now, EventKind.ACTION, words, operation=operation, key=f"{operation} tried")
        after = incident.model_copy(update={"attempts": attempts}).with_events((said,))
        return await self._save(incident, after, settings)

    async def _log(self, incident: Incident, settings: Settings) -> None:
        """What the ship's log has not of the timeline yet. A crash in between writes it twice, with its numbers."""
        fresh = incident.events[incident.logged :]
        if not fresh:
            return
        lines = [f"{e.at:%Y-%m-%dT%H:%M:%SZ} {e.kind} by {e.by}: {e.text}" for e in fresh]
        body = {"state": incident.state, "first": incident.logged + 1, "events": lines}
        principal = PLATFORM.model_copy(update={"tenant": incident.tenant})
        await note(self._ports, principal, "incident.timeline", f"{incident.subject} {incident.id}", body)
        await self._save(incident, incident.model_copy(update={"logged": len(incident.events)}), settings)

    async def _save(
        self, before: Incident, after: Incident, settings: Settings, mails: list[Mail] | None = None
    ) -> Incident:
        """Raises PlatformError(CONFLICT) where somebody else has changed it meanwhile: the next pass decides anew."""
        if after == before:
            return before

        def unit(tx: Transaction) -> None:
            if tx.incident(before.id) != before:
                raise PlatformError(ErrorCode.CONFLICT, f"incident {before.id} was changed meanwhile")
            tx.save_incident(after)
            post(tx, mails or (), settings)

        await self._ports.store.write(unit)
        return after

    def _due(self, key: str, seconds: float) -> bool:
        """Whether it is time, and not again within `seconds`."""
        now = self._ports.clock.monotonic()
        if now < self._not_before.get(key, now):
            return False
        self._not_before[key] = now + seconds
        return True
