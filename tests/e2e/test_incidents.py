"""An incident on the real platform: Prometheus' rule fires, Alertmanager tells, the release is taken back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
import yaml

from santiago_platform.adapters.local.platform import known_ports
from santiago_platform.testing.alerts import alert, webhook
from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.running_platform import RunningPlatform

pytestmark = pytest.mark.e2e

PRODUCTION = """\
  production:
    incidents: {quiet_seconds: 1}
    defaults:
      watch_seconds: 0  # the watch over a new version would be first
"""
FAILED = 'envoy_cluster_external_upstream_rq_xx{service="hello",environment="production",envoy_response_code_class="5"}'
RULE = {
    "alert": "HelloFails",
    "expr": f"sum by (version) (rate({FAILED}[10s])) > 0.2",
    "labels": {"service": "hello", "environment": "production", "severity": "page"},
    "annotations": {"summary": "hello answers with errors", "runbook_url": "https://runbooks.example/hello"},
}
ANSWER = '        if "orders" in self.path and VERSION == "bad":\n            return self.send_error(500)\n'


@pytest.fixture(scope="module")
def alerted(platform: RunningPlatform) -> RunningPlatform:
    """With a rule, and a release in production whose successor fails."""
    platform.replace("santiago.yaml", "  production:\n    defaults:\n", PRODUCTION)
    platform.replace("services/hello/server.py", "    def answer(self):\n", "    def answer(self):\n" + ANSWER)
    platform.set_version("good")
    platform.santiago("deploy", "hello", "--env", "production", "--wait")
    rules = {"groups": [{"name": "hello", "interval": "1s", "rules": [RULE]}]}
    (platform.layout.prometheus / "rules" / "of-this-test.yaml").write_text(yaml.safe_dump(rules))
    ports = known_ports(platform.layout)
    assert ports is not None
    httpx2.post(f"http://127.0.0.1:{ports.prometheus}/-/reload", trust_env=False).raise_for_status()
    return platform


async def test_errors_of_a_release_page_somebody_and_it_is_taken_back_and_written_up(alerted: RunningPlatform) -> None:
    alerted.set_version("bad")
    alerted.santiago("deploy", "hello", "--env", "production", "--wait")
    headers = {"authorization": f"Bearer {alerted.token}"}
    async with (
        httpx2.AsyncClient(trust_env=False) as users,
        httpx2.AsyncClient(base_url=alerted.url, headers=headers, trust_env=False) as api,
    ):

        async def use() -> None:
            while True:
                await users.get(
                    f"http://127.0.0.1:{alerted.ingress_port}/orders", headers={"host": "hello.production.localhost"}
                )
                await asyncio.sleep(0.02)

        async def incidents() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = (await api.get("/api/incidents")).json()["incidents"]
            return found

        traffic = asyncio.create_task(use())
        try:
            (opened,) = await eventually(incidents, bool, seconds=30)
            assert (opened["cause"], opened["severity"], opened["service"]) == ("HelloFails", "page", "hello")
            acknowledged = alerted.json("incident", "ack", opened["id"], "--text", "looking")
            assert acknowledged["incident"]["state"] == "acknowledged"
            (resolved,) = await eventually(incidents, lambda found: found[0]["postmortem"], seconds=60)
        finally:
            traffic.cancel()
        assert resolved["state"] == "resolved"
        assert resolved["evidence"] == "version"
        assert [(a["recovery"], a["outcome"]) for a in resolved["attempts"]] == [("rollback", "done: succeeded")]
        answer = await users.get(
            f"http://127.0.0.1:{alerted.ingress_port}/", headers={"host": "hello.production.localhost"}
        )
        assert answer.json()["version"] == "good"
    draft = (alerted.root / resolved["postmortem"]).read_text()
    for said in ("HelloFails fires", "acknowledged by owner", "rollback of", "resolved"):
        assert said in draft
    shown = alerted.json("incident", "show", opened["id"])
    assert any(event["kind"] == "change" for event in shown["timeline"])
    (times,) = alerted.json("incident", "list")["times"]
    assert 0 < times["mtta_seconds"] <= times["mttr_seconds"] < 60
    assert alerted.json("log", "verify")["intact"]


def test_what_is_posted_without_alertmanagers_token_is_refused_and_with_it_is_once(alerted: RunningPlatform) -> None:
    body = webhook(alert(datetime.now(UTC), service="till", severity="ticket"))
    hook = f"{alerted.url}/hooks/alertmanager"
    refused = httpx2.post(hook, json=body, headers={"authorization": f"Bearer {alerted.token}"}, trust_env=False)
    assert refused.status_code == 401
    token = (alerted.layout.alertmanager / "webhook.token").read_text()
    answers = [
        httpx2.post(hook, json=body, headers={"authorization": f"Bearer {token}"}, trust_env=False) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [len(answer.json()["incidents"]) for answer in answers] == [1, 0]
