"""The post-mortem of an incident, drafted from its timeline and from nothing else: no event and no number is made up.

Blameless: it says what happened and what the systems allowed, and leaves conclusions to those who were there. What
nobody has written yet says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from .incident import Attempt, Event, EventKind, Incident

UNKNOWN = "_To be written by those who were there._"
_KINDS = {
    EventKind.ALERT: "alert",
    EventKind.STATE: "state",
    EventKind.CHANGE: "change",
    EventKind.SUSPECT: "suspect",
    EventKind.NOTICE: "notice",
    EventKind.ACTION: "action",
    EventKind.MESSAGE: "message",
}


def file_name(incident: Incident) -> str:
    return f"{incident.began_at:%Y-%m-%d}-{incident.id}.md"


def postmortem(incident: Incident, outcomes: Mapping[str, str], summary: Sequence[str] = ()) -> str:
    """As Markdown. outcomes: of the operations that it names, in words. summary: paragraphs in which an advisor tells
    the timeline."""
    told = [line for paragraph in summary for line in (_escaped(paragraph), "")][:-1]
    sections = {
        **({"Summary (an advisor's, of the timeline)": told} if told else {}),
        "Impact": _impact(incident),
        "Timeline (UTC)": _timeline(incident),
        "Causes": _causes(incident, outcomes),
        "What went well": _went_well(incident),
        "Actions": _actions(incident, outcomes),
    }
    head = [
        f"# Post-mortem {incident.id}: {_escaped(incident.title)}",
        "",
        "Drafted by the platform from its records. It is about what happened, not about who is to blame.",
        "",
    ]
    body = [line for title, lines in sections.items() for line in (f"## {title}", "", *lines, "")]
    return "\n".join([*head, *body]).rstrip() + "\n"


def _impact(incident: Incident) -> list[str]:
    ended = incident.ended_at or incident.resolved_at
    rows = {
        "Service": incident.service or "none named",
        "Environment": incident.environment or "none named",
        "Cause as alerted": incident.cause,
        "Severity": incident.severity.value,
        "First alert": _time(incident.began_at),
        "Last alert ended": _time(ended) if ended else "not known",
        "Lasted": _length(ended - incident.began_at) if ended else "not known",
        "Acknowledged after": _since(incident, incident.acknowledged_at),
        "Resolved after": _since(incident, incident.resolved_at),
        "Alerts at once": f"about {incident.alerts}",
        "Came back": f"{incident.reopened} times" if incident.reopened else "no",
    }
    return ["| | |", "|---|---|", *(f"| {name} | {_cell(text)} |" for name, text in rows.items())]


def _timeline(incident: Incident) -> list[str]:
    lines = ["| when | what | | by |", "|---|---|---|---|", *map(_row, incident.timeline())]
    if incident.dropped:
        lines += ["", f"{incident.dropped} further events were not kept."]
    return lines


def _row(event: Event) -> str:
    about = f" (operation {event.operation})" if event.operation else ""
    return f"| {_time(event.at)} | {_KINDS[event.kind]} | {_cell(event.text + about)} | {_cell(event.by)} |"


def _causes(incident: Incident, outcomes: Mapping[str, str]) -> list[str]:
    suspect = incident.suspect
    if suspect is None:
        return ["No change was found shortly before the first alert.", "", UNKNOWN]
    named = outcomes.get(suspect.operation, "")
    lines = [f"Suspected: {suspect.kind}, operation {suspect.operation}" + (f" ({_escaped(named)})" if named else "")]
    lines += ["", *(f"- {_escaped(reason)}" for reason in suspect.reasons), "", UNKNOWN]
    return lines


def _went_well(incident: Incident) -> list[str]:
    lines = []
    if incident.acknowledged_at is not None:
        after = _since(incident, incident.acknowledged_at)
        lines.append(f"- It was acknowledged after {after}, by {_escaped(incident.acknowledged_by)}.")
    lines += [f"- {_tried(a)}" for a in incident.attempts if a.outcome.startswith("done")]
    return [*lines, *([""] if lines else []), UNKNOWN]


def _actions(incident: Incident, outcomes: Mapping[str, str]) -> list[str]:
    done = [
        f"- {_tried(a)}"
        + (f" Operation {a.operation}: {_escaped(outcomes[a.operation])}." if a.operation in outcomes else "")
        for a in incident.attempts
    ]
    return [*(done or ["The platform changed nothing by itself."]), "", f"- [ ] {UNKNOWN}"]


def _tried(attempt: Attempt) -> str:
    words = f"{attempt.recovery} of {attempt.subject} at {_time(attempt.at)}: {attempt.outcome or 'not ended'}"
    return _escaped(f"{words} ({attempt.reason}).")


def _since(incident: Incident, at: datetime | None) -> str:
    return _length(at - incident.began_at) if at is not None else "never"


def _length(length: timedelta) -> str:
    seconds = max(0, round(length.total_seconds()))
    hours, minutes = divmod(seconds // 60, 60)
    parts = ((hours, "h"), (minutes, "min"), (seconds % 60, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


def _cell(text: str) -> str:
    return _escaped(text).replace("|", "\\|")


def _escaped(text: str) -> str:
    """On one line, and without markup: words of others stay words."""
    plain = " ".join(text.split())
    for mark in ("\\", "`", "*", "_", "[", "]", "<", ">", "#"):
        plain = plain.replace(mark, f"\\{mark}")
    return plain
