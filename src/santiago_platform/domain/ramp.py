"""Shares of users: a percentage of them gets a variant, at once or more and more over time.

A ramp is one rule of flagd whose weights are computed from the time of each evaluation. So it moves without anybody
who moves it, alike in every evaluator of flagd. A user is told by a hash of flag and targeting key: who has the variant
keeps it while the share rises.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import model_validator

from .targeting import Rule
from .value import Value

LONGEST_RAMP = timedelta(days=180)  # the weights of a longer one would not fit flagd's 31 bits
_NOW = {"var": "$flagd.timestamp"}


class Ramp(Value):
    """The share of `variant` goes from one percentage to another between two moments; the rest gets `rest`.

    start, end: whole seconds, UTC. Equal percentages are a constant share, which has no moments.
    """

    variant: str
    rest: str
    from_percent: int
    to_percent: int
    start: datetime | None = None
    end: datetime | None = None

    @model_validator(mode="after")
    def _check(self) -> Ramp:
        if not (0 <= self.from_percent <= 100 and 0 <= self.to_percent <= 100):
            raise ValueError("a percentage is from 0 to 100")
        if (self.start is None) != (self.end is None):
            raise ValueError("a ramp has a start and an end")
        if self.start is None and self.from_percent != self.to_percent:
            raise ValueError("a share that changes needs a start and an end")
        if self.start is not None and self.end is not None and not timedelta() < self.end - self.start <= LONGEST_RAMP:
            raise ValueError(f"a ramp takes from 1 second to {LONGEST_RAMP.days} days")
        return self

    @classmethod
    def constant(cls, variant: str, rest: str, percent: int) -> Ramp:
        return cls(variant=variant, rest=rest, from_percent=percent, to_percent=percent)

    def percent(self, at: datetime) -> float:
        """The share of `variant` at a moment."""
        if self.start is None or self.end is None:
            return self.to_percent
        passed = (min(max(at, self.start), self.end) - self.start) / (self.end - self.start)
        return self.from_percent + (self.to_percent - self.from_percent) * passed

    def moves(self, at: datetime) -> bool:
        return self.start is not None and self.end is not None and self.start < self.end and at < self.end

    def delayed(self, by: timedelta) -> Ramp:
        """The same, later: what is left of it after a pause."""
        if self.start is None or self.end is None:
            return self
        whole = timedelta(seconds=round(by.total_seconds()))
        return self.model_copy(update={"start": self.start + whole, "end": self.end + whole})

    def rule(self) -> Rule:
        """As flagd evaluates it. The weights have one sum all the time, so that nobody changes sides unasked."""
        if self.start is None or self.end is None:
            return {"fractional": [[self.variant, self.to_percent], [self.rest, 100 - self.to_percent]]}
        start, end = int(self.start.timestamp()), int(self.end.timestamp())
        seconds = end - start
        passed = {"-": [{"min": [end, {"max": [start, _NOW]}]}, start]}
        weight = {"+": [self.from_percent * seconds, {"*": [self.to_percent - self.from_percent, passed]}]}
        return {"fractional": [[self.variant, weight], [self.rest, {"-": [100 * seconds, weight]}]]}

    @classmethod
    def read(cls, rule: Rule) -> Ramp | None:
        """The ramp that `rule` is; None where it is another one, or none."""
        try:
            found = cls._read(rule)
        except (ValueError, KeyError, TypeError, IndexError, OverflowError):
            return None
        return found if found.rule() == rule else None

    @classmethod
    def _read(cls, rule: Any) -> Ramp:
        (variant, weight), (rest, _) = rule["fractional"]
        if isinstance(weight, int):
            return cls.constant(variant, rest, weight)
        share, growth = weight["+"]
        change, passed = growth["*"]
        until, start = passed["-"]
        end = until["min"][0]
        return cls(
            variant=variant,
            rest=rest,
            from_percent=share // (end - start),
            to_percent=share // (end - start) + change,
            start=datetime.fromtimestamp(start, UTC),
            end=datetime.fromtimestamp(end, UTC),
        )


def share_of(targeting: Rule) -> Ramp | None:
    """The ramp with which a targeting ends, after the rules that come before it."""
    rules = targeting.get("if") if isinstance(targeting, dict) else None
    if rules is None:
        return Ramp.read(targeting)
    return Ramp.read(rules[-1]) if len(rules) % 2 else None


def with_share(targeting: Rule | None, ramp: Ramp) -> Rule:
    """`targeting` with `ramp` for whom no rule matches.

    Raises ValueError where the targeting is neither empty, nor shares alone, nor an `if`: its end is not known then.
    """
    if not targeting or "fractional" in targeting:
        return ramp.rule()
    rules = targeting.get("if")
    if rules is None:
        raise ValueError("its targeting is neither shares nor an `if`, so it has no place for a share of the rest")
    return {"if": [*(rules[:-1] if len(rules) % 2 else rules), ramp.rule()]}
