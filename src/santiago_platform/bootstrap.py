"""Where adapters are chosen and wired: the only module that names them. Entry points take them from here."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from .adapters.advisors.advisors import WorkspaceAdvisors
from .adapters.advisors.keys import Keys
from .adapters.artifacts.artifacts import LocalArtifacts
from .adapters.artifacts.build import end_builds
from .adapters.artifacts.registry import OciRegistry
from .adapters.error_budget import RecordedErrorBudget
from .adapters.evidence.files import EvidenceFiles
from .adapters.identity.oauth import OAuthIdentityProvider
from .adapters.layout import Layout
from .adapters.local.alertmanager import webhook_token
from .adapters.local.backup import BackedUp, back_up
from .adapters.local.binaries import CONTAINERS, fetch, missing
from .adapters.local.compute import LocalCompute
from .adapters.local.disk import LocalDisk
from .adapters.local.doctor import Finding, examine
from .adapters.local.envoy import EnvoyTraffic
from .adapters.local.flags import LocalFlags
from .adapters.local.jobs import LocalJobs
from .adapters.local.launcher import Launcher
from .adapters.local.liveness import Liveness
from .adapters.local.logs import FileLogs
from .adapters.local.platform import LocalPlatform, UnitView, known_ports
from .adapters.local.platform import Ports as Addresses
from .adapters.local.port_registry import PortRegistry
from .adapters.local.probe import LocalProbe
from .adapters.local.prometheus import PrometheusConfig, PrometheusMetrics
from .adapters.local.restore import Restored, restore
from .adapters.local.rules import PrometheusRules
from .adapters.local.silences import AlertmanagerSilences
from .adapters.local.systemd import SystemdUnit, systemd_unit
from .adapters.local.tenants import Tenants
from .adapters.local.visitor import IngressVisitor
from .adapters.local.watchdog import MemoryWatchdog
from .adapters.notifiers.apprise import AppriseNotifier
from .adapters.policies.cedar import CedarPolicy, read_policies
from .adapters.reports.files import FileReports
from .adapters.reports.markdown import to_markdown
from .adapters.rules.export import ExportedRules
from .adapters.rules.ruler import RulerRules
from .adapters.secrets.file import FileSecrets
from .adapters.ship_log.anchor import anchors, install_anchor
from .adapters.ship_log.log_directory import verify_directory
from .adapters.ship_log.ship_log import FileShipLog
from .adapters.stores.approvals import StoredApprovals
from .adapters.stores.incidents import StoredIncidents
from .adapters.stores.sqlite import SqliteStore
from .adapters.system import LoopActivation, SystemClock
from .adapters.traces import open_traces
from .adapters.webhook import HttpWebhook
from .adapters.workspace.init import Initialised, init_workspace
from .adapters.workspace.postmortems import FilePostmortems
from .adapters.workspace.workspace import FileWorkspace
from .domain.environment import Settings
from .domain.errors import ErrorCode, PlatformError
from .domain.rules import MonitoringSettings, RulesTarget
from .domain.secret import Secret, SecretRef
from .ports import Ports

ADVISOR_KEYS = "advisors"


@dataclass(frozen=True, slots=True)
class Wired:
    """The ports of a workspace's platform, and what its server needs beside them.

    concerns: what somebody should look after, although requests are served.
    """

    ports: Ports
    addresses: Addresses
    hook_token: str
    platform: LocalPlatform
    concerns: Callable[[], list[str]]


@asynccontextmanager
async def wire(layout: Layout) -> AsyncIterator[Wired]:
    """The local platform of one workspace, opened and closed. Raises FAILED_PRECONDITION unless `up` prepared it."""
    addresses = known_ports(layout)
    if addresses is None:
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION, f"the platform of {layout.root} was never started", "`santiago up` starts it"
        )
    end_builds(layout.builds)  # of a daemon that was killed
    async with AsyncExitStack() as stack:
        clock = SystemClock()
        traces = open_traces(os.environ)
        stack.push_async_callback(traces.close)
        store = SqliteStore(layout.database)
        stack.push_async_callback(store.close)
        secrets = FileSecrets(layout.secrets, layout.keys, clock)
        ship_log = FileShipLog(layout.ship_log, layout.keys, clock, hide=secrets.hide)
        stack.push_async_callback(ship_log.close)

        def auth_file() -> Path:
            return layout.root / Path(workspace.settings().releases.auth_file).expanduser()

        def newest_secret(secret: Secret) -> SecretRef | None:
            newest = secrets.newest(secret)
            return newest.ref if newest else None

        artifacts = LocalArtifacts(layout, clock, auth_file=auth_file)
        platform = LocalPlatform(layout)
        stack.enter_context(Liveness(layout, platform.supervisor))
        registry = PortRegistry(layout.root)
        traffic = EnvoyTraffic(layout, registry.claim)
        flags = LocalFlags(
            layout, platform.supervisor, addresses.flags, lambda: workspace.last_good_settings().flags.origins
        )
        workspace = FileWorkspace(layout.root, service_port=traffic.port, flags_url=flags.url, secret=newest_secret)
        tenants = Tenants(layout, workspace.settings)
        stack.push_async_callback(traffic.close)
        metrics = PrometheusMetrics(
            PrometheusConfig(
                layout,
                envoy_ports=addresses.statistics,
                daemon_port=addresses.server,
                alertmanager_port=addresses.alertmanager,
            ),
            addresses.prometheus,
        )
        stack.push_async_callback(metrics.close)
        rules = _rules(layout, workspace, addresses.prometheus)
        stack.push_async_callback(rules.close)
        silences = AlertmanagerSilences(addresses.alertmanager)
        stack.push_async_callback(silences.close)
        visitor = IngressVisitor(addresses.ingress)
        stack.push_async_callback(visitor.close)
        yield Wired(
            ports=Ports(
                store=store,
                ship_log=ship_log,
                workspace=workspace,
                artifacts=artifacts,
                compute=LocalCompute(
                    layout,
                    platform.supervisor,
                    registry,
                    artifacts,
                    clock,
                    tenants=tenants,
                    watchdog=stack.enter_context(MemoryWatchdog(layout)),
                    secrets=secrets.values,
                    telemetry=lambda: workspace.last_good_settings().telemetry,
                ),
                jobs=LocalJobs(
                    layout,
                    platform.supervisor,
                    Launcher(
                        layout,
                        platform.supervisor,
                        artifacts,
                        tenants=tenants,
                        secrets=secrets.values,
                        telemetry=lambda: workspace.last_good_settings().telemetry,
                    ),
                ),
                traffic=traffic,
                visitor=visitor,
                probe=LocalProbe(layout, addresses.ingress, addresses.flags),
                metrics=metrics,
                logs=FileLogs(layout, secrets.hide),
                rules=rules,
                silences=silences,
                clock=clock,
                activation=LoopActivation(),
                disk=LocalDisk(layout),
                registry=OciRegistry(artifacts, layout.state, auth_file),
                evidence=EvidenceFiles(layout.evidence),
                incidents=StoredIncidents(store),
                postmortems=FilePostmortems(layout.root),
                error_budget=RecordedErrorBudget(workspace, metrics, clock),
                approvals=StoredApprovals(store),
                webhook=HttpWebhook(layout.root),
                flags=flags,
                advisors=WorkspaceAdvisors(
                    workspace.last_good_settings,
                    Keys(layout.root, layout.keys / ADVISOR_KEYS),
                    clock,
                    hide=secrets.hide,
                ),
                secrets=secrets,
                policy=CedarPolicy(layout.root),
                identity_provider=OAuthIdentityProvider(layout.root, workspace.last_good_settings, clock),
                notifier=AppriseNotifier(layout.root),
                reports=FileReports(layout.root, layout.ship_log / "reports"),
                traces=traces,
            ),
            addresses=addresses,
            hook_token=webhook_token(layout),
            platform=platform,
            concerns=traffic.concerns,
        )


def _rules(layout: Layout, workspace: FileWorkspace, port: int) -> PrometheusRules | RulerRules | ExportedRules:
    """What `monitoring` chooses; while santiago.yaml cannot be read, the platform's own Prometheus."""
    try:
        chosen = workspace.settings().monitoring
    except PlatformError:
        chosen = MonitoringSettings()
    if chosen.rules is RulesTarget.RULER and chosen.url:
        headers = {"x-scope-orgid": chosen.org_id} if chosen.org_id else {}
        if chosen.token_file:
            headers["authorization"] = f"Bearer {_token(layout.root / Path(chosen.token_file).expanduser())}"
        return RulerRules(chosen.url, headers)
    if chosen.rules is RulesTarget.EXPORT and chosen.directory:
        return ExportedRules(layout.root / Path(chosen.directory).expanduser(), chosen.format, chosen.url)
    return PrometheusRules(layout.prometheus / "rules", port)


def _token(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError as exc:
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"the ruler's token cannot be read: {file}: {exc.strerror}",
            "monitoring.token_file in santiago.yaml names it",
        ) from exc


def keep_advisor_keys(layout: Layout, settings: Settings) -> list[str]:
    """Keeps the keys of advisors that this process's environment has, for the daemon. Returns their variables."""
    return Keys(layout.root, layout.keys / ADVISOR_KEYS).keep(settings.advisors.providers)


def anchor_ship_log(layout: Layout) -> None:
    """Lets each commit of the workspace carry the log's signed head. Raises as `install_anchor` says."""
    install_anchor(layout.root, layout.ship_log / "head.json")


def export_dashboards(layout: Layout, into: Path, prometheus_url: str | None) -> list[Path]:
    """Writes the dashboards for Grafana. prometheus_url: None means the workspace's own, or where one usually is."""
    from .adapters.grafana.provisioning import export_dashboards as export  # the SDK takes a while to import

    addresses = known_ports(layout)
    port = addresses.prometheus if addresses else 9090
    return export(into, prometheus_url or f"http://127.0.0.1:{port}")


def ship_log_key(layout: Layout) -> bytes | None:
    """The public key that signs the log's head here; None on a machine that only has the log."""
    path = layout.keys / "ship-log.pub"
    return bytes.fromhex(path.read_text()) if path.exists() else None


__all__ = [
    "CONTAINERS",
    "Addresses",
    "BackedUp",
    "FileReports",
    "FileWorkspace",
    "Finding",
    "Initialised",
    "Layout",
    "LocalPlatform",
    "Restored",
    "SystemdUnit",
    "UnitView",
    "Wired",
    "anchor_ship_log",
    "anchors",
    "back_up",
    "examine",
    "export_dashboards",
    "fetch",
    "init_workspace",
    "keep_advisor_keys",
    "known_ports",
    "missing",
    "read_policies",
    "restore",
    "ship_log_key",
    "systemd_unit",
    "to_markdown",
    "verify_directory",
    "wire",
]
