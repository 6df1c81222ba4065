"""Bearer tokens: issued once, kept as a hash, checked at each call."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Level, Name, Principal, Role, Scope, Token
from ..domain.value import Value
from ..ports import Ports
from .authority import authorise
from .change import change

PREFIX = "sntg_"  # of what was issued here


class TokenRequest(Value):
    """level, scope: None: as santiago.yaml says of the role. ttl_seconds None: does not expire."""

    name: Name
    role: Role
    tenant: Name | None = None
    level: Level | None = None
    scope: Scope | None = None
    ttl_seconds: Annotated[float, Field(gt=0, le=10 * 366 * 86400)] | None = None
    note: Annotated[str, Field(max_length=200)] = ""


class IssuedToken(Value):
    """token: shown this once. id: names it in `token list` and the ship's log."""

    id: str
    token: str
    principal: Principal
    expires_at: datetime | None


async def issue_token(ports: Ports, principal: Principal, request: TokenRequest) -> IssuedToken:
    """A new token. Raises PERMISSION_DENIED unless the owner asks."""
    asked = request.model_dump(mode="json", exclude_defaults=True)
    async with change(ports, principal, "issue_token", f"token of {request.name}", asked) as record:
        authorise(ports, principal, "issue_token")
        settings = ports.workspace.settings()
        tenant = request.tenant or settings.tenant
        if tenant not in settings.tenant_names:
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT,
                f"there is no tenant {tenant}",
                f"name it under tenants in santiago.yaml; there are: {', '.join(sorted(settings.tenant_names))}",
            )
        if request.role is Role.OWNER and tenant != settings.tenant:
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT,
                f"an owner is of all tenants, not of {tenant}",
                "the roles platform and developer may do everything within their tenant",
            )
        now = ports.clock.now()
        token_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        token = Token(
            id=token_id,
            secret_sha256=_hash(secret),
            principal=Principal(
                name=request.name, role=request.role, tenant=tenant, level=request.level, scope=request.scope
            ),
            created_at=now,
            expires_at=now + timedelta(seconds=request.ttl_seconds) if request.ttl_seconds else None,
            note=request.note,
        )
        await ports.store.write(lambda tx: tx.save_token(token))
        record.outcome, record.body = "issued", {"token_id": token_id, "role": request.role}
    return IssuedToken(
        id=token_id, token=f"{PREFIX}{token_id}_{secret}", principal=token.principal, expires_at=token.expires_at
    )


class TokenView(Value):
    id: str
    name: str
    role: Role
    level: Level | None
    scope: Scope | None
    tenant: str
    created_at: datetime
    expires_at: datetime | None
    revoked: bool
    note: str


async def list_tokens(ports: Ports, principal: Principal) -> list[TokenView]:
    """Without their secrets, which nobody has."""
    authorise(ports, principal, "issue_token")
    return [
        TokenView(
            id=t.id,
            name=t.principal.name,
            role=t.principal.role,
            level=t.principal.level,
            scope=t.principal.scope,
            tenant=t.principal.tenant,
            created_at=t.created_at,
            expires_at=t.expires_at,
            revoked=t.revoked,
            note=t.note,
        )
        for t in await ports.store.read(lambda v: v.tokens())
    ]


async def revoke_token(ports: Ports, principal: Principal, token_id: str) -> None:
    """From the next call on it is refused. Raises NOT_FOUND, PERMISSION_DENIED."""
    async with change(ports, principal, "revoke_token", f"token {token_id}", {"token_id": token_id}) as record:
        authorise(ports, principal, "issue_token")
        token = await ports.store.read(lambda v: v.token(token_id))
        if token is None:
            raise PlatformError(ErrorCode.NOT_FOUND, f"there is no token {token_id}", "`santiago token list` has them")
        await ports.store.write(lambda tx: tx.save_token(token.model_copy(update={"revoked": True})))
        record.outcome = "revoked"


async def authenticate(ports: Ports, bearer: str) -> Principal:
    """The principal of a bearer token that was issued here, or that the identity provider vouches for.

    Raises PlatformError: UNAUTHENTICATED, with the same words whatever is wrong with it; what else the provider says.
    """
    if not bearer.startswith(PREFIX):
        return await ports.identity_provider.principal(bearer)
    refused = PlatformError(
        ErrorCode.UNAUTHENTICATED, "the token is unknown, expired or revoked", "`santiago token issue` makes one"
    )
    parts = bearer.split("_", 2)
    if len(parts) != 3 or len(bearer) > 200:
        raise refused
    token = await ports.store.read(lambda v: v.token(parts[1]))
    stored = token.secret_sha256 if token else "0" * 64
    if not hmac.compare_digest(_hash(parts[2]), stored) or token is None or token.revoked:
        raise refused
    if token.expires_at is not None and ports.clock.now() >= token.expires_at:
        raise refused
    return token.principal.model_copy(update={"token": token.id})


def _hash(secret: str) -> str:
    """SHA-256 is enough: the secret has 256 bits of chance, so there is nothing to guess."""
    return hashlib.sha256(secret.encode()).hexdigest()
