"""What a change does in words: the plan of each kind of change. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .deployment import Version
from .job import Job
from .plan import Plan, exactly
from .rollout import Rollout
from .secret import Secret, SecretVersion
from .strategy import Strategy
from .way_back import way_back
from .workload import Template


def plan_of_rollout(rollout: Rollout, commit: str | None = None, *, fixes: str = "") -> Plan:
    """Of a deployment or of a change of the number of replicas. The new version is known. fixes: the incident that it
    is said to be the fix of."""
    new, old = rollout.new, rollout.old
    assert new is not None  # noqa: S101 - nobody approves what is not built
    where = f"{rollout.service}/{rollout.environment}"
    changes = [f"{where}: {'the first version' if old is None else f'version {old.name}'} -> version {new.name}"]
    if rollout.unchanged:
        changes = [f"{where}: version {new.name} stays"]
    else:
        changes.append(f"release {new.template.release}" + (f", commit {commit}" if commit else ""))
        if old is not None:
            changes += _configuration(old.template, new.template)
        changes.append(_by_strategy(rollout))
        changes += [f"job {job.name} ({job.when})" for job in new.jobs if rollout.runs_jobs]
    if fixes:
        changes.append(f"as the fix of {fixes}: gates may let it pass for that")
    before = old.replicas if old is not None else 0
    changes.append(f"{before} -> {rollout.replicas} replicas" if before != rollout.replicas else f"{before} replicas")
    return Plan(
        changes=tuple(changes),
        way_back=way_back(rollout) or f"scale back to {before} replicas",
        risk="some requests fail between the stop and the start" if rollout.strategy is Strategy.RECREATE else "",
        exact=exactly(
            {
                "target": [rollout.service, rollout.environment, rollout.tenant],
                "version": new.name,
                "release": new.template.release,
                "jobs": [job.model_dump(mode="json") for job in new.jobs],
                "replicas": rollout.replicas,
                "strategy": rollout.strategy,
                "canary": rollout.canary.model_dump(mode="json") if rollout.canary else None,
                "hold": rollout.hold,
                "fixes": fixes,
                "seconds": [
                    rollout.ready_timeout_seconds,
                    rollout.drain_timeout_seconds,
                    rollout.rollback_window_seconds,
                    rollout.watch_seconds,
                ],
            }
        ),
    )


def _by_strategy(rollout: Rollout) -> str:
    if rollout.canary is None:
        return f"by {rollout.strategy}" + (", held before traffic moves" if rollout.hold else "")
    return "by canary: " + ", ".join(f"{step.weight}%" for step in rollout.canary.steps) + ", judged"


_SAID = frozenset({"service", "environment", "tenant", "release", "variables", "secrets"})  # in words of their own
_WORDS = {"beside": "further containers", "stop_grace_seconds": "stop grace"}


def _configuration(old: Template, new: Template) -> list[str]:
    """Names alone, and of secrets their versions: a value may be what nobody else should read."""
    words = _differences("variables", dict(old.variables), dict(new.variables))
    before = {c.name: dict(c.variables) for c in old.beside}
    for container in new.beside:
        what = f"variables of {container.name}"
        words += _differences(what, before.get(container.name, {}), dict(container.variables))
    was, now = ({"/".join(filter(None, (s.service, s.name))): s.version for s in t.secrets} for t in (old, new))
    words += _differences("secrets", was, now, lambda name: f"{name} {was[name]} -> {now[name]}")
    others = [name for name in Template.model_fields if name not in _SAID and getattr(old, name) != getattr(new, name)]
    return words + ([f"changed too: {', '.join(_WORDS.get(name, name) for name in others)}"] if others else [])


def _differences(
    what: str, old: Mapping[str, object], new: Mapping[str, object], shown: Callable[[str], str] = str
) -> list[str]:
    """shown: how one that changed is named."""
    changed = [shown(name) for name in sorted(old.keys() & new.keys()) if old[name] != new[name]]
    words = [("added", sorted(new.keys() - old.keys())), ("removed", sorted(old.keys() - new.keys()))]
    return [f"{what} {word}: {', '.join(names)}" for word, names in (*words, ("changed", changed)) if names]


def plan_of_flag(
    flag: str,
    environment: str | None,
    before: Mapping[str, Any],
    asked: Mapping[str, Any],
    *,
    after: Mapping[str, Any] | None = None,
) -> Plan:
    """asked: what the flag is to be made of `before` by; with a ramp in it, the outcome depends on when it begins.
    after: where that says nothing of the outcome."""
    where = f" in {environment}" if environment else ""
    said = {name: value for name, value in asked.items() if name not in ("flag", "environment", "reason")}
    changes = [
        f"flag {flag}{where}: {json.dumps(said, ensure_ascii=False, default=str)}",
        f"it is now {json.dumps(before, ensure_ascii=False)}" if before else "it is a new one",
    ]
    if after is not None:
        changes.append(f"it becomes {json.dumps(after, ensure_ascii=False)}" if after else "it goes")
    return Plan(
        changes=tuple(changes),
        way_back="action rollback makes it as it was before",
        exact=exactly({"flag": flag, "environment": environment, "asked": said, "before": before}),
    )


def plan_of_promotion(rollout: Rollout) -> Plan:
    """A word to a rollout that waits for it."""
    where = f"{rollout.service}/{rollout.environment}"
    new = rollout.new.name if rollout.new is not None else "what is built"
    steps = rollout.canary.steps if rollout.canary is not None and rollout.moved else ()
    after = steps[rollout.step + 1 : rollout.step + 2]
    to = f"from {steps[rollout.step].weight}% on to {after[0].weight if after else 100}%" if steps else "gets traffic"
    return Plan(
        changes=(f"{where}: operation {rollout.operation_id} goes on: version {new} {to}",),
        way_back=way_back(rollout) or "action abort takes it back",
        exact=exactly({"promote": [where, rollout.operation_id, rollout.step, rollout.moved]}),
    )


def plan_of_abort(service: str, environment: str, operation_id: str) -> Plan:
    where = f"{service}/{environment}"
    return Plan(
        changes=(f"{where}: operation {operation_id} is broken off, and what it has changed is taken back",),
        way_back="deploy_service does the same again",
        exact=exactly({"abort": [where, operation_id]}),
    )


def plan_of_rollback(service: str, environment: str, left: Version | None, target: Version | None) -> Plan:
    """None where nothing is live, before or then."""
    where = f"{service}/{environment}"
    return Plan(
        changes=(f"{where}: back from {_version(left)} to {_version(target)}",),
        way_back=f"deploy_service with release {left.template.release}" if left else "none: nothing is live now",
        exact=exactly({"rollback": [where, _version(left), _version(target)]}),
    )


def _version(version: Version | None) -> str:
    return f"version {version.name}" if version is not None else "nothing"


def plan_of_run(job: Job, template: Template) -> Plan:
    """Of a run of a job by hand. No value of a variable is told."""
    times = f"up to {job.retries + 1} times, " if job.retries else ""
    return Plan(
        changes=(
            f"{template.service}/{template.environment}: job {job.name} ({job.when}) runs once, now, "
            f"with version {template.version}",
            f"command {json.dumps(job.command, ensure_ascii=False)}, {times}{job.timeout_seconds} s at most each",
        ),
        way_back="none: what a job has done, the platform does not take back",
        risk="it does whatever its command does, with the variables and secrets of the live version",
        exact=exactly(
            {
                "run": [template.service, template.environment, template.tenant],
                "version": template.version,
                "job": job.model_dump(mode="json"),
            }
        ),
    )


def plan_of_secret(made: SecretVersion, newest: SecretVersion | None) -> Plan:
    """made: a version that waits; its value is told nowhere. newest: that it takes the place of."""
    before = f" in place of version {newest.version}" if newest else ": it is a new one"
    return Plan(
        changes=(
            f"secret {made.secret}: version {made.version}{before}",
            f"its sealed value has the digest {made.fingerprint}; what runs keeps what it has until the next deploy",
        ),
        way_back="secret set with the value that it had before" if newest else "secret remove",
        exact=exactly({"secret": str(made.secret), "version": made.version, "digest": made.fingerprint}),
    )


def plan_of_secret_removal(secret: Secret, versions: Sequence[int]) -> Plan:
    numbers = ", ".join(map(str, versions))
    return Plan(
        changes=(f"secret {secret}: {'version' if len(versions) == 1 else 'versions'} {numbers} removed",),
        way_back="none: nobody can read a value back; secret set sets one anew",
        risk="the value is gone from the workspace, not from its backups",
        exact=exactly({"remove": str(secret), "versions": list(versions)}),
    )
