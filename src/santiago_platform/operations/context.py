"""Gathers what an advisor is told: what the caller itself may read of the workspace, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from ..domain.context import Section, clean, cut_lines, fenced, render
from ..domain.deployment import Version
from ..domain.environment import Settings
from ..domain.errors import PlatformError
from ..domain.identity import Principal
from ..domain.proposal import Ask, Task
from ..domain.signal import Signal
from ..domain.value import Value
from ..ports import Ports
from .ai_budget import spent_today
from .query_metrics import MetricsQuery, query_metrics
from .read_flags import read_flags
from .read_logs import LogsQuery, read_logs
from .tenancy import known_services, of_all_tenants

DOCUMENTS, DOCUMENT_CHARACTERS = 3, 3000
LOG_LINES, OPERATIONS, INCIDENTS = 12, 10, 5


class Scope(Value):
    """What a proposal is confined to, where the caller has named it; empty means: what the words name."""

    service: str = ""
    environment: str = ""
    flag: str = ""


async def build_ask(
    ports: Ports, principal: Principal, task: Task, words: str, scope: Scope, answer: dict[str, object]
) -> Ask:
    """The whole question. words: of the caller. answer: the JSON schema of the draft.

    What cannot be read now is left out.
    """
    settings = ports.workspace.last_good_settings()
    services = await known_services(ports, principal, settings)
    flags = await _flag_names(ports, principal)
    said = clean(words)
    about = _about(said, services, scope.service)
    gather: list[Callable[[], Awaitable[Section | None]]] = [
        lambda: _workspace(principal, settings, services),
        lambda: _deployments(ports, settings, services),
        lambda: _operations(ports, services, about),
    ]
    if of_all_tenants(principal) or len(settings.tenant_names) == 1:  # these are of all tenants together
        gather += [lambda: _documents(ports, about), lambda: _budget(ports)]
    if task is Task.FLAG_CHANGE:
        gather.append(lambda: _flags(ports, principal, scope))
    for service in about[:2]:
        for environment in [scope.environment] if scope.environment else list(settings.environments)[:3]:
            gather.append(lambda s=service, e=environment: _metrics(ports, principal, s, e))  # type: ignore[misc]
            gather.append(lambda s=service, e=environment: _error_budget(ports, s, e))  # type: ignore[misc]
            gather.append(lambda s=service, e=environment: _incidents(ports, s, e))  # type: ignore[misc]
        gather.append(lambda s=service: _logs(ports, principal, s, scope.environment))  # type: ignore[misc]
    found = await asyncio.gather(*(_or_nothing(one) for one in gather))
    context = render(
        [section for section in found if section is not None],
        settings.advisors.context_bytes,
        ports.advisors.redacted,
    )
    card = ports.workspace.role_card()
    confined = "".join(f"\nThe proposal must be of {name} {value}." for name, value in _named(scope))
    known = {
        "services": tuple(services),
        "environments": tuple(settings.environments),
        "flags": tuple(flags),
        **{name: (value,) for name, value in _named(scope)},
    }
    asked = fenced("request", cut_lines(ports.advisors.redacted(said)))
    return Ask(
        task=task,
        words=said,
        system=card,
        prompt=f"{principal.role} {principal.name} asks for a {task.replace('_', ' ')}, in these words:\n"
        f"{asked}{confined}\n\nThe workspace as it is now:\n\n{context}",
        answer=answer,
        known=known,
    )


def _named(scope: Scope) -> list[tuple[str, str]]:
    return [(name, value) for name, value in scope.model_dump().items() if value]


def _about(words: str, services: Sequence[str], service: str) -> list[str]:
    """The services that the request is about: the one that was named, else those that are said."""
    if service:
        return [service] if service in services else []
    said = set(words.lower().replace(",", " ").replace(".", " ").split())
    return [name for name in services if name in said]


async def _or_nothing(one: Callable[[], Awaitable[Section | None]]) -> Section | None:
    try:
        return await one()
    except PlatformError:
        return None


async def _workspace(principal: Principal, settings: Settings, services: Sequence[str]) -> Section:
    lines = [f"services: {', '.join(services) or 'none'}"]
    for name, environment in settings.environments.items():
        gates = ", ".join(sorted({gate.type for gate in environment.gates})) or "none"
        lines.append(f"environment {name}: platform {environment.platform}; gates: {gates}")
        for service in services:
            own = environment.settings(service)
            lines.append(f"  {service}: {own.replicas} replicas, strategy {own.strategy}")
    lines.append(f"you answer {principal.role} of tenant {principal.tenant}")
    return Section(title="Environments and settings", text="\n".join(lines), trusted=True, usefulness=90)


async def _deployments(ports: Ports, settings: Settings, services: Sequence[str]) -> Section:
    rows = await ports.store.read(
        lambda view: [(d, view.active_rollout(d.service, d.environment)) for d in view.deployments()]
    )
    lines = []
    for deployment, rollout in rows:
        if deployment.service not in services or deployment.environment not in settings.environments:
            continue
        live = _version(deployment.live) if deployment.live else "nothing is live"
        before = f"; before it: {_version(deployment.previous)}" if deployment.previous else ""
        under_way = f"; a rollout is {rollout.phase}" if rollout else ""
        lines.append(f"{deployment.service} in {deployment.environment}: {live}{before}{under_way}")
    return Section(
        title="What is live", text="\n".join(lines) or "nothing is deployed yet", trusted=True, usefulness=100
    )


def _version(version: Version) -> str:
    """Of its variables the names alone: the values may be what nobody else should read."""
    template = version.template
    limits = template.limits
    ports = ", ".join(f"{port.name} {port.target}" for port in template.ports) or "none"
    return (
        f"version {version.name}, release {template.release}, {version.replicas} replicas, ports {ports}, "
        f"memory {limits.memory_bytes or 'unlimited'}, cpu {limits.cpu_cores or 'unlimited'}, "
        f"{len(template.variables)} variables"
    )


async def _operations(ports: Ports, services: Sequence[str], about: Sequence[str]) -> Section:
    found = await ports.store.read(lambda view: view.operations(limit=100))
    mine = [o for o in found if o.service in (about or services)][:OPERATIONS]
    lines = [
        f"{o.created_at.isoformat(timespec='minutes')} {o.kind} {o.service}/{o.environment} by {o.principal.name}: "
        f"{o.state}" + (f", {o.reason}" if o.reason else "")
        for o in mine
    ]
    return Section(title="Recent operations", text="\n".join(lines), trusted=False, usefulness=60)


async def _documents(ports: Ports, about: Sequence[str]) -> Section | None:
    chosen = [(path, text) for path, text in ports.workspace.documents() if any(name in text for name in about)]
    text = "\n\n".join(f"{path}\n{text[:DOCUMENT_CHARACTERS]}" for path, text in chosen[:DOCUMENTS])
    return Section(title="Architecture documents", text=text, trusted=False, usefulness=30)


async def _budget(ports: Ports) -> Section:
    budget, spent = await spent_today(ports, ports.clock.now())
    text = f"${spent.total_usd:f} of ${budget.daily_usd:f} of the day's AI budget are spent or reserved"
    return Section(title="AI budget", text=text, trusted=True, usefulness=10)


async def _flag_names(ports: Ports, principal: Principal) -> list[str]:
    try:
        return sorted({f.flag for f in (await read_flags(ports, principal, None, None, history=False)).flags})
    except PlatformError:
        return []


async def _flags(ports: Ports, principal: Principal, scope: Scope) -> Section:
    shown = await read_flags(ports, principal, None, scope.environment or None, history=False)
    lines = [f"{f.flag} in {f.environment or 'all environments'}: {f.serves}" for f in shown.flags]
    return Section(title="Feature flags", text="\n".join(lines), trusted=False, usefulness=95)


async def _metrics(ports: Ports, principal: Principal, service: str, environment: str) -> Section | None:
    lines = []
    for signal in Signal:
        query = MetricsQuery(signal=signal, service=service, environment=environment, window_seconds=900, limit=5)
        answer = await query_metrics(ports, principal, query)
        for series in answer.series:
            if series.last is not None:
                lines.append(
                    f"{signal} ({answer.unit}), version {series.labels.get('version', '?')}: last {series.last:.4g}, "
                    f"mean {series.mean or 0:.4g}, highest {series.maximum or 0:.4g}"
                )
    title = f"Metrics of {service} in {environment}, the last 15 minutes"
    return Section(title=title, text="\n".join(lines), trusted=False, usefulness=50)


async def _error_budget(ports: Ports, service: str, environment: str) -> Section | None:
    """Of its tightest SLO."""
    state = await ports.error_budget.state(service, environment)
    if state is None:
        return None
    target = await ports.error_budget.target(service)
    lines = [f"SLO: {target:.4%} of what it is asked" if target is not None else "SLO: its target is not known"]
    if state.met is not None:
        lines.append("the SLO holds over its period" if state.met else "the SLO does not hold over its period")
    left = state.remaining_ratio
    lines.append(f"error budget left: {left:.1%}" if left is not None else "error budget left: too few data")
    title = f"SLO and error budget of {service} in {environment}"
    return Section(title=title, text="\n".join(lines), trusted=True, usefulness=70)


async def _incidents(ports: Ports, service: str, environment: str) -> Section:
    """Their titles come from alerts, so from rules and labels that others wrote."""
    found = await ports.incidents.open(service, environment)
    lines = [
        f"{one.id} since {one.opened_at.isoformat(timespec='minutes')}"
        + f"{', wakes somebody' if one.page else ''}: {one.title}"
        for one in found[-INCIDENTS:]
    ]
    return Section(
        title=f"Open incidents of {service} in {environment}", text="\n".join(lines), trusted=False, usefulness=85
    )


async def _logs(ports: Ports, principal: Principal, service: str, environment: str) -> Section:
    query = LogsQuery(service=service, environment=environment or None, level="error", limit=LOG_LINES)
    page = await read_logs(ports, principal, query)
    text = "\n".join(f"{line.environment} {line.version} {line.level}: {line.text}" for line in page.lines)
    return Section(title=f"Last errors that {service} logged", text=text, trusted=False, usefulness=40)
