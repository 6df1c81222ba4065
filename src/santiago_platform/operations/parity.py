"""Compares a service's environments, each with the one before it in santiago.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

from ..domain.deployment import Deployment
from ..domain.environment import Settings
from ..domain.parity import Side, compare
from ..domain.value import Value


class ParityView(Value):
    """differences: those that nobody allowed come first. unexplained: how many these are."""

    there: str
    here: str
    unexplained: int
    differences: tuple[str, ...]


def parity(
    settings: Settings, services: Iterable[str], deployments: Mapping[tuple[str, str], Deployment]
) -> dict[str, tuple[ParityView, ...]]:
    """By service, of those that are live somewhere. deployments: by service and environment."""
    return {
        service: tuple(views)
        for service in services
        if (views := _of(settings, service, {name: deployments.get((service, name)) for name in settings.environments}))
    }


def _of(settings: Settings, service: str, deployments: Mapping[str, Deployment | None]) -> list[ParityView]:
    sides = [_side(settings, service, name, deployment) for name, deployment in deployments.items()]
    views = []
    for there, here in pairwise(sides):
        if there.live is None and here.live is None:
            continue
        differences = sorted(compare(there, here, settings.parity.allowed), key=lambda found: bool(found.allowed))
        views.append(
            ParityView(
                there=there.environment,
                here=here.environment,
                unexplained=sum(not difference.allowed for difference in differences),
                differences=tuple(map(str, differences)),
            )
        )
    return views


def _side(settings: Settings, service: str, environment: str, deployment: Deployment | None) -> Side:
    live = deployment.live if deployment else None
    return Side(
        environment=environment,
        settings=settings.environments[environment].settings(service),
        live=live.template if live else None,
        replicas=live.replicas if live else None,
        gates=tuple(gate.label for gate in settings.environments[environment].gates),
    )
