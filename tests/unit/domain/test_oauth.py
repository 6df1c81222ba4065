from __future__ import annotations

from typing import Any

import pytest

from santiago_platform.domain.identity import Level, Principal
from santiago_platform.domain.oauth import OAuth

SERVER = OAuth(issuer="https://login.example", resource="https://here.example/mcp", jwks="https://login.example/keys")


def bearer(**claims: Any) -> Principal:
    said = {"sub": "bot", "santiago_role": "developer", "scope": "santiago:change", **claims}
    return SERVER.principal(said, "home")


@pytest.mark.parametrize("claims", [{}, {"santiago_level": None, "santiago_tenant": None}])
def test_a_claim_of_null_is_as_no_claim_and_raises_nothing(claims: dict[str, Any]) -> None:
    found = bearer(**claims)
    assert (found.level, found.tenant) == (Level.APPRENTICE, "home")


def test_a_claim_says_the_level_and_the_tenant() -> None:
    found = bearer(santiago_level="master", santiago_tenant="shop")
    assert (found.level, found.tenant) == (Level.MASTER, "shop")
