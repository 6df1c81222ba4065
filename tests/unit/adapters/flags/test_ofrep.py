from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from santiago_platform.adapters.flags.evaluation import Evaluation
from santiago_platform.adapters.flags.ofrep import build_app
from santiago_platform.adapters.flags.stream import Changes, StreamTokens


def broken() -> Evaluation:
    raise RuntimeError("its own fault, with a secret in it")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/production/ofrep/v1/evaluate/flags/new", 500),
        ("POST", "/production/ofrep/v1/evaluate/flags", 500),
        ("GET", "/production/ofrep/v1/evaluate/flags", 405),
        ("GET", "/elsewhere", 404),
    ],
)
async def test_a_failure_of_the_endpoint_itself_is_the_openapis_general_error(
    tmp_path: Path, method: str, path: str, status: int
) -> None:
    app = build_app(broken, Changes("r"), StreamTokens(tmp_path / "key"))
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.request(method, path, json={"context": {}})
    assert answer.status_code == status
    assert set(answer.json()) == {"errorDetails"}
    assert "secret" not in answer.text
