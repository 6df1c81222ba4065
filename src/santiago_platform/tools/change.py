"""Tools that change what runs: recorded in the ship's log, denied ones too."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Annotated

from pydantic import Field

from ..domain.identity import Principal
from ..operations.deploy_service import DeployRequest, deploy_service
from ..operations.manage_operation import OperationCommand, OperationsView, Report, manage_operation
from ..operations.operation_view import OperationView
from ..operations.scale_resources import ScaleRequest, scale_resources
from ..operations.tenancy import sight
from ..ports import Ports
from .tool import Tool


class DeployCall(DeployRequest):
    """A deployment, and whether the caller waits for its end."""

    wait: bool = False
    timeout_seconds: Annotated[float, Field(ge=0, le=600)] = 300


class ScaleCall(ScaleRequest):
    """A change of the number of replicas, and whether the caller waits for its end."""

    wait: bool = False
    timeout_seconds: Annotated[float, Field(ge=0, le=600)] = 300


async def _deploy(ports: Ports, who: Principal, call: DeployCall, report: Report | None) -> OperationView:
    started = await deploy_service(ports, who, call)
    if call.dry_run or not call.wait:
        return started
    return await _ended(ports, who, started.id, call.timeout_seconds, report)


def _plans(call: DeployCall, who: Principal) -> Hashable | None:
    """A plan names who asked for it."""
    return who if call.dry_run else None


async def _scale(ports: Ports, who: Principal, call: ScaleCall, report: Report | None) -> OperationView:
    started = await scale_resources(ports, who, call)
    return await _ended(ports, who, started.id, call.timeout_seconds, report) if call.wait else started


async def _ended(
    ports: Ports, who: Principal, operation: str, timeout_seconds: float, report: Report | None
) -> OperationView:
    command = OperationCommand(action="wait", operation=operation, timeout_seconds=timeout_seconds)
    return (await manage_operation(ports, who, command, report)).operations[0]


async def _manage(ports: Ports, who: Principal, command: OperationCommand, report: Report | None) -> OperationsView:
    return await manage_operation(ports, who, command, report)


def _looks(command: OperationCommand, who: Principal) -> Hashable | None:
    return sight(who) if command.action in ("status", "history") else None


HEADLINE = ("id", "state", "reason", "plan", "proof", "next")  # of an operation; manage_operation tells all names

DEPLOY_SERVICE = Tool(
    name="deploy_service",
    title="Deploy service",
    description=(
        "Deploys exactly one of git_ref (built first), release or from_environment. Only healthy instances get "
        "traffic; a failing version is taken back. Answers an operation; live once it succeeded."
    ),
    request=DeployCall,
    answer=OperationView,
    answer_names=HEADLINE,
    example={"service": "web", "environment": "production", "git_ref": "HEAD", "wait": True},
    call=_deploy,
    audience=_plans,
    destructive=True,
)

SCALE_RESOURCES = Tool(
    name="scale_resources",
    title="Scale resources",
    description="Sets a service's replicas in an environment, during a rollout too.",
    request=ScaleCall,
    answer=OperationView,
    answer_names=HEADLINE,
    example={"service": "web", "environment": "production", "replicas": 3, "wait": True},
    call=_scale,
    idempotent=True,
)

MANAGE_OPERATION = Tool(
    name="manage_operation",
    title="Manage operation",
    description=(
        "status; wait for the end; promote what is held; abort what runs; rollback to a former version; history; "
        "approve or reject what is awaiting: plan is the hash that you saw. Of an operation, or the newest of a "
        "service and environment."
    ),
    request=OperationCommand,
    answer=OperationsView,
    example={"action": "rollback", "service": "web", "environment": "production"},
    call=_manage,
    audience=_looks,
    destructive=True,
)
