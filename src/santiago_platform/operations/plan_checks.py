"""What a proposal must pass beyond the checks of its own operation, and what it would change: of deployments, replicas
and flags."""

from __future__ import annotations

from pydantic import model_validator

from ..domain.canary import Canary
from ..domain.deployment import Deployment
from ..domain.environment import Settings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.guard_rails import Deploying, check_deployment, check_flag_removal, check_replicas
from ..domain.identity import Name, Principal
from ..domain.proposal import Draft, Task
from ..domain.strategy import Strategy
from ..domain.value import Value
from ..ports import Ports
from .authority import authorise
from .configure_flag import FlagChange, admit_to_flags, check_flag_change
from .context import Scope
from .deploy_service import DeployRequest, deploy_service
from .manage_operation import OperationCommand
from .plan_from_words import Checked, Plannable, confined
from .scale_resources import ScaleRequest, check_scaling, scale_resources
from .tenancy import require_service


class RollbackPlan(Value):
    """Back to the version before."""

    service: Name
    environment: Name


class DeploymentPlan(Value):
    """Exactly one of deploy and rollback."""

    deploy: DeployRequest | None = None
    rollback: RollbackPlan | None = None

    @model_validator(mode="after")
    def _is_one(self) -> DeploymentPlan:
        if (self.deploy is None) == (self.rollback is None):
            raise ValueError("exactly one of deploy and rollback")
        return self


async def _deployment(ports: Ports, service: str, environment: str) -> Deployment | None:
    return await ports.store.read(lambda view: view.deployment(service, environment))


async def _check_deployment(ports: Ports, principal: Principal, scope: Scope, plan: DeploymentPlan) -> Checked:
    if plan.deploy is None:
        assert plan.rollback is not None  # noqa: S101 - it is one or the other
        return await _check_rollback(ports, principal, scope, plan.rollback)
    asked = plan.deploy.model_copy(update={"dry_run": False})
    confined(scope, service=asked.service, environment=asked.environment)
    view = await deploy_service(ports, principal, asked.model_copy(update={"dry_run": True}))
    settings = ports.workspace.settings()
    usual = settings.environments[asked.environment].settings(asked.service)
    deployment = await _deployment(ports, asked.service, asked.environment)
    live = deployment.live if deployment else None
    strategy, canary = usual.strategy or Strategy.BLUE_GREEN, usual.canary or Canary()

    def bake(by: Strategy) -> float:
        pauses = sum(step.pause_seconds for step in canary.steps) if by is Strategy.CANARY and live else 0.0
        return pauses + (usual.watch_seconds or 0.0)

    check_deployment(
        settings.advisors.guard_rails,
        Deploying(
            environment=asked.environment,
            kind=settings.kind_of(asked.environment),
            replicas=asked.replicas,
            strategy=asked.strategy,
            fixes=asked.fixes is not None,
            hold=asked.hold,
            current=live.replicas if live else 0,
            configured=usual.replicas or 1,
            usual=strategy,
            first_weight=canary.steps[0].weight,
            bake_seconds=bake(asked.strategy or strategy),
            usual_bake_seconds=bake(strategy),
        ),
    )
    what = next(f"{n} {v}" for n in ("release", "git_ref", "from_environment") if (v := getattr(asked, n)) is not None)
    before = f"version {live.name}, {live.replicas} replicas" if live else "nothing"
    return Checked(
        tool="deploy_service",
        request=asked,
        changes=(
            f"{asked.service} in {asked.environment}: {what} in place of {before}",
            f"strategy {asked.strategy or usual.strategy}, {asked.replicas or usual.replicas or 1} replicas"
            + (", held before traffic moves" if asked.hold else ""),
        ),
        way_back="manage_operation rollback: the version before stays warm for a while"
        if live
        else "manage_operation abort takes it back; there is no version before it",
        view=view,
        hold=lambda advice: deploy_service(ports, principal, asked, advice=advice),
    )


async def _check_rollback(ports: Ports, principal: Principal, scope: Scope, plan: RollbackPlan) -> Checked:
    confined(scope, service=plan.service, environment=plan.environment)
    settings = ports.workspace.settings()
    service, environment = plan.service, plan.environment
    authorise(ports, principal, "manage_operation.rollback", settings, service=service, environment=environment)
    await require_service(ports, principal, settings, plan.service)
    deployment = await _deployment(ports, plan.service, plan.environment)
    previous = deployment.previous if deployment else None
    if deployment is None or deployment.live is None or previous is None:
        raise PlatformError(
            ErrorCode.NOT_FOUND,
            f"{plan.service}/{plan.environment} has no version to go back to",
            "deploy_service with an older release does the same; manage_operation history lists them",
        )
    return Checked(
        tool="manage_operation",
        request=OperationCommand(action="rollback", service=plan.service, environment=plan.environment),
        changes=(f"{plan.service} in {plan.environment}: {previous.name} in place of {deployment.live.name}",),
        way_back=f"deploy_service with release {deployment.live.template.release}",
    )


async def _check_scaling(ports: Ports, principal: Principal, scope: Scope, asked: ScaleRequest) -> Checked:
    confined(scope, service=asked.service, environment=asked.environment)
    await check_scaling(ports, principal, asked)
    settings = ports.workspace.settings()
    deployment = await _deployment(ports, asked.service, asked.environment)
    current = deployment.live.replicas if deployment and deployment.live else 0
    usual = settings.environments[asked.environment].settings(asked.service)
    check_replicas(settings.advisors.guard_rails, asked.replicas, current=current, configured=usual.replicas or 1)
    return Checked(
        tool="scale_resources",
        request=asked,
        changes=(f"{asked.service} in {asked.environment}: {asked.replicas} replicas in place of {current}",),
        way_back=f"scale_resources to {current} replicas" if current else "manage_operation abort",
        hold=lambda advice: scale_resources(ports, principal, asked, advice=advice),
    )


async def _check_flag(ports: Ports, principal: Principal, scope: Scope, asked: FlagChange) -> Checked:
    confined(scope, flag=asked.flag, environment=asked.environment)
    await check_flag_change(ports, principal, asked)
    if asked.action == "delete":
        check_flag_removal(ports.workspace.settings().advisors.guard_rails)
    where = f"in {asked.environment}" if asked.environment else "in all environments"
    share = f" to {asked.percent}% of the users" if asked.percent is not None else ""
    minutes = f" within {asked.minutes} minutes" if asked.minutes is not None else ""
    return Checked(
        tool="configure_flag",
        request=asked,
        changes=(f"flag {asked.flag} {where}: {asked.action}{share}{minutes}",),
        way_back="configure_flag restore" if asked.action == "kill" else "configure_flag rollback",
    )


def _may(ports: Ports, principal: Principal, settings: Settings, action: str) -> None:
    """Before anybody is asked: whoever may do it nowhere gets no plan of it."""
    authorise(ports, principal, action, settings, waits=True)


def _may_change_flags(ports: Ports, principal: Principal, settings: Settings) -> None:
    admit_to_flags(ports, principal, "configure_flag.kill", settings, "", waits=True)


DEPLOYMENT_FROM_WORDS = Plannable(
    task=Task.DEPLOYMENT_PLAN,
    action="deploy_service",
    draft=Draft[DeploymentPlan],
    admit=lambda ports, principal, settings: _may(ports, principal, settings, "deploy_service"),
    check=_check_deployment,
)

SCALING_FROM_WORDS = Plannable(
    task=Task.SCALING_PLAN,
    action="scale_resources",
    draft=Draft[ScaleRequest],
    admit=lambda ports, principal, settings: _may(ports, principal, settings, "scale_resources"),
    check=_check_scaling,
)

FLAG_CHANGE_FROM_WORDS = Plannable(
    task=Task.FLAG_CHANGE,
    action="configure_flag",
    draft=Draft[FlagChange],
    admit=lambda ports, who, settings: _may_change_flags(ports, who, settings),
    check=_check_flag,
)
