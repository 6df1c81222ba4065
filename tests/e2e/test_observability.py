"""The whole loop on a real platform: objective, bad release, page, way back, and what the reports say of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.lifeline import Lifeline
from santiago_platform.testing.load import Load
from santiago_platform.testing.running_platform import RunningPlatform, call

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
HOST = "hello.production.localhost"
PRODUCTION = """\
  production:
    gates: [{type: error_budget}]
    incidents: {quiet_seconds: 1}
    defaults:
      watch_seconds: 0  # the watch over a new version would be first
"""
ANSWER = '        if "orders" in self.path and VERSION == "bad":\n            return self.send_error(500)\n'
DEPLOY = ("deploy", "hello", "--env", "production", "--wait")
OF_TRAFFIC = ("--service", "hello", "--signal", "traffic", "--for", "0", "--threshold")
EVALUATED_SECONDS = 150  # rules of objectives are evaluated each minute, and count between two of them


@pytest.fixture(scope="module")
def platform(lifeline: Lifeline) -> Iterator[RunningPlatform]:
    """With the objectives that `init` writes, over an hour, so that what has ended stops burning within minutes."""
    with RunningPlatform(lifeline, up=False) as platform:
        platform.replace("santiago.yaml", "  production:\n    defaults:\n", PRODUCTION)
        platform.replace("services/hello/server.py", "    def answer(self):\n", "    def answer(self):\n" + ANSWER)
        platform.replace("services/hello/slo.yaml", "28d", "1h")
        for usual, loose in (("0.99", "0.9"), ("0.95", "0.8")):  # of which a second of errors burns too little to page
            platform.replace("services/hello/slo.yaml", f"target: {usual}", f"target: {loose}")
        platform.set_version("good")
        platform.santiago("up", "-d")
        yield platform


@contextmanager
def stopped(platform: RunningPlatform, unit: str) -> Iterator[None]:
    supervisor = platform.platform.supervisor
    stopping = supervisor.directory(unit) / "stopping"
    stopping.touch()  # else it is started again at once
    supervisor.control(unit, "-d")
    try:
        yield
    finally:
        stopping.unlink()
        supervisor.control(unit, "-u")


@pytest.fixture
async def api(platform: RunningPlatform) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"authorization": f"Bearer {platform.token}"}
    async with httpx2.AsyncClient(base_url=platform.url, headers=headers, trust_env=False) as client:
        yield client


@pytest.mark.timeout(400)
async def test_a_bad_release_pages_is_taken_back_and_stands_in_every_report(
    platform: RunningPlatform, api: httpx2.AsyncClient
) -> None:
    async def availability() -> dict[str, Any]:
        slos = (await api.get("/api/reports/slo")).json()["slos"]
        found: list[dict[str, Any]] = [s for s in slos if (s["service"], s["slo"]) == ("hello", "availability")]
        return found[0]

    async def incidents() -> list[dict[str, Any]]:
        return list((await api.get("/api/incidents")).json()["incidents"])

    good = platform.json(*DEPLOY)
    assert good["state"] == "succeeded", good
    async with Load(platform.ingress_port, HOST, path="/?orders", connections=2, pause_seconds=0.05) as tally:
        met = await eventually(availability, lambda slo: slo.get("met"), EVALUATED_SECONDS)
        assert met["remaining_ratio"] == 1.0
        (rules,) = platform.json("monitoring", "show", "hello")
        assert (rules["loaded"], rules["differs"]) == (True, [])  # nobody had to ask for it
        assert tally.failed == 0, tally.failures

        platform.set_version("bad")
        bad = await asyncio.to_thread(platform.json, *DEPLOY)
        assert bad["state"] == "succeeded", bad
        assert bad["gates"] == ["pass error_budget: 100.0% of the error budget is left"]
        (paged,) = await eventually(incidents, bool, EVALUATED_SECONDS)
        assert (paged["cause"], paged["severity"]) == ("slo availability", "page")
        (resolved,) = await eventually(incidents, lambda found: found[0].get("postmortem"), EVALUATED_SECONDS)
    assert set(tally.failed_versions) == {bad["version"]}
    assert tally.versions[good["version"]] > 0
    assert (resolved["suspect"], resolved["evidence"]) == (bad["id"], "version")
    assert [(a["recovery"], a["outcome"]) for a in resolved["attempts"]] == [("rollback", "done: succeeded")]
    draft = (platform.root / resolved["postmortem"]).read_text()
    for said in ("ErrorBudgetBurn", bad["id"], "rollback of", "resolved"):
        assert said in draft

    found = platform.json("report", "dora")
    (failure,) = found["failures"]
    assert failure["operation"] == bad["id"]
    assert 0 < failure["recovery_seconds"] < 2 * EVALUATED_SECONDS
    (delivery,) = [row["delivery"] for row in found["services"]]
    assert (delivery["deploys"], delivery["failed"]) == (2, 1)


async def test_what_the_errors_have_spent_holds_the_next_deploy_but_not_the_fix(
    platform: RunningPlatform, api: httpx2.AsyncClient
) -> None:
    slos = (await api.get("/api/reports/slo")).json()["slos"]
    (spent,) = [s for s in slos if (s["service"], s["slo"]) == ("hello", "availability")]
    assert not spent["met"]
    assert spent["remaining_ratio"] < 0
    platform.set_version("next")
    refused = platform.json(*DEPLOY, check=False)["error"]
    assert (refused["code"], "fail error_budget" in refused["message"]) == ("failed_precondition", True)
    (incident,) = (await api.get("/api/incidents")).json()["incidents"]
    fixed = platform.json(*DEPLOY, "--fixes", incident["id"])
    assert fixed["state"] == "succeeded", fixed
    assert any("fix" in line for line in fixed["gates"])
    assert platform.json("log", "verify")["intact"]
    proposed = platform.json("report", "slo", "--propose", "hello")
    assert 0 < proposed["shown"]["errors"] < proposed["shown"]["requests"]


async def test_while_prometheus_is_down_reads_say_so_and_a_change_waits(
    platform: RunningPlatform, api: httpx2.AsyncClient
) -> None:
    async def problems() -> list[str]:
        return list((await api.get("/api/reports/slo")).json().get("problems", ()))

    made = platform.json("alert", "create", "Quiet", *OF_TRAFFIC, "1e6")
    assert made["state"] == "succeeded", made
    with stopped(platform, "prometheus"):
        assert "hello: Prometheus does not answer" in await eventually(problems, bool, 20)
        (alert,) = platform.json("alert", "list")
        assert alert["state"] == "unknown"
        async with platform.client() as client:
            with pytest.raises(RuntimeError, match="Prometheus does not answer"):
                await call(client, "query_metrics", {"expression": "up"})
        platform.replace("services/hello/slo.yaml", "1h", "2h")
        applying = asyncio.create_task(asyncio.to_thread(platform.json, "monitoring", "apply", "hello"))
    applied = await applying
    assert applied["state"] == "succeeded", applied
    assert await eventually(problems, lambda found: not found, 20) == []


async def test_what_fires_while_alertmanager_is_down_is_told_when_it_is_back(
    platform: RunningPlatform, api: httpx2.AsyncClient
) -> None:
    async def state() -> str:
        listed = await asyncio.to_thread(platform.json, "alert", "list")
        return next(str(alert["state"]) for alert in listed if alert["name"] == "Busy")

    async def busy() -> list[Any]:
        return [i for i in (await api.get("/api/incidents")).json()["incidents"] if i["cause"] == "Busy"]

    async with Load(platform.ingress_port, HOST, connections=2, pause_seconds=0.02):
        with stopped(platform, "alertmanager"):
            made = await asyncio.to_thread(platform.json, "alert", "create", "Busy", *OF_TRAFFIC, "0.1")
            assert made["state"] == "succeeded", made
            await eventually(state, lambda seen: seen == "firing", 60)
            assert await busy() == []
        (told,) = await eventually(busy, bool, 60)
    assert told["severity"] == "ticket"
    assert platform.json("log", "verify")["intact"]
