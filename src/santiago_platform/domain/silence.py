"""A silence: why an alert of one service in one environment tells nobody for a while. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated

from pydantic import Field

from .alert import AlertName
from .identity import Name
from .incident import EventKind, Incident, event
from .value import Value

LONGEST_SECONDS = 30 * 86400.0


class Silence(Value):
    """Of one alert by its name, never of what others have. by: who made it. id: that Alertmanager gave it."""

    alert: AlertName
    service: Name
    environment: Name
    starts_at: datetime
    ends_at: datetime
    by: Annotated[str, Field(max_length=200)]
    reason: Annotated[str, Field(max_length=500)]
    id: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.service, self.environment, self.alert

    @property
    def labels(self) -> Mapping[str, str]:
        """What an alert has to have, all of it, to be silenced."""
        return {"alertname": self.alert, "service": self.service, "environment": self.environment}

    def is_made_as(self, asked: Silence) -> bool:
        """Whether it is what was asked for; of the end Alertmanager keeps what is below a second, or not."""
        off = abs((self.ends_at - asked.ends_at).total_seconds())
        return (self.key, self.by, self.reason) == (asked.key, asked.by, asked.reason) and off < 1

    def said(self) -> str:
        """In one line, for a person."""
        until = f"{self.ends_at:%Y-%m-%d %H:%M} UTC"
        return f"{self.alert} of {self.service}/{self.environment} until {until} by {self.by}: {self.reason}"


def concerned(silence: Silence, incidents: Iterable[Incident]) -> list[Incident]:
    """The open incidents in which the alert fires."""
    place = (silence.service, silence.environment)
    mine = (i for i in incidents if i.is_open and (i.service, i.environment) == place)
    return [i for i in mine if silence.alert in {i.cause, *(firing.alert for firing in i.firing.values())}]


def noted(incident: Incident, silence: Silence, now: datetime) -> Incident:
    """While it is silenced Alertmanager says neither that the alert fires nor that it has ended."""
    said = event(now, EventKind.MESSAGE, f"silenced: {silence.said()}", silence.by, key=f"silence {silence.id}")
    return incident.with_events((said,))
