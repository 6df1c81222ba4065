"""Tools that change what runs: recorded in the ship's log, denied ones too."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Annotated, Any, TypeVar

from pydantic import Field

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Name, Principal
from ..domain.value import Value
from ..operations.context import Scope
from ..operations.deploy_service import DeployRequest, deploy_service
from ..operations.manage_operation import OperationCommand, OperationsView, Report, manage_operation
from ..operations.operation_view import OperationView
from ..operations.plan_checks import DEPLOYMENT_FROM_WORDS, SCALING_FROM_WORDS
from ..operations.plan_from_words import Plannable, Words
from ..operations.plan_operation import only_words, plan_operation
from ..operations.scale_resources import ScaleRequest, scale_resources
from ..operations.tenancy import sight
from ..ports import Ports
from .tool import Tool

V = TypeVar("V", bound=Value)


class DeployCall(DeployRequest):
    """A deployment, of which service and environment are needed, and whether the caller waits for its end.

    request: in place of the rest, words; a plan answers them, and waits for a confirmation. service and environment
    beside it confine the plan.
    """

    service: Name | None = None  # type: ignore[assignment]
    environment: Name | None = None  # type: ignore[assignment]
    request: Words | None = None
    wait: bool = False
    timeout_seconds: Annotated[float, Field(ge=0, le=600)] = 300


class ScaleCall(ScaleRequest):
    """A change of the number of replicas, of which all three are needed, and whether the caller waits for its end.

    request: in place of the rest, words; a plan answers them. service and environment beside it confine the plan.
    """

    service: Name | None = None  # type: ignore[assignment]
    environment: Name | None = None  # type: ignore[assignment]
    replicas: Annotated[int, Field(ge=1, le=100)] | None = None  # type: ignore[assignment]
    request: Words | None = None
    wait: bool = False
    timeout_seconds: Annotated[float, Field(ge=0, le=600)] = 300


async def _planned(
    ports: Ports, who: Principal, kind: Plannable[Any], call: DeployCall | ScaleCall, words: str
) -> OperationView:
    only_words(call)
    scope = Scope(service=call.service or "", environment=call.environment or "")
    return await plan_operation(ports, who, kind, words, scope, dry_run=getattr(call, "dry_run", False))


def _typed(call: DeployCall | ScaleCall, request: type[V]) -> V:
    missing = [n for n, f in request.model_fields.items() if f.is_required() and getattr(call, n) is None]
    if missing:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            "; ".join(f"argument {name} is missing" for name in missing),
            "or say it in words, as request, for a plan",
        )
    return request.model_validate({name: getattr(call, name) for name in request.model_fields})


async def _deploy(ports: Ports, who: Principal, call: DeployCall, report: Report | None) -> OperationView:
    if call.request is not None:
        return await _planned(ports, who, DEPLOYMENT_FROM_WORDS, call, call.request)
    started = await deploy_service(ports, who, _typed(call, DeployRequest))
    if call.dry_run or not call.wait:
        return started
    return await _ended(ports, who, started.id, call.timeout_seconds, report)


def _plans(call: DeployCall, who: Principal) -> Hashable | None:
    """A plan names who asked for it."""
    return who if call.dry_run and call.request is None else None


async def _scale(ports: Ports, who: Principal, call: ScaleCall, report: Report | None) -> OperationView:
    if call.request is not None:
        return await _planned(ports, who, SCALING_FROM_WORDS, call, call.request)
    started = await scale_resources(ports, who, _typed(call, ScaleRequest))
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
        "traffic; a failing version is taken back. Answers an operation; live once it succeeded. A request in words is "
        "planned, and waits for your approve."
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
    description="Sets a service's replicas in an environment, during a rollout too; or plans a request in words.",
    request=ScaleCall,
    answer=OperationView,
    answer_names=HEADLINE,
    example={"service": "web", "environment": "production", "replicas": 3, "wait": True},
    call=_scale,
    answers_as="deploy_service",
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
