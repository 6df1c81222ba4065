"""Alerts on the real platform: made, tried, loaded, fired by errors that clients see, listed, and removed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from santiago_platform.adapters.local.platform import known_ports
from santiago_platform.domain.trace import operation_ids
from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.lifeline import Lifeline
from santiago_platform.testing.load import Load
from santiago_platform.testing.otlp_collector import OtlpCollector, SeenSpan
from santiago_platform.testing.running_platform import RunningPlatform, call

pytestmark = pytest.mark.e2e
PLACE = {"service": "hello", "environment": "production"}
HOST = "hello.production.localhost"
SERVER = "services/hello/server.py"


SLO = """\
apiVersion: openslo/v1
kind: SLO
metadata: {{name: availability}}
spec:
  service: hello
  indicatorRef: availability
  timeWindow: [{{duration: 28d, isRolling: true}}]
  budgetingMethod: Occurrences
  objectives: [{{target: {target}}}]
"""
FAILING = "    def do_GET(self):\n        if self.path == '/bad':\n            return self.send_error(500)\n"


@pytest.fixture(scope="module")
def collector() -> Iterator[OtlpCollector]:
    with OtlpCollector() as collector:
        yield collector


@pytest.fixture(scope="module")
def platform(lifeline: Lifeline, collector: OtlpCollector) -> Iterator[RunningPlatform]:
    """With a `hello` that answers 500 where it is asked for /bad. It tells the collector what it does."""
    with RunningPlatform(lifeline, up=False) as platform, pytest.MonkeyPatch.context() as variables:
        variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        variables.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        with (platform.root / "santiago.yaml").open("a") as settings:
            settings.write(f"telemetry: {{otlp_endpoint: {collector.endpoint}}}\n")
        platform.santiago("up", "-d")
        platform.replace(SERVER, "    def do_GET(self):\n", FAILING)
        (platform.root / "services/hello/slo.yaml").write_text(SLO.format(target=0.99))
        platform.commit("hello fails where it is asked to")
        platform.santiago("deploy", "hello", "--env", "production", "--wait")
        yield platform


def alerts(platform: RunningPlatform) -> dict[str, Any]:
    return {alert["name"]: alert for alert in platform.json("alert", "list")}


async def test_an_alert_is_tried_loaded_and_fires_while_clients_see_errors(platform: RunningPlatform) -> None:
    words = ("--service", "hello", "--signal", "errors", "--threshold", "0.2", "--for", "3", "--severity", "page")
    tried = platform.json("alert", "create", "ManyErrors", *words, "--dry-run")
    assert tried["state"] == "planned"
    assert any(line.startswith("tested: fires once its condition has held for 3 s") for line in tried["detail"])
    assert alerts(platform) == {}

    made = platform.json("alert", "create", "ManyErrors", *words)
    assert made["state"] == "succeeded", made
    assert made["proof"]["verdict"] == "MATCH"

    async def state() -> str:
        return str(alerts(platform)["ManyErrors"]["state"])

    assert await state() == "quiet"
    async with Load(platform.ingress_port, HOST, path="/bad"):
        await eventually(state, lambda seen: seen == "firing", 60)
    place = ("ManyErrors", "--service", "hello")
    silenced = platform.json("alert", "silence", *place, "--for", "0.5", "--reason", "the disk is replaced")
    assert [s["reason"] for s in silenced] == ["the disk is replaced"]
    assert "silent ManyErrors of hello/production until" in platform.santiago("alert", "list").stdout
    assert platform.json("alert", "unsilence", *place) == []

    again = platform.santiago("alert", "create", "SameThing", *words, check=False)
    assert again.returncode == 1
    assert "ManyErrors" in again.stderr


async def test_what_can_never_fire_is_refused_with_the_reason(platform: RunningPlatform) -> None:
    async with platform.client() as client:
        for spec, why in (
            ({"expression": "no_such_metric > 1"}, "no series no_such_metric"),
            ({"signal": "errors", "threshold": 5}, "can never hold"),
            ({"expression": "vector(1) > 2"}, "reads no series"),
            ({"expression": "sum(rate(x["}, "expression"),
        ):
            with pytest.raises(RuntimeError, match=why):
                await call(client, "create_alert", {"spec": {"name": "Never", **PLACE, **spec}})


async def test_an_alert_is_removed_and_brought_back(platform: RunningPlatform) -> None:
    expression = "sum(rate(envoy_cluster_external_upstream_rq_completed[1m])) > 1e6"
    made = platform.json("alert", "create", "Busy", "--service", "hello", "--expr", expression)
    assert made["state"] == "succeeded", made
    ports = known_ports(platform.layout)
    assert ports is not None
    removed = platform.json("alert", "remove", "Busy", "--service", "hello")
    assert removed["state"] == "succeeded", removed
    assert "Busy" not in alerts(platform)
    async with platform.client() as client:
        back = await call(client, "manage_operation", {"action": "rollback", "operation": removed["id"]})
        waited = await call(client, "manage_operation", {"action": "wait", "operation": back["operations"][0]["id"]})
    assert waited["operations"][0]["state"] == "succeeded"
    assert alerts(platform)["Busy"]["expression"].count('service="hello"') == 1


async def test_the_rules_of_an_slo_come_with_the_deploy_and_change_when_they_are_applied(
    platform: RunningPlatform,
) -> None:
    async def shown() -> dict[str, Any]:
        rows = platform.json("monitoring", "show", "hello")
        return dict(rows[0]) if rows else {}

    first = await eventually(shown, lambda row: row["rules"] and row["loaded"], 30)
    assert first["alerts"] > 0
    assert first["differs"] == []
    (platform.root / "services/hello/slo.yaml").write_text(SLO.format(target=0.999))
    assert (await shown())["differs"]
    applied = platform.json("monitoring", "apply", "hello")
    assert applied["state"] == "succeeded", applied
    assert any(line.startswith("changes: ") for line in applied["detail"])
    now = await shown()
    assert (now["loaded"], now["differs"]) == (True, [])
    async with platform.client() as client:
        back = await call(client, "manage_operation", {"action": "rollback", "operation": applied["id"]})
        waited = await call(client, "manage_operation", {"action": "wait", "operation": back["operations"][0]["id"]})
    assert waited["operations"][0]["state"] == "succeeded"
    assert (await shown())["differs"]


async def test_the_collector_is_told_of_a_deploy_by_the_daemon_and_services_are_told_of_the_collector(
    platform: RunningPlatform, collector: OtlpCollector
) -> None:
    async with platform.client() as client:
        history = await call(client, "manage_operation", {"action": "history", "service": "hello"})
    deploy = next(operation for operation in history["operations"] if operation["kind"] == "deploy_service")
    trace = f"{operation_ids(deploy['id'])[0]:032x}"

    async def told() -> dict[str, SeenSpan]:
        return {span.name: span for span in collector.spans if span.trace == trace}

    spans = await eventually(told, lambda seen: "operation deploy_service" in seen, 30)
    whole = spans["operation deploy_service"]
    assert whole.resource["service.name"] == "santiago"
    assert {"rollout releasing", "rollout starting", "rollout proving"} <= spans.keys()
    assert all(span.parent == whole.span for name, span in spans.items() if name.startswith("rollout "))
    (change,) = [span for span in collector.spans if span.links == ((trace, whole.span),)]
    (tool,) = [span for span in collector.spans if span.span == change.parent]
    assert tool.name == "execute_tool deploy_service"
    assert platform.token not in "".join(span.text for span in collector.spans)

    (unit, *_) = platform.layout.units.glob("hello__production__*__0")
    assert {f"OTEL_EXPORTER_OTLP_ENDPOINT={collector.endpoint}", "OTEL_SERVICE_NAME=hello"} <= environment_of(unit.name)


@pytest.mark.slow
async def test_the_platforms_own_objectives_are_measured(platform: RunningPlatform) -> None:
    async def measured() -> dict[str, Any]:
        found = platform.json("report", "slo")
        assert found["problems"] == []
        return {slo["slo"]: slo.get("sli_ratio") for slo in found["slos"] if slo["service"] == "santiago"}

    found = await eventually(measured, lambda seen: len(seen) == 4 and None not in seen.values(), 150)
    assert found.keys() == {"availability", "latency", "throughput", "errors"}
    assert found["throughput"] == 1  # of calls, none of which was turned away
    assert all(0 < ratio <= 1 for ratio in found.values()), found
    (shown,) = platform.json("monitoring", "show", "santiago")
    assert (shown["loaded"], shown["differs"]) == (True, [])


def environment_of(instance: str) -> set[str]:
    """Of the process that is the instance, or of one of its launchers."""
    mark = f"SANTIAGO_INSTANCE={instance}"
    found: set[str] = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            found |= set(words) if mark in words else set()
    return found
