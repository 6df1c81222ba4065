"""Reads a feature flag back over OFREP, as a client of it would. It shares no code with what serves them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import httpx2

from ...domain.proof import Observation

TIMEOUT_SECONDS = 2.0
USERS = 50  # who are asked for, where the answer is not the same for everybody
ASKED_AT_ONCE = 10


async def observe_flag(subject: str, port: int) -> Observation:
    """subject: `flag KEY ENVIRONMENT`. port: where the endpoint should be."""
    _, key, environment = subject.split(" ")
    source = f"OFREP on 127.0.0.1:{port}"
    url = f"http://127.0.0.1:{port}/{environment}/ofrep/v1/evaluate/flags/{key}"
    async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False, verify=False) as client:
        try:
            status, answer = await _ask(client, url, "santiago-probe")
            detail = ""
            if answer.get("reason") not in ("STATIC", "DISABLED") and status != 404:
                detail = await _shares(client, url)
            value = _text(status, answer)
        except (httpx2.HTTPError, ValueError, KeyError, TypeError) as exc:
            return Observation(subject=subject, value=None, source=source, detail=f"no answer: {exc!r:.200}")
    return Observation(subject=subject, value=value, source=source, detail=detail)


async def _ask(client: httpx2.AsyncClient, url: str, user: str) -> tuple[int, dict[str, Any]]:
    response = await client.post(url, json={"context": {"targetingKey": user}})
    answer = response.json()
    if not isinstance(answer, dict):
        raise TypeError(f"no object: {answer!r:.100}")
    return response.status_code, answer


async def _shares(client: httpx2.AsyncClient, url: str) -> str:
    """What some users get, in words."""
    seen: Counter[str] = Counter()
    for first in range(0, USERS, ASKED_AT_ONCE):
        users = [f"santiago-probe-{number}" for number in range(first, first + ASKED_AT_ONCE)]
        answers = await asyncio.gather(*(_ask(client, url, user) for user in users))
        seen.update(str(answer.get("variant") or answer.get("errorCode")) for _, answer in answers)
    return f"of {USERS} users " + ", ".join(f"{count} get {variant}" for variant, count in seen.most_common(5))


def _text(status: int, answer: dict[str, Any]) -> str:
    """As domain/flag.py writes what it wants to see."""
    if status == 404 and answer.get("errorCode") == "FLAG_NOT_FOUND":
        return "absent"
    definition = f"definition {answer['metadata']['definition']}"
    if answer.get("reason") == "DISABLED":
        return f"the code's default, {definition}"
    if answer.get("reason") == "STATIC":
        value = answer["value"]
        plain = int(value) if isinstance(value, float) and value.is_integer() else value
        return f"{answer['variant']}={json.dumps(plain, sort_keys=True, separators=(',', ':'))}, {definition}"
    return f"by its rules, {definition}"
