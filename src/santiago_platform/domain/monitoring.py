"""The rules by which a service is watched: which are in force, and what a change of them would be. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from .expression import ExpressionError, canonical, same
from .identity import Name
from .plan import fingerprint
from .proof import Claim, Observation
from .rules import Rule, RuleGroup
from .value import Value


class Monitoring(Value):
    """The rules of a service that are in force in an environment. source: fingerprint of the SLOs that they were made
    of; empty where they are of none. by: who put them in force."""

    service: Name
    environment: Name
    groups: tuple[RuleGroup, ...] = ()
    source: str = ""
    by: Name
    at: datetime


def differences(before: Iterable[RuleGroup], after: Iterable[RuleGroup]) -> tuple[str, ...]:
    """What comes, goes and changes, a line for each rule."""
    old, new = _by_name(before), _by_name(after)
    lines = [f"comes: {_said(name, new[name])}" for name in new if name not in old]
    lines += [f"goes: {_said(name, old[name])}" for name in old if name not in new]
    lines += [
        f"changes: {name[1]}: {'; '.join(_changes(old[name], new[name]))}" for name in new if _differ(name, old, new)
    ]
    return tuple(lines)


def claims_of(owner: str, groups: Sequence[RuleGroup], gone: Iterable[str] = ()) -> tuple[Claim, ...]:
    """What has to be read back. gone: names of groups that must no longer be there."""
    there = {group.name: group for group in groups}
    present = tuple(Claim(subject=f"rules {owner} {name}", expected=_canonical(group)) for name, group in there.items())
    absent = tuple(Claim(subject=f"rules {owner} {name}", expected=NONE) for name in gone if name not in there)
    return present + absent


def observed(owner: str, claims: Iterable[Claim], loaded: Sequence[RuleGroup] | None, source: str) -> list[Observation]:
    """loaded: None where nobody could be asked."""
    if loaded is None:
        return [Observation(subject=claim.subject, value=None, source=source) for claim in claims]
    there = {f"rules {owner} {group.name}": _canonical(group) for group in loaded}
    return [Observation(subject=c.subject, value=there.get(c.subject, NONE), source=source) for c in claims]


def is_same(one: RuleGroup, other: RuleGroup) -> bool:
    """Whether both do the same, however they are written."""
    return _canonical(one) == _canonical(other)


NONE = "none"


def _canonical(group: RuleGroup) -> str:
    """Names, for people, and a fingerprint of all that decides what the rules do."""
    # A default that was left out comes back as 60, and what was said as 60.0.
    rules = [
        {**rule.model_dump(mode="json"), "expr": _plain(rule.expr), "for_seconds": float(rule.for_seconds)}
        for rule in group.rules
    ]
    names = ", ".join(rule.alert or rule.record for rule in group.rules[:5])
    more = f" and {len(rules) - 5} more" if len(rules) > 5 else ""
    return f"{names}{more} #{fingerprint({'every': float(group.interval_seconds), 'rules': rules})[:12]}"


def _plain(expression: str) -> str:
    try:
        return canonical(expression)
    except ExpressionError:
        return " ".join(expression.split())


_Names = tuple[str, str]


def _by_name(groups: Iterable[RuleGroup]) -> dict[_Names, Rule]:
    """A name may be there several times in a group: with other labels, as of another window, and with the same ones."""
    found: dict[_Names, Rule] = {}
    times: Counter[_Names] = Counter()
    for group in groups:
        for rule in group.rules:
            name = rule.alert or rule.record
            labels = ",".join(f"{k}={v}" for k, v in sorted(rule.labels.items()))
            shown = name if (group.name, name) not in found else f"{name}{{{labels}}}"
            times[group.name, shown] += 1
            number = times[group.name, shown]
            found[group.name, f"{shown} #{number}" if number > 1 else shown] = rule
    return found


def _said(name: _Names, rule: Rule) -> str:
    kind = f"alert ({rule.labels.get('severity', 'no severity')})" if rule.alert else "recording"
    return f"{kind} {name[1]} of {name[0]}: {rule.expr[:160]}"


def _differ(name: _Names, old: dict[_Names, Rule], new: dict[_Names, Rule]) -> bool:
    return name in old and bool(_changes(old[name], new[name]))


def _changes(old: Rule, new: Rule) -> list[str]:
    words = [] if same(old.expr, new.expr) else [f"{old.expr[:160]} -> {new.expr[:160]}"]
    if old.for_seconds != new.for_seconds:
        words.append(f"for {old.for_seconds:g} s -> {new.for_seconds:g} s")
    words += [f"{field} changed" for field in ("labels", "annotations") if getattr(old, field) != getattr(new, field)]
    return words
