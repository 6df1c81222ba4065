from __future__ import annotations

from dataclasses import dataclass, field

from ...ports import Policy, Ports, Traces
from ..policies.cedar import CedarPolicy
from ..system import LoopActivation
from ..traces import NoTraces
from .advisors import FakeAdvisors
from .clock import ManualClock
from .compute import FakeCompute
from .disk import FakeDisk
from .flags import FakeFlags
from .gates import FakeApprovals, FakeErrorBudget, FakeEvidence, FakeIncidents, FakeWebhook
from .identity_provider import FakeIdentityProvider
from .jobs import FakeJobs
from .notifier import FakeNotifier
from .observability import FakeLogs, FakeMetrics
from .postmortems import FakePostmortems
from .probe import FakeProbe
from .registry import FakeRegistry
from .reports import FakeReports
from .rules import FakeRules
from .secrets import FakeSecrets
from .ship_log import FakeShipLog
from .silences import FakeSilences
from .store import FakeStore
from .traffic import FakeTraffic
from .visitor import FakeVisitor
from .workspace import FakeArtifacts, FakeWorkspace


@dataclass
class FakePlatform:
    """All fakes, wired: `ports` is what operations and loops take, the others are for a test to turn."""

    workspace: FakeWorkspace = field(default_factory=FakeWorkspace)
    clock: ManualClock = field(default_factory=ManualClock)
    store: FakeStore = field(default_factory=FakeStore)
    artifacts: FakeArtifacts = field(default_factory=FakeArtifacts)
    compute: FakeCompute = field(default_factory=FakeCompute)
    jobs: FakeJobs = field(default_factory=FakeJobs)
    traffic: FakeTraffic = field(default_factory=FakeTraffic)
    metrics: FakeMetrics = field(default_factory=FakeMetrics)
    logs: FakeLogs = field(default_factory=FakeLogs)
    rules: FakeRules = field(default_factory=FakeRules)
    disk: FakeDisk = field(default_factory=FakeDisk)
    evidence: FakeEvidence = field(default_factory=FakeEvidence)
    incidents: FakeIncidents = field(default_factory=FakeIncidents)
    postmortems: FakePostmortems = field(default_factory=FakePostmortems)
    error_budget: FakeErrorBudget = field(default_factory=FakeErrorBudget)
    approvals: FakeApprovals = field(default_factory=FakeApprovals)
    webhook: FakeWebhook = field(default_factory=FakeWebhook)

    flags: FakeFlags = field(default_factory=FakeFlags)
    advisors: FakeAdvisors = field(default_factory=FakeAdvisors)
    identity_provider: FakeIdentityProvider = field(default_factory=FakeIdentityProvider)
    policy: Policy = field(default_factory=CedarPolicy)  # the default rules, as they are in use
    notifier: FakeNotifier = field(default_factory=FakeNotifier)
    reports: FakeReports = field(default_factory=FakeReports)
    traces: Traces = field(default_factory=NoTraces)  # what is looked at is OpenTelemetry's own, in memory

    def __post_init__(self) -> None:
        self.ship_log = FakeShipLog(self.clock)
        self.registry = FakeRegistry(self.artifacts)
        self.secrets = FakeSecrets(self.clock)
        self.silences = FakeSilences(self.clock)
        self.visitor = FakeVisitor(self.traffic)
        self.probe = FakeProbe(self.compute, self.traffic, self.flags, self.evidence)
        self.ports = Ports(
            store=self.store,
            ship_log=self.ship_log,
            workspace=self.workspace,
            artifacts=self.artifacts,
            compute=self.compute,
            jobs=self.jobs,
            traffic=self.traffic,
            probe=self.probe,
            visitor=self.visitor,
            metrics=self.metrics,
            logs=self.logs,
            rules=self.rules,
            silences=self.silences,
            clock=self.clock,
            activation=LoopActivation(),
            disk=self.disk,
            registry=self.registry,
            evidence=self.evidence,
            incidents=self.incidents,
            postmortems=self.postmortems,
            error_budget=self.error_budget,
            approvals=self.approvals,
            webhook=self.webhook,
            flags=self.flags,
            advisors=self.advisors,
            secrets=self.secrets,
            policy=self.policy,
            identity_provider=self.identity_provider,
            notifier=self.notifier,
            reports=self.reports,
            traces=self.traces,
        )
