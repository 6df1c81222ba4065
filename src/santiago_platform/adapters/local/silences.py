"""Silences as Alertmanager keeps them, by its API v2."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx2
from pydantic import ValidationError

from ...domain.errors import ErrorCode, PlatformError
from ...domain.silence import Silence

ANSWER_SECONDS = 5.0
_LABELS = {"alertname", "service", "environment"}


class AlertmanagerSilences:
    """Implements ports.silences.Silences. port: of Alertmanager, on loopback."""

    def __init__(self, port: int) -> None:
        self._client = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}/api/v2", timeout=ANSWER_SECONDS, trust_env=False, verify=False
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def make(self, silence: Silence) -> str:
        body = {
            "matchers": [
                {"name": name, "value": value, "isRegex": False, "isEqual": True}
                for name, value in silence.labels.items()
            ],
            "startsAt": silence.starts_at.isoformat(),
            "endsAt": silence.ends_at.isoformat(),
            "createdBy": silence.by,
            "comment": silence.reason,
        }
        answer = await self._ask("POST", "/silences", json=body)
        if answer.status_code == 400:
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT, f"Alertmanager refuses the silence: {answer.text.strip()[:300]}", ""
            )
        return str(_content(answer)["silenceID"])

    async def end(self, id: str) -> None:
        # Alertmanager answers 500 to whoever ends what has ended.
        if any(found["id"] == id for found in await self._going_on()):
            answer = await self._ask("DELETE", f"/silence/{quote(id, safe='')}")
            if answer.status_code != 200:
                raise _unavailable(answer.text)

    async def active(self) -> tuple[Silence, ...]:
        return tuple(silence for found in await self._going_on() if (silence := _silence(found)) is not None)

    async def _going_on(self) -> list[dict[str, Any]]:
        return [s for s in _content(await self._ask("GET", "/silences")) if s["status"]["state"] != "expired"]

    async def _ask(self, method: str, path: str, **body: Any) -> httpx2.Response:
        try:
            return await self._client.request(method, path, **body)
        except httpx2.HTTPError as exc:
            raise _unavailable(repr(exc)) from exc


def _silence(found: dict[str, Any]) -> Silence | None:
    """None for what is not of one alert of one service in one environment, as others may have made."""
    plain = {m["name"]: m["value"] for m in found["matchers"] if not m["isRegex"] and m.get("isEqual", True)}
    if set(plain) != _LABELS or len(found["matchers"]) != len(_LABELS):
        return None
    try:
        return Silence.model_validate(
            {
                "alert": plain["alertname"],
                "service": plain["service"],
                "environment": plain["environment"],
                "starts_at": found["startsAt"],
                "ends_at": found["endsAt"],
                "by": found["createdBy"],
                "reason": found["comment"],
                "id": found["id"],
            }
        )
    except ValidationError:
        return None


def _content(answer: httpx2.Response) -> Any:
    try:
        if answer.status_code != 200:
            raise ValueError(f"{answer.status_code}: {answer.text[:300]}")
        return answer.json()
    except ValueError as exc:
        raise _unavailable(str(exc)) from exc


def _unavailable(internal: str) -> PlatformError:
    return PlatformError(
        ErrorCode.UNAVAILABLE,
        "Alertmanager does not answer: it has the silences",
        "`santiago status` says whether it runs; try again in a moment",
        internal=internal,
        retry_after=1.0,
    )
