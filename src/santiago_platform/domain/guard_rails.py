"""Guard rails: what a proposal may not do although its caller could, by typed arguments. Pure.

They only take away: what passes them meets the same policy, gates and quotas as any caller's request.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from .errors import ErrorCode, PlatformError
from .identity import Name
from .strategy import Strategy
from .value import Value


class GuardRails(Value):
    """growth, shrink: a proposal may not take replicas beyond `growth` times what runs, nor below the share `shrink`
    of it; up to `replicas`, and up to what santiago.yaml says, more is no matter. canary_weight: percent that the first
    step of a canary may have. hold_first: environments, or kinds of them, whose first deployment of a service must be
    held for a person. downtime: whether strategy recreate may be proposed. fixes: whether a proposal may name an
    incident, which opens gates. delete_flags: whether it may remove a flag.
    """

    growth: Annotated[float, Field(ge=1, le=100)] = 2.0
    shrink: Annotated[float, Field(ge=0, le=1)] = 0.5
    replicas: Annotated[int, Field(ge=0, le=100)] = 5
    canary_weight: Annotated[int, Field(ge=0, le=99)] = 25
    hold_first: tuple[Name, ...] = ("production",)
    downtime: bool = False
    fixes: bool = False
    delete_flags: bool = False


class Deploying(Value):
    """What a deployment that was proposed would mean. kind: of the environment. replicas, strategy, hold: as proposed;
    None is santiago.yaml's.

    current: replicas that run now; 0 where nothing is live. configured: replicas of santiago.yaml. usual: its strategy.
    first_weight: of its canary.
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


def _refused(rule: str, why: str) -> PlatformError:
    return PlatformError(
        ErrorCode.FAILED_PRECONDITION,
        f"the guard rail {rule} refuses what was proposed: {why}",
        f"say it by typed arguments, or set advisors.guard_rails.{rule} in santiago.yaml",
    )
