"""Asks another system over HTTP: one POST, a bounded answer, no redirects."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..domain.errors import ErrorCode, PlatformError
from ..domain.gate import Reply

ANSWER_BYTES = 64 * 1024


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    passed: bool = Field(alias="pass")
    reason: str = ""


class HttpWebhook:
    """Implements ports.webhook.Webhook. root: of the workspace, which relative paths are within."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def ask(self, url: str, body: dict[str, Any], *, timeout_seconds: float, token_file: str | None) -> Reply:
        headers = {"authorization": f"Bearer {self._token(token_file)}"} if token_file else {}
        try:
            async with asyncio.timeout(timeout_seconds):
                return await _post(url, body, headers)
        except TimeoutError as exc:
            raise _unclear(url, f"did not answer within {timeout_seconds:g} s") from exc
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            raise _unclear(url, f"could not be asked: {type(exc).__name__}", str(exc)) from exc

    def _token(self, token_file: str) -> str:
        path = self._root / token_file  # an absolute one stays what it is
        try:
            return path.read_text().strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION, f"the webhook's token cannot be read: {token_file}", internal=str(exc)
            ) from exc


async def _post(url: str, body: dict[str, Any], headers: dict[str, str]) -> Reply:
    async with (
        httpx2.AsyncClient(follow_redirects=False, trust_env=False, timeout=None) as client,
        client.stream("POST", url, json=body, headers=headers) as answer,
    ):
        if not 200 <= answer.status_code < 300:
            raise _unclear(url, f"answered {answer.status_code}")
        content = bytearray()
        async for chunk in answer.aiter_bytes():
            content += chunk
            if len(content) > ANSWER_BYTES:
                raise _unclear(url, f"answered more than {ANSWER_BYTES} bytes")
    try:
        said = _Answer.model_validate_json(bytes(content))
    except ValidationError as exc:
        raise _unclear(url, 'did not answer {"pass": true or false, "reason": "..."}', str(exc)) from exc
    return Reply(passed=said.passed, reason=said.reason[:500])


def _unclear(url: str, what: str, internal: str = "") -> PlatformError:
    return PlatformError(ErrorCode.UNAVAILABLE, f"{url} {what}", internal=internal)
