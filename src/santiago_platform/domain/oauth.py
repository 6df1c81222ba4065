"""Callers whom an authorization server vouches for: what its tokens must say, and whom they make of their bearers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from .errors import ErrorCode, PlatformError
from .identity import Level, Name, Principal, Role
from .value import Value

# Signatures by a private key alone: with a shared secret, whoever verifies could sign.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_URL = r"(https://|http://(localhost|127\.0\.0\.1|\[::1\])[:/])[^\s\"]+"  # in the clear on loopback alone
Url = Annotated[str, Field(pattern=f"^{_URL}$", max_length=500)]
PREFIX = "santiago:"
_NAME = TypeAdapter(Name)


class OAuth(Value):
    """issuer, resource: `iss` and `aud` of the tokens that are taken; resource is this server's URL.

    jwks: the issuer's keys: a URL, or a file in the workspace. name_claim and the others: where a token has the
    bearer's name, role, tenant and level; of a list, the first that is known counts. roles: from what the claim says to
    roles; without it, it says a role itself, and the owner is none of these.
    """

    issuer: Url
    resource: Url
    jwks: Annotated[str, Field(pattern=f"^({_URL}|[^:]+)$", max_length=500)]
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256", "ES256", "EdDSA")
    leeway_seconds: Annotated[float, Field(ge=0, le=300)] = 30
    name_claim: str = "sub"
    role_claim: str = "santiago_role"
    tenant_claim: str = "santiago_tenant"
    level_claim: str = "santiago_level"
    roles: dict[str, Role] = {}

    @property
    def metadata_url(self) -> str:
        """Where RFC 9728 has the metadata of this server."""
        scheme, _, rest = self.resource.partition("://")
        host, slash, path = rest.partition("/")
        return f"{scheme}://{host}{METADATA_PATH}" + (f"{slash}{path}".rstrip("/") if path else "")

    def principal(self, claims: Mapping[str, Any], tenant: str) -> Principal:
        """The bearer of a token that was verified. tenant: the workspace's own.

        Raises PlatformError: UNAUTHENTICATED where the token has no name or an unknown level, PERMISSION_DENIED where
        it has no role here, or no scope.
        """
        name = claims.get(self.name_claim)
        if not isinstance(name, str) or not name:
            raise PlatformError(ErrorCode.UNAUTHENTICATED, f"the token has no claim {self.name_claim}")
        role = self._role(claims.get(self.role_claim))
        granted = _grants(claims)
        if not granted:
            raise PlatformError(
                ErrorCode.PERMISSION_DENIED, "the token has no scope for this server", f"scopes: {', '.join(SCOPES)}"
            )
        try:
            return Principal.model_validate(
                {
                    "name": _name(name),
                    "role": role,
                    "tenant": claims.get(self.tenant_claim) or tenant,
                    "level": claims.get(self.level_claim) or Level.APPRENTICE,
                    "scope": None,
                    "granted": granted,
                }
            )
        except ValidationError as exc:
            raise PlatformError(
                ErrorCode.UNAUTHENTICATED, f"the claims {self.tenant_claim} or {self.level_claim} say nothing known"
            ) from exc

    def _role(self, said: object) -> Role:
        for value in said if isinstance(said, list) else [said]:
            if isinstance(value, str) and value in self.roles:
                return self.roles[value]
            if not self.roles and isinstance(value, str) and value in set(Role) - {Role.OWNER}:
                return Role(value)
        raise PlatformError(
            ErrorCode.PERMISSION_DENIED,
            f"the token's {self.role_claim} is no role here",
            "oauth.roles in santiago.yaml says which are",
        )


METADATA_PATH = "/.well-known/oauth-protected-resource"
SCOPES = ("santiago:read", "santiago:change", "santiago:attest", "santiago:own")


def _grants(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """What follows `santiago:` in the scopes: a group of actions, or a tool."""
    said = claims.get("scope", claims.get("scp", ""))
    words = said.split() if isinstance(said, str) else said if isinstance(said, list) else []
    return tuple(sorted({w.removeprefix(PREFIX) for w in words if isinstance(w, str) and w.startswith(PREFIX)}))


def _name(said: str) -> str:
    """A subject that is no name of ours gets one, always the same."""
    try:
        return _NAME.validate_python(said)
    except ValidationError:
        return f"u-{hashlib.sha256(said.encode(errors='replace')).hexdigest()[:24]}"
