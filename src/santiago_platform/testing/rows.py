"""Rows as tests of a store and of what stands on it need them: small, whole, and told apart by a number."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from ..domain.budget import Charge
from ..domain.change_request import ChangeRequest, Need, Wants
from ..domain.deployment import Deployment, Version
from ..domain.evidence import Attestation, EvidenceKind, SuiteResults
from ..domain.identity import Principal, Role, Token
from ..domain.incident import Incident
from ..domain.job import Job, JobRun, When, job_run
from ..domain.live_period import LivePeriod
from ..domain.mailbox import Mail
from ..domain.operation import Operation
from ..domain.phase import Phase
from ..domain.plan import Plan
from ..domain.proposal import Task
from ..domain.rollout import Message, MessageKind, Rollout
from ..domain.rules import Severity
from ..domain.session import Session
from ..domain.strategy import Strategy
from ..domain.workload import Template

START = datetime(2026, 1, 1, tzinfo=UTC)
ANN = Principal(name="ann", role=Role.DEVELOPER)


def operation(number: int = 1, **fields: Any) -> Operation:
    """number: seconds after START at which it was created."""
    at = START + timedelta(seconds=number)
    known: dict[str, Any] = {
        "id": f"op-{number}",
        "kind": "deploy_service",
        "principal": ANN,
        "service": "web",
        "environment": "production",
        "request": {"git_ref": "main", "text": 'ünïcode "quoted"\n\x00'},
        "created_at": at,
        "updated_at": at,
    }
    return Operation(**{**known, **fields})


def rollout(number: int = 1, **fields: Any) -> Rollout:
    known: dict[str, Any] = {
        "id": f"ro-{number}",
        "operation_id": f"op-{number}",
        "service": "web",
        "environment": "production",
        "tenant": "default",
        "strategy": Strategy.BLUE_GREEN,
        "new": version("sha256:" + "a" * 64),
        "phase": Phase.STARTING,
        "started_at": START,
        "phase_since": START,
    }
    return Rollout(**{**known, **fields})


def version(release: str) -> Version:
    template = Template(service="web", environment="production", tenant="default", release=release, command=("./run",))
    return Version(template=template, replicas=2)


def message(number: int = 1, **fields: Any) -> Message:
    known: dict[str, Any] = {"id": f"m-{number}", "kind": MessageKind.ABORT, "by": "ann", "at": START}
    return Message(**{**known, **fields})


def deployment(**fields: Any) -> Deployment:
    known: dict[str, Any] = {"service": "web", "environment": "production", "tenant": "default"}
    return Deployment(**{**known, **fields})


def live_period(number: int = 1, release: str = "sha256:" + "a" * 64, **fields: Any) -> LivePeriod:
    known: dict[str, Any] = {
        "service": "web",
        "environment": "production",
        "number": number,
        "version": version(release),
        "since": START + timedelta(seconds=number),
    }
    return LivePeriod(**{**known, **fields})


def token(number: int = 1, **fields: Any) -> Token:
    known: dict[str, Any] = {"id": f"t-{number}", "secret_sha256": "0" * 64, "principal": ANN, "created_at": START}
    return Token(**{**known, **fields})


def run(number: int = 1, job: str = "report", **fields: Any) -> JobRun:
    known = Job(name=job, when=When.SCHEDULED, command=("./run",), schedule="0 4 * * *")
    return job_run(known, version("sha256:" + "a" * 64).template, f"k{number}", START, **fields)


def session(number: int = 1, **fields: Any) -> Session:
    """number: seconds after START at which it expires."""
    known: dict[str, Any] = {
        "id": f"se-{number}",
        "principal": ANN,
        "opened_at": START,
        "expires_at": START + timedelta(seconds=number),
    }
    return Session(**{**known, **fields})


def attestation(number: int = 1, **fields: Any) -> Attestation:
    known: dict[str, Any] = {
        "id": f"ev-{number}",
        "release": "sha256:" + "a" * 64,
        "service": "web",
        "kind": EvidenceKind.JUNIT,
        "sha256": "0" * 64,
        "size_bytes": 1,
        "principal": ANN,
        "at": START,
        "findings": SuiteResults(type="tests", tests=1),
    }
    return Attestation(**{**known, **fields})


def charge(number: int = 1, **fields: Any) -> Charge:
    known: dict[str, Any] = {
        "id": f"ch-{number}",
        "at": START,
        "day": START.date(),
        "task": Task.DEPLOYMENT_PLAN,
        "principal": "ann",
        "role": Role.DEVELOPER,
        "tenant": "default",
        "advisor": "one",
        "model": "m",
        "reserved_usd": Decimal("0.5"),
        "amount_usd": Decimal("0.5"),
    }
    return Charge(**{**known, **fields})


def mail(number: int = 1, **fields: Any) -> Mail:
    """number: seconds after START at which it was sent."""
    known: dict[str, Any] = {
        "id": f"ml-{number}",
        "tenant": "default",
        "mailbox": Role.QA,
        "thread": f"ml-{number}",
        "sender": ANN,
        "text": 'look at "this"',
        "at": START + timedelta(seconds=number),
    }
    return Mail(**{**known, **fields})


def incident(number: int = 1, **fields: Any) -> Incident:
    """number: seconds after START at which it was opened."""
    at = START + timedelta(seconds=number)
    known: dict[str, Any] = {
        "id": f"in-{number}",
        "tenant": "default",
        "service": "web",
        "environment": "production",
        "cause": "TooManyErrors",
        "title": "too many errors",
        "severity": Severity.PAGE,
        "began_at": at,
        "opened_at": at,
    }
    return Incident(**{**known, **fields})


def next_of(rollout: Rollout, phase: Phase, **fields: Any) -> Rollout:
    return rollout.model_copy(update={"phase": phase, "epoch": rollout.epoch + 1, **fields})


def change_request(number: int = 1, **fields: Any) -> ChangeRequest:
    known: dict[str, Any] = {
        "id": f"op-{number}",
        "kind": "deploy_service",
        "requester": ANN,
        "arguments": {"service": "web"},
        "service": "web",
        "environment": "production",
        "tenant": "default",
        "plan": Plan(changes=("web/production: the first version",), way_back="none", exact="{}"),
        "live": "0" * 64,
        "release": "sha256:" + "a" * 64,
        "wants": Wants.APPROVAL,
        "needs": (Need(roles=(Role.PM,), why="a test"),),
        "asked_at": START,
        "expires_at": START + timedelta(hours=1),
    }
    return ChangeRequest(**{**known, **fields})
