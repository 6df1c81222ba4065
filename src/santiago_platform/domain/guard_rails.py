"""Guard rails: what a proposal may not do although its caller could, by typed arguments. Pure.

They only take away: what passes them meets the same policy, gates and quotas as any caller's request.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Annotated

from pydantic import Field, JsonValue

from .errors import ErrorCode, PlatformError
from .exposure import exposures
from .identity import Name
from .strategy import Strategy
from .value import Value


class GuardRails(Value):
    """growth, shrink: a proposal may not take replicas beyond `growth` times what runs, nor below the share `shrink`
    of it; up to `replicas`, and up to what santiago.yaml says, more is no matter. canary_weight: percent that the first
    step of a canary may have. hold_first: environments, or kinds of them, whose first deployment of a service must be
    held for a person. downtime: whether strategy recreate may be proposed. fixes: whether a proposal may name an
    incident, which opens gates. delete_flags: whether it may remove a flag. cost_usd: that asking for one
    proposal may cost.

    public, privilege, bypass: whether a request may carry what `exposure` finds: reach from beyond this machine, rights
    beyond those of a service, and ways round the platform's checks.
    """

    growth: Annotated[float, Field(ge=1, le=100)] = 2.0
    shrink: Annotated[float, Field(ge=0, le=1)] = 0.5
    replicas: Annotated[int, Field(ge=0, le=100)] = 5
    canary_weight: Annotated[int, Field(ge=0, le=99)] = 25
    skip_canary: bool = False
    bake_seconds: Annotated[float, Field(ge=0, le=7 * 86400)] = 600.0
    hold_first: tuple[Name, ...] = ("production",)
    downtime: bool = False
    fixes: bool = False
    delete_flags: bool = False
    cost_usd: Annotated[Decimal, Field(ge=0, le=10_000)] = Decimal(3)
    public: bool = False
    privilege: bool = False
    bypass: bool = False


class Deploying(Value):
    """What a deployment that was proposed would mean. kind: of the environment. replicas, strategy, hold: as proposed;
    None is santiago.yaml's.

    current: replicas that run now; 0 where nothing is live. configured: replicas of santiago.yaml. usual: its strategy.
    first_weight: of its canary. bake_seconds: that the new version would be watched; usual_bake_seconds: by
    santiago.yaml's strategy.
    """

    environment: str
    kind: str
    replicas: int | None
    strategy: Strategy | None
    fixes: bool
    hold: bool
    current: int
    configured: int
    usual: Strategy
    first_weight: int
    bake_seconds: float
    usual_bake_seconds: float


def check_deployment(rails: GuardRails, asked: Deploying) -> None:
    """Raises PlatformError(FAILED_PRECONDITION) that names the rule."""
    if asked.fixes and not rails.fixes:
        raise _refused("fixes", "it names an incident, which lets gates make an exception")
    held = {asked.environment, asked.kind} & set(rails.hold_first)
    if not asked.current and held and not asked.hold:
        raise _refused("hold_first", f"nothing is live in {asked.environment} yet, and it would not be held")
    if asked.strategy is Strategy.RECREATE and asked.usual is not Strategy.RECREATE and not rails.downtime:
        raise _refused("downtime", "strategy recreate stops the old version first")
    strategy = asked.strategy or asked.usual
    if strategy is Strategy.CANARY and asked.first_weight > rails.canary_weight:
        raise _refused(
            "canary_weight",
            f"the first step has {asked.first_weight}% of the traffic, more than {rails.canary_weight}%",
        )
    if strategy is not Strategy.CANARY and asked.usual is Strategy.CANARY and asked.current and not rails.skip_canary:
        raise _refused("skip_canary", f"strategy {strategy} gives all the traffic at once where a canary is usual")
    least = min(rails.bake_seconds, asked.usual_bake_seconds)
    if asked.bake_seconds < least:
        raise _refused(
            "bake_seconds", f"the new version would be watched for {asked.bake_seconds:g} s: at least {least:g} s"
        )
    if asked.replicas is not None:
        check_replicas(rails, asked.replicas, current=asked.current, configured=asked.configured)


def check_replicas(rails: GuardRails, replicas: int, *, current: int, configured: int) -> None:
    """Raises PlatformError(FAILED_PRECONDITION) that names the rule."""
    most = max(math.floor(rails.growth * current), configured, rails.replicas)
    if replicas > most:
        raise _refused("growth", f"{replicas} replicas where {current} run: at most {most}")
    least = min(math.ceil(rails.shrink * current), configured) if current else 0
    if replicas < least:
        raise _refused("shrink", f"{replicas} replicas where {current} run: at least {least}")


def check_flag_removal(rails: GuardRails) -> None:
    if not rails.delete_flags:
        raise _refused("delete_flags", "it would remove a flag")


def check_exposure(rails: GuardRails, request: JsonValue) -> None:
    """Of any typed request, as JSON. Raises PlatformError(FAILED_PRECONDITION) that names the rule and the field."""
    for found in exposures(request):
        if not getattr(rails, found.rule):
            raise _refused(found.rule, f"{found.where} is {found.what}")


def check_cost(rails: GuardRails, spent_usd: Decimal, worst_case_usd: Decimal) -> None:
    """Before an advisor is asked once more. spent_usd: for this proposal so far."""
    if spent_usd + worst_case_usd > rails.cost_usd:
        so_far = f"beside ${spent_usd:f}: at most ${rails.cost_usd:f}"
        raise _refused("cost_usd", f"asking once more may cost ${worst_case_usd:f} {so_far}")


def _refused(rule: str, why: str) -> PlatformError:
    return PlatformError(
        ErrorCode.FAILED_PRECONDITION,
        f"the guard rail {rule} refuses what was proposed: {why}",
        f"say it by typed arguments, or set advisors.guard_rails.{rule} in santiago.yaml",
    )
