"""A gate that asks whether somebody is being paged about the service."""

from __future__ import annotations

from typing import ClassVar, Literal

from ..gate import Answer, Facts, Gate, Outcome, Unknown


class IncidentGate(Gate):
    """No incident of page severity is open for the service. The one that the release fixes does not count, loudly."""

    of_release: ClassVar[bool] = False

    type: Literal["incident"]

    def answer(self, facts: Facts) -> Answer:
        if isinstance(facts.incidents, Unknown):
            return self.says(Outcome.UNKNOWN, facts.incidents.reason, "leave the gate out until they are kept")
        pages = [incident for incident in facts.incidents if incident.page]
        evidence = [f"{i.id} since {i.opened_at:%Y-%m-%d %H:%M}Z: {i.title}" for i in pages]
        others = [incident.id for incident in pages if incident.id != facts.fixes]
        if others or pages:
            hint = "end it first; what fixes it says so: `santiago deploy --fixes ID`"
            answer = self.says(Outcome.FAIL, f"open: {', '.join(i.id for i in pages)}", hint, *evidence)
            return answer if others else self.excepted(answer, facts)
        return self.says(Outcome.PASS, "no incident of page severity is open")
