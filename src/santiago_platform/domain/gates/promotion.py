"""A gate that asks whether the release has run in the environment before this one."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from ..gate import Answer, Budget, Facts, Gate, Outcome, Unknown
from ..identity import Name
from ..live_period import LivePeriod


class PromotionGate(Gate):
    """The digest was live in `after` for `minutes` without a break, was not taken back there, and its SLO is met.

    after: None means the environment that stands before this one in santiago.yaml. slo: whether an SLO that it has
    there must be met.
    """

    type: Literal["promotion"]
    after: Name | None = None
    minutes: Annotated[float, Field(ge=0, le=60 * 24 * 90)] = 10
    slo: bool = True

    def source(self, before: str | None) -> str | None:
        return self.after or before

    def answer(self, facts: Facts) -> Answer:
        source = self.source(facts.before)
        if source is None:
            return self.says(Outcome.NOT_APPLICABLE, "no environment comes before this one", "name one in `after`")
        periods = facts.periods.get(source, ())
        told = [_told(period, source) for period in periods]
        deploy = f"deploy it there first: `santiago deploy {facts.service} --env {source} --release DIGEST --wait`"
        if not periods:
            return self.says(Outcome.FAIL, f"this release was never live in {source}", deploy)
        if periods[-1].taken_back:
            return self.says(Outcome.FAIL, f"this release was taken back in {source}", "deploy one that holds", *told)
        longest = max(period.length(facts.now) for period in periods)
        wanted = timedelta(minutes=self.minutes)
        if longest < wanted:
            reason = f"it was live in {source} for {_minutes(longest)}, {_minutes(wanted)} are needed"
            left = "wait, then ask again" if periods[-1].until is None else deploy
            return self.says(Outcome.FAIL, reason, left, *told)
        return self._by_slo(facts, source, f"it was live in {source} for {_minutes(longest)}", told)

    def _by_slo(self, facts: Facts, source: str, lived: str, told: list[str]) -> Answer:
        budget: Budget | Unknown | None = facts.budgets.get(source) if self.slo else None
        if budget is None:
            return self.says(Outcome.PASS, lived + (", which has no SLO" if self.slo else ""), "", *told)
        if isinstance(budget, Unknown) or budget.met is None:
            why = budget.reason if isinstance(budget, Unknown) else "the SLO's data do not suffice to tell"
            return self.says(Outcome.UNKNOWN, f"{lived}; {why}", "`slo: false` asks for the time alone", *told)
        if not budget.met:
            return self.says(Outcome.FAIL, f"{lived}, and its SLO is not met there", "wait until it is", *told)
        return self.says(Outcome.PASS, f"{lived}, and its SLO is met there", "", *told)


def _minutes(length: timedelta) -> str:
    return f"{length / timedelta(minutes=1):.1f} minutes"


def _told(period: LivePeriod, source: str) -> str:
    until = f"{period.until:%Y-%m-%d %H:%M:%S}Z" if period.until else "now"
    left = ", then taken back" if period.taken_back else ""
    return f"live in {source} from {period.since:%Y-%m-%d %H:%M:%S}Z to {until}{left}"
