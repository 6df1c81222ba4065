"""A canary: by which steps a new version gets more of the traffic, and when a step is done. Pure.

    weight ---> pause, requests, approval, analysis ---> the next weight ... ---> all of it
                      | worse than stable, or unable
                      v the way back

What speaks against the canary ends it at any step. What speaks for it counts at the step that asks for an analysis.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from .judge import Direction, Judge, Verdict
from .route import MATCHES_AT_MOST, CookieName, CookieValue, HeaderName, HeaderValue, Match, Mirror, Unreserved
from .value import Value


class Step(Value):
    """weight: percent of the traffic that goes to the canary. The step is done when all that it asks for is so:
    pause_seconds have passed; requests: that many, of the canary at this weight; approval: somebody promoted it;
    analysis: the judge passes it. replicas: of the canary; None means: its weight's share of what the service has.
    """

    weight: Annotated[int, Field(ge=0, le=99)]
    pause_seconds: Annotated[float, Field(ge=0, le=7 * 86400)] = 0.0
    requests: Annotated[int, Field(ge=0)] = 0
    approval: bool = False
    analysis: bool = False
    replicas: Annotated[int, Field(ge=1, le=100)] | None = None


# Two minutes at a share that harms few find what is clearly bad; then as much as possible speaks for the canary.
DEFAULT_STEPS = (
    Step(weight=5, pause_seconds=60),
    Step(weight=20, pause_seconds=60),
    Step(weight=50, analysis=True),
)


class Otherwise(StrEnum):
    """What to do with a step that is not decided after `max_wait_seconds`."""

    HOLD = "hold"  # it stays as it is, until somebody promotes or aborts it
    ABORT = "abort"
    SYNTHETIC = "synthetic"  # the platform asks both versions itself, and waits as long again


class Query(Value):
    """A value of each version, by PromQL in which `$service`, `$environment` and `$version` are filled in.

    better: which values are. tolerance_ratio: how much worse the canary's may be, 0.1 is a tenth. weight: beside the
    other metrics in the decision to abort. dry_run: it reports and decides nothing.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9 _-]{0,40}$")]
    query: Annotated[str, Field(min_length=1, max_length=2000)]
    better: Direction = Direction.LOWER
    tolerance_ratio: Annotated[float, Field(ge=0, le=100)] = 0.1
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0
    dry_run: bool = False


Path = Annotated[str, Field(pattern=r"^/[!-~]*$")]


class Synthetic(Value):
    """Requests that the platform makes itself, to both versions alike. paths: asked in turn, by GET. per_second: to
    both together."""

    paths: Annotated[tuple[Path, ...], Field(min_length=1, max_length=50)] = ("/",)
    per_second: Annotated[float, Field(gt=0, le=100)] = 10.0


class Visitors(Value):
    """Requests that go to the canary whatever its weight: those with all of these, by name and exact value."""

    header: Annotated[dict[HeaderName, HeaderValue], Field(max_length=1)] = {}
    cookie: Annotated[dict[CookieName, CookieValue], Field(max_length=1)] = {}
    query: Annotated[dict[Unreserved, Unreserved], Field(max_length=1)] = {}

    @model_validator(mode="after")
    def _says_something(self) -> Visitors:
        if not (self.header or self.cookie or self.query):
            raise ValueError("say by which header, cookie or query parameter")
        return self

    def match(self, version: str) -> Match:
        header, cookie, query = (next(iter(named.items()), None) for named in (self.header, self.cookie, self.query))
        return Match(version=version, header=header, cookie=cookie, query=query)


class Canary(Value):
    """How a service's canaries go. visitors: who gets the canary at any weight. sticky: a user stays on a version while
    the weight rises. mirror_percent: of the safe requests, a copy goes to the canary, its answers thrown away, before
    it has any weight. bucket_seconds: of the judge; None lets the history of stable choose. latency: whether slower
    answers count.
    """

    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=50)] = DEFAULT_STEPS
    visitors: Annotated[tuple[Visitors, ...], Field(max_length=MATCHES_AT_MOST - 2)] = ()
    sticky: bool = False
    mirror_percent: Annotated[int, Field(ge=0, le=100)] = 0
    metrics: Annotated[tuple[Query, ...], Field(max_length=20)] = ()
    latency: bool = True
    bucket_seconds: Annotated[int, Field(ge=1, le=300)] | None = None
    max_wait_seconds: Annotated[float, Field(gt=0, le=7 * 86400)] = 6 * 3600.0
    otherwise: Otherwise = Otherwise.HOLD
    synthetic: Synthetic = Synthetic()

    @model_validator(mode="after")
    def _weights_rise(self) -> Canary:
        weights = [step.weight for step in self.steps]
        if weights != sorted(weights):
            raise ValueError(f"the weights of the steps must not fall: {', '.join(map(str, weights))}")
        if len({m.name for m in self.metrics}) < len(self.metrics):
            raise ValueError("two metrics have the same name")
        return self

    def weight(self, step: int) -> int:
        """Of a step, from 0; after the last one, all."""
        return self.steps[step].weight if step < len(self.steps) else 100

    def mirror(self, version: str) -> Mirror | None:
        return Mirror(version=version, percent=self.mirror_percent) if self.mirror_percent else None

    def replicas(self, step: int, whole: int) -> int:
        """How many instances the canary has at a step, of a service that has `whole`."""
        if step >= len(self.steps):
            return whole
        said = self.steps[step].replicas
        return min(whole, said) if said else max(1, math.ceil(whole * self.steps[step].weight / 100))


class Analysis(Value):
    """What is known of a canary so far; stored with its rollout, so that a restart forgets nothing.

    bucket_seconds: between two looks. began_at: when judging began. slow_seconds: the frozen edge beyond which a
    request counts as slow, None where latency is not judged. notes: what was settled before, in words. looked_at: when
    the last bucket ended.
    """

    judge: Judge
    bucket_seconds: int
    began_at: datetime
    slow_seconds: float | None = None
    notes: tuple[str, ...] = ()
    looked_at: datetime | None = None

    def at_new_weight(self) -> Analysis:
        return self.model_copy(update={"judge": self.judge.at_new_weight()})

    def after_jump(self, jump: timedelta) -> Analysis:
        moved = {"began_at": self.began_at + jump}
        return self.model_copy(update=moved | ({"looked_at": self.looked_at + jump} if self.looked_at else {}))

    def minute(self, now: datetime) -> int:
        return max(0, int((now - self.began_at).total_seconds() // 60))


_APPROVAL = "somebody to promote it"


class Progress(Value):
    """Whether a step is done, and if not, what it waits for, in words. late: it has waited for as long as it may.
    needs_somebody: only a person's word takes it on."""

    done: bool
    waits_for: str = ""
    late: bool = False
    needs_somebody: bool = False
    requests_needed: int | None = None


def step_progress(
    canary: Canary,
    step: int,
    analysis: Analysis | None,
    *,
    since: datetime,
    now: datetime,
    approved: bool,
    synthetic: bool = False,
) -> Progress:
    """since: when the step got its weight, or, with synthetic, when the platform began to make requests itself: from
    then it has as long again, and its pause is over. approved: somebody promoted it, which stands for whatever it
    waits for."""
    if approved:
        return Progress(done=True)
    asked = canary.steps[step]
    waits: list[str] = []
    left = (since + timedelta(seconds=asked.pause_seconds) - now).total_seconds()
    if left > 0 and not synthetic:
        waits.append(f"{math.ceil(left)} s of its pause")
    seen = analysis.judge.counted[0].at_weight.canary_requests if analysis else 0
    if seen < asked.requests:
        waits.append(f"{asked.requests - seen:,} more requests of the canary")
    judgement = analysis.judge.judgement() if analysis and asked.analysis else None
    if analysis is None:  # no step goes on unjudged
        waits.append("the history of the version before")
    elif judgement is not None and judgement.verdict is not Verdict.PASS:
        waits.append(judgement.reason)
    if asked.approval:
        waits.append(_APPROVAL)
    limit = timedelta(seconds=max(canary.max_wait_seconds, asked.pause_seconds))
    late = bool(waits) and now - since > limit
    return Progress(
        done=not waits,
        waits_for="; ".join(waits),
        late=late,
        needs_somebody=waits == [_APPROVAL] or (late and (synthetic or canary.otherwise is Otherwise.HOLD)),
        requests_needed=judgement.requests_needed if judgement else None,
    )
