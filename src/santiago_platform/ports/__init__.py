"""Contracts with the outside, one per file, and the bundle of them that operations and loops are given."""

from __future__ import annotations

from dataclasses import dataclass

from .activation import Activation
from .advisors import Advisors
from .approvals import Approvals
from .artifacts import Artifacts
from .clock import Clock
from .compute import Compute
from .disk import Disk
from .error_budget import ErrorBudget
from .evidence import Evidence
from .flags import Flags
from .identity_provider import IdentityProvider
from .incidents import Incidents
from .jobs import Jobs
from .logs import Logs
from .metrics import Metrics
from .notifier import Notifier
from .policy import Policy
from .postmortems import Postmortems
from .probe import Probe
from .registry import Registry
from .reports import Reports
from .rules import Rules
from .secrets import Secrets
from .ship_log import ShipLog
from .silences import Silences
from .store import Store
from .traces import Traces
from .traffic import Traffic
from .visitor import Visitor
from .webhook import Webhook
from .workspace import Workspace


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything of the outside that an operation or a loop may touch. `bootstrap` fills it."""

    store: Store
    ship_log: ShipLog
    workspace: Workspace
    artifacts: Artifacts
    compute: Compute
    jobs: Jobs
    traffic: Traffic
    probe: Probe
    visitor: Visitor
    metrics: Metrics
    logs: Logs
    rules: Rules
    silences: Silences
    clock: Clock
    activation: Activation
    disk: Disk
    registry: Registry
    evidence: Evidence
    incidents: Incidents
    postmortems: Postmortems
    error_budget: ErrorBudget
    approvals: Approvals
    webhook: Webhook
    flags: Flags
    advisors: Advisors
    secrets: Secrets
    policy: Policy
    identity_provider: IdentityProvider
    notifier: Notifier
    reports: Reports
    traces: Traces


__all__ = [
    "Activation",
    "Advisors",
    "Approvals",
    "Artifacts",
    "Clock",
    "Compute",
    "Disk",
    "ErrorBudget",
    "Evidence",
    "Flags",
    "IdentityProvider",
    "Incidents",
    "Jobs",
    "Logs",
    "Metrics",
    "Notifier",
    "Policy",
    "Ports",
    "Postmortems",
    "Probe",
    "Registry",
    "Reports",
    "Rules",
    "Secrets",
    "ShipLog",
    "Silences",
    "Store",
    "Traces",
    "Traffic",
    "Visitor",
    "Webhook",
    "Workspace",
]
