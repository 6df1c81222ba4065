"""An OAuth 2.1 resource server's half: access tokens that are JWTs (RFC 9068), verified by the issuer's keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jwt

from ...domain.environment import Settings
from ...domain.errors import ErrorCode, PlatformError
from ...domain.identity import Principal
from ...domain.oauth import OAuth
from ...ports.clock import Clock
from .key_set import KeySet

TOKEN_BYTES = 16 * 1024
TYPES = (None, "jwt", "at+jwt", "application/at+jwt")


class OAuthIdentityProvider:
    """Implements ports.identity_provider.IdentityProvider by `oauth` in santiago.yaml, as it stands."""

    def __init__(self, root: Path, settings: Callable[[], Settings], clock: Clock) -> None:
        self._root = root
        self._settings = settings
        self._clock = clock
        self._keys: tuple[str, KeySet] | None = None

    async def principal(self, token: str) -> Principal:
        settings = self._settings()
        oauth = settings.oauth
        if oauth is None or len(token) > TOKEN_BYTES:
            raise _refused("no provider is set, or the token is too large")
        try:
            header = jwt.get_unverified_header(token)
            kid = header.get("kid", "")
            known = header.get("typ") is None or str(header["typ"]).lower() in TYPES
            if header.get("alg") not in oauth.algorithms or not isinstance(kid, str) or "crit" in header or not known:
                raise _refused(f"its header is {header}"[:500])
            key = await self._key_set(oauth).key(kid)
            if key is None:
                raise _refused(f"the issuer has no key {kid[:100]!r}")
            claims = jwt.decode(
                token,
                key,  # which knows its algorithm: another one of the list is refused
                algorithms=list(oauth.algorithms),
                audience=oauth.resource,
                issuer=oauth.issuer,
                leeway=oauth.leeway_seconds,
                options={"require": ["exp", "iss", "aud", oauth.name_claim]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as exc:
            raise _refused(repr(exc)[:500]) from exc
        return oauth.principal(claims, settings.tenant)

    def _key_set(self, oauth: OAuth) -> KeySet:
        if self._keys is None or self._keys[0] != oauth.jwks:
            self._keys = (oauth.jwks, KeySet(oauth.jwks, self._root, self._clock))
        return self._keys[1]


def _refused(why: str) -> PlatformError:
    """The same words whatever is wrong; the log has what it is."""
    return PlatformError(
        ErrorCode.UNAUTHENTICATED,
        "the token is unknown, expired or revoked",
        "get one for this server from its authorization server, or from its owner",
        internal=why,
    )
