"""Access tokens of an authorization server, which is a double on loopback, and hostile ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from santiago_platform.adapters.fake.clock import ManualClock
from santiago_platform.adapters.fake.identity_provider import FakeIdentityProvider
from santiago_platform.adapters.identity import key_set
from santiago_platform.adapters.identity.oauth import OAuthIdentityProvider
from santiago_platform.domain.environment import Settings
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Level, Principal, Role
from santiago_platform.domain.oauth import OAuth
from santiago_platform.testing.identity_provider import IdentityProviderContract

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
STRANGER = ec.generate_private_key(ec.SECP256R1())
ISSUER, RESOURCE = "https://login.example", "https://platform.example/mcp"


class Issuer:
    """Serves a set of keys, and counts how often it is asked."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [public(EC, "ec"), public(RSA, "rsa")]
        self.status = 200
        self.asked = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                self.send_response(issuer.status)
                self.send_header("location", "/elsewhere")
                self.end_headers()
                self.wfile.write(json.dumps({"keys": issuer.keys}).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"


def public(key: Any, kid: str) -> dict[str, Any]:
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}


def token(key: Any = EC, *, header: dict[str, Any] | None = None, algorithm: str = "", **claims: Any) -> str:
    now = int(time.time())
    said = {
        "iss": ISSUER,
        "aud": RESOURCE,
        "exp": now + 300,
        "iat": now,
        "sub": "ann",
        "santiago_role": "developer",
        "scope": "openid santiago:read santiago:change",
        **claims,
    }
    kept = {name: value for name, value in said.items() if value is not None}
    rs = isinstance(key, rsa.RSAPrivateKey)
    headers = {"kid": "rsa" if rs else "ec", **(header or {})}
    return jwt.encode(kept, key, algorithm=algorithm or ("RS256" if rs else "ES256"), headers=headers)


def by_hand(header: dict[str, Any], claims: dict[str, Any], secret: bytes | None) -> str:
    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    body = f"{part(json.dumps(header).encode())}.{part(json.dumps(claims).encode())}"
    signature = hmac.new(secret, body.encode(), hashlib.sha256).digest() if secret is not None else b""
    return f"{body}.{part(signature)}"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def provider_of(jwks: str, clock: ManualClock, root: Path = Path("/nowhere"), **more: Any) -> OAuthIdentityProvider:
    settings = Settings(oauth=OAuth(issuer=ISSUER, resource=RESOURCE, jwks=jwks, **more))
    return OAuthIdentityProvider(root, lambda: settings, clock)


async def code(provider: OAuthIdentityProvider, bearer: str) -> ErrorCode | None:
    try:
        await provider.principal(bearer)
    except PlatformError as exc:
        return exc.code
    return None


class TestFakeIdentityProvider(IdentityProviderContract):
    @pytest.fixture
    def token(self) -> str:
        return "header.claims.signature"

    @pytest.fixture
    def provider(self, token: str) -> FakeIdentityProvider:
        made = FakeIdentityProvider()
        made.tokens[token] = Principal(name="ann", role=Role.DEVELOPER, level=Level.APPRENTICE)
        return made


class TestOAuthIdentityProvider(IdentityProviderContract):
    @pytest.fixture
    def token(self) -> str:
        return token()

    @pytest.fixture
    def provider(self, issuer: Issuer, clock: ManualClock) -> OAuthIdentityProvider:
        return provider_of(issuer.url, clock)


def hostile() -> dict[str, str]:
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": RESOURCE,
        "exp": now + 300,
        "sub": "ann",
        "santiago_role": "developer",
        "scope": "santiago:read",
    }
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {
        "no algorithm": by_hand({"alg": "none", "typ": "JWT", "kid": "ec"}, claims, None),
        "no algorithm, oddly written": by_hand({"alg": "nOnE", "kid": "ec"}, claims, None),
        "the public key as a secret": by_hand({"alg": "HS256", "kid": "rsa"}, claims, pem),
        "the public key as a secret, called RS256": by_hand({"alg": "RS256", "kid": "rsa"}, claims, pem),
        "the algorithm of another key": token(EC, header={"kid": "rsa"}),
        "another's key of a known name": token(STRANGER),
        "a key that it brings itself": token(STRANGER, header={"jwk": public(STRANGER, "ec")}),
        "a key at a place that it names": token(STRANGER, header={"jku": "http://127.0.0.1:1/keys", "kid": "mine"}),
        "a path for a key": token(STRANGER, header={"kid": "../../../../dev/null"}),
        "a query for a key": token(STRANGER, header={"kid": "x' UNION SELECT 'k"}),
        "a header that must be understood": token(header={"crit": ["x"], "x": 1}),
        "another kind of token": token(header={"typ": "dpop+jwt"}),
        "another audience": token(aud="https://other.example"),
        "no audience": token(aud=None),
        "an audience that begins alike": token(aud=RESOURCE + "/json"),
        "another issuer": token(iss="https://login.example.evil"),
        "no issuer": token(iss=None),
        "expired": token(exp=now - 31),
        "without an end": token(exp=None),
        "not valid yet": token(nbf=now + 60),
        "an end that is no number": token(exp="tomorrow"),
        "no subject": token(sub=None),
        "an algorithm that is not in the list": token(RSA, algorithm="PS512"),
        "a tenant that is no name": token(santiago_tenant="../bank"),
        "a level that there is not": token(santiago_level="grandmaster"),
        "huge": token(padding="x" * 20_000),
    }


@pytest.mark.parametrize("name", hostile())
async def test_a_hostile_token_is_refused(issuer: Issuer, clock: ManualClock, name: str) -> None:
    issuer.keys.append({"kty": "oct", "kid": "secret", "k": base64.urlsafe_b64encode(b"k" * 32).decode()})
    assert await code(provider_of(issuer.url, clock), hostile()[name]) is ErrorCode.UNAUTHENTICATED


async def test_what_is_almost_hostile_is_taken(issuer: Issuer, clock: ManualClock) -> None:
    now = int(time.time())
    provider = provider_of(issuer.url, clock)
    good = (
        token(RSA),
        token(exp=now - 25),
        token(nbf=now + 25),
        token(aud=["https://other.example", RESOURCE]),
        token(header={"typ": "at+jwt"}),
    )
    assert [await code(provider, bearer) for bearer in good] == [None] * len(good)


async def test_who_has_no_role_or_no_scope_here_is_denied_and_nobody_becomes_owner_unsaid(
    issuer: Issuer, clock: ManualClock
) -> None:
    provider = provider_of(issuer.url, clock)
    for bearer in (token(santiago_role=None), token(santiago_role="owner"), token(scope="openid"), token(scope=7)):
        assert await code(provider, bearer) is ErrorCode.PERMISSION_DENIED


async def test_claims_become_role_tenant_level_and_grants_as_the_settings_say(
    issuer: Issuer, clock: ManualClock
) -> None:
    provider = provider_of(
        issuer.url,
        clock,
        role_claim="groups",
        tenant_claim="org",
        name_claim="client_id",
        roles={"sre": Role.PLATFORM, "captains": Role.OWNER},
    )
    found = await provider.principal(
        token(client_id="ci-bot", groups=["staff", "sre"], org="shop", santiago_level="master", scope="santiago:read")
    )
    assert found == Principal(name="ci-bot", role=Role.PLATFORM, tenant="shop", level=Level.MASTER, granted=("read",))
    assert (await provider.principal(token(client_id="a", groups="captains"))).role is Role.OWNER
    odd = [(await provider.principal(token(client_id=n, groups="sre"))).name for n in ("auth0|1", "auth0|2", "auth0|1")]
    assert odd[0] == odd[2] != odd[1]
    assert odd[0].startswith("u-")


async def test_keys_are_kept_rotated_and_not_asked_for_at_every_unknown_name(
    issuer: Issuer, clock: ManualClock
) -> None:
    provider = provider_of(issuer.url, clock)
    for _ in range(5):
        assert await code(provider, token()) is None
        assert await code(provider, token(STRANGER, header={"kid": "new"})) is ErrorCode.UNAUTHENTICATED
    assert issuer.asked == 1
    issuer.keys = [public(STRANGER, "new")]
    await clock.sleep(key_set.AGAIN_SECONDS)
    assert await code(provider, token(STRANGER, header={"kid": "new"})) is None
    assert await code(provider, token()) is ErrorCode.UNAUTHENTICATED, "the old key is gone"
    assert issuer.asked == 2


@pytest.mark.parametrize("status", [302, 500])
async def test_known_keys_go_on_for_a_while_where_the_issuer_is_away(
    issuer: Issuer, clock: ManualClock, status: int
) -> None:
    provider = provider_of(issuer.url, clock)
    assert await code(provider, token()) is None
    issuer.status = status
    await clock.sleep(key_set.FRESH_SECONDS + 1)
    assert await code(provider, token()) is None
    await clock.sleep(key_set.STALE_SECONDS)
    assert await code(provider, token()) is ErrorCode.UNAVAILABLE


async def test_keys_may_be_in_a_file(clock: ManualClock, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [public(EC, "ec")]}))
    assert await code(provider_of("keys.json", clock, tmp_path), token()) is None
    assert await code(provider_of("none.json", clock, tmp_path), token()) is ErrorCode.UNAVAILABLE


async def test_without_a_provider_every_foreign_token_is_refused(clock: ManualClock) -> None:
    provider = OAuthIdentityProvider(Path("/nowhere"), Settings, clock)
    assert await code(provider, token()) is ErrorCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    "url", ["http://login.example", "ftp://login.example", "https://a b", "http://localhost.evil/"]
)
def test_an_issuer_is_reached_by_https_or_on_loopback(url: str) -> None:
    with pytest.raises(ValueError, match="issuer"):
        OAuth(issuer=url, resource=RESOURCE, jwks="keys.json")
    with pytest.raises(ValueError, match="jwks"):
        OAuth(issuer=ISSUER, resource=RESOURCE, jwks=url)
