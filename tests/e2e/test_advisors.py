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


async def test_words_become_a_plan_by_the_command_line_and_by_mcp_and_nothing_is_changed(
    platform: RunningPlatform,
) -> None:
    words = "deploy hello HEAD to staging as a canary"
    shown = platform.json("deploy", "--request", words)
    assert (shown["state"], shown["plan"]["by"], shown["plan"]["cost_usd"]) == ("planned", "builtin", "0")
    assert shown["plan"]["arguments"] == {
        "service": "hello",
        "environment": "staging",
        "git_ref": "HEAD",
        "strategy": "canary",
    }
    assert "in words" not in platform.santiago("deploy", "hello", "-e", "staging", "--request", "HEAD").stdout

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
        plan = answer["plan"]
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
    async with platform.client() as client:
        history = await call(client, "manage_operation", {"action": "history"})
    assert history["operations"] == []
