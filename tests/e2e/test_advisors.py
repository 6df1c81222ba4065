from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from santiago_platform.testing.provider import MODEL, ProviderDouble, Reply, Wire
from santiago_platform.testing.running_platform import RunningPlatform, call

pytestmark = pytest.mark.e2e

KEY = "planted-key-of-the-provider-0123456789"


def _says(request: dict[str, Any]) -> dict[str, Any]:
    return {"request": request, "rationale": "A canary harms few.", "risks": ["it may be slower"], "confidence": 0.8}


async def test_words_become_a_plan_by_the_command_line_and_by_mcp_that_is_done_once_it_is_confirmed(
    platform: RunningPlatform,
) -> None:
    words = "deploy hello HEAD to staging as a canary"
    shown = platform.json("deploy", "--request", words)
    advice = shown["plan"]["advice"]
    assert (shown["state"], shown["phase"]) == ("awaiting", "confirmation")
    assert (advice["by"], advice["cost_usd"]) == ("builtin", "0")
    assert advice["arguments"] == {
        "service": "hello",
        "environment": "staging",
        "git_ref": "HEAD",
        "strategy": "canary",
    }
    dry = platform.json("deploy", "hello", "-e", "staging", "--request", "deploy HEAD", "--dry-run")
    assert (dry["state"], dry["plan"]["advice"]["tool"]) == ("planned", "deploy_service")
    assert platform.json("reject", shown["id"])["state"] == "rejected"

    proposal = {"deploy": {"service": "hello", "environment": "staging", "git_ref": "HEAD", "hold": True}}
    async with ProviderDouble(Wire.CHAT, Reply.TOO_MANY, Reply.DRAFT, draft=_says(proposal)) as double:
        key = platform.root / ".santiago" / "provider.key"
        key.write_text(KEY)
        key.chmod(0o600)
        provider = {
            "type": "openai_compatible",
            "model": "m",
            "base_url": double.base_url,
            "key_file": ".santiago/provider.key",
        }
        budget = {"prices": {"m": {"input_usd": 1, "output_usd": 2}}}
        settings = {"advisors": {"providers": {"first": provider, "second": provider}}, "budget": budget}
        text = (platform.root / "santiago.yaml").read_text()
        (platform.root / "santiago.yaml").write_text(
            text + "".join(f"\n{name}: {json.dumps(value)}\n" for name, value in settings.items())
        )
        async with platform.client() as client:
            answer = await call(client, "deploy_service", {"request": words})
        plan = answer["plan"]["advice"]
        assert (plan["by"], plan["tool"]) == (f"second ({MODEL})", "deploy_service")
        assert plan["arguments"] == {**proposal["deploy"]}
        assert len(plan["tried"]) == 1
        assert "first (m): first answered 429" in plan["tried"][0]
        assert float(plan["cost_usd"]) == (1200 * 1 + 80 * 2) / 1e6
        assert double.headers[0]["authorization"] == f"Bearer {KEY}"
        said = json.dumps(double.requests)
        assert "hello in staging" in said or "nothing is deployed yet" in said
        seen = await asyncio.to_thread(platform.santiago, "status")
        assert KEY not in said + json.dumps(answer) + seen.stdout
    log = "".join(path.read_text() for path in (platform.root / "ships-logs" / "platform").glob("*.jsonl"))
    assert '"outcome":"planned"' in log.replace('": "', '":"')
    assert KEY not in log
    assert platform.json("status")["ship_log"]["entries"] > 0
    platform.santiago("approve", answer["id"], "--plan", answer["plan"]["hash"])
    async with platform.client() as client:
        told = {"action": "wait", "operation": answer["id"], "timeout_seconds": 60}
        (done,) = (await call(client, "manage_operation", told))["operations"]
    assert (done["state"], done["phase"]) == ("running", "holding"), done
    platform.santiago("promote", "hello", "--env", "staging", "--wait")
