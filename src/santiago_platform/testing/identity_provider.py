"""What everything that vouches for callers keeps to."""

from __future__ import annotations

import pytest

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Level, Role
from ..ports.identity_provider import IdentityProvider


class IdentityProviderContract:
    """Subclasses give the fixtures `provider`, and `token`: of an apprentice `ann` who is a developer of `default`."""

    async def test_a_token_that_holds_names_its_bearer(self, provider: IdentityProvider, token: str) -> None:
        found = await provider.principal(token)
        assert (found.name, found.role, found.tenant, found.level) == (
            "ann",
            Role.DEVELOPER,
            "default",
            Level.APPRENTICE,
        )
        assert await provider.principal(token) == found

    async def test_what_is_no_token_is_refused_in_the_same_words(self, provider: IdentityProvider, token: str) -> None:
        words = set()
        for wrong in (
            "",
            "a.b.c",
            "..",
            token[:-4],
            token + "x",
            "x" * 100_000,
            token.replace(".", "", 1),
            "\x00.é.\n",
        ):
            with pytest.raises(PlatformError) as raised:
                await provider.principal(wrong)
            assert raised.value.code is ErrorCode.UNAUTHENTICATED
            words.add(raised.value.message)
        assert len(words) == 1
