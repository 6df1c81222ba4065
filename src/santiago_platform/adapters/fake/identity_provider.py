from __future__ import annotations

from ...domain.errors import ErrorCode, PlatformError
from ...domain.identity import Principal


class FakeIdentityProvider:
    """Implements ports.identity_provider.IdentityProvider: vouches for the bearers of `tokens`."""

    def __init__(self) -> None:
        self.tokens: dict[str, Principal] = {}

    async def principal(self, token: str) -> Principal:
        if token not in self.tokens:
            raise PlatformError(ErrorCode.UNAUTHENTICATED, "the token is unknown, expired or revoked")
        return self.tokens[token]
