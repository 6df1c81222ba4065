from __future__ import annotations

from typing import Protocol

from ..domain.identity import Principal


class IdentityProvider(Protocol):
    """Vouches for callers who come with a token that this platform did not issue."""

    async def principal(self, token: str) -> Principal:
        """The bearer of a token, whose tenant may be one that there is not.

        Raises PlatformError: UNAUTHENTICATED for a token that does not hold, and where there is no provider;
        PERMISSION_DENIED where its bearer has no role or scope here; UNAVAILABLE where its keys cannot be had now.
        """
