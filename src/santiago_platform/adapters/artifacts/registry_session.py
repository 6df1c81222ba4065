"""A repository of an OCI registry over HTTP: requests with credentials, and errors in the platform's own words.

Source: https://github.com/opencontainers/distribution-spec, spec.md (1.1); for tokens
https://distribution.github.io/distribution/spec/auth/token/.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin

import httpx2

from ...domain.errors import ErrorCode, PlatformError
from .oci import JSON_LIMIT_BYTES

TIMEOUT_SECONDS = 30.0
_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost)(:\d+)?")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_HOSTS = {"docker.io": "registry-1.docker.io"}  # by the name that everybody uses, and where it is
Content = Callable[[], AsyncIterator[bytes]]


class RegistrySession:
    """repository: HOST[:PORT]/PATH. Plain HTTP for loopback alone.

    auth_file: as `docker login` and `podman login` write it; None or a missing file means no credentials.
    actions: what is asked for, `pull` or `pull,push`.
    """

    def __init__(self, repository: str, *, auth_file: Path | None = None, actions: str = "pull") -> None:
        self.repository = repository
        self._host, _, self._path = repository.partition("/")
        self._auth_file = auth_file
        self._actions = actions
        plain = _LOOPBACK.fullmatch(self._host) is not None
        self._base = f"{'http' if plain else 'https'}://{_HOSTS.get(self._host, self._host)}"
        self._client = httpx2.AsyncClient(
            timeout=TIMEOUT_SECONDS, follow_redirects=True, verify=False if plain else ssl.create_default_context()
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        try:
            await self._authenticate()
        except BaseException:
            await self._client.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, value, trace)

    def url(self, path: str) -> str:
        return f"{self._base}/v2/{self._path}/{path}"

    async def exists(self, path: str) -> bool:
        async with self._sent("HEAD", self.url(path), answers=(404,)) as response:
            return response.status_code == 200

    async def get(self, path: str, accept: str = "*/*") -> bytes | None:
        """A small document; None where there is none. Raises RESOURCE_EXHAUSTED for one that is not small."""
        async with self._sent("GET", self.url(path), headers={"accept": accept}, answers=(404,)) as response:
            if response.status_code == 404:
                return None
            content = b""
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > JSON_LIMIT_BYTES:
                    raise PlatformError(
                        ErrorCode.RESOURCE_EXHAUSTED, f"{self.repository}: {path} is larger than 4 MiB", "is it meant?"
                    )
            return content

    async def download(self, path: str) -> AsyncGenerator[bytes]:
        async with self._sent("GET", self.url(path)) as response:
            async for chunk in response.aiter_bytes():
                yield chunk

    async def put(self, path: str, content: bytes, media_type: str) -> httpx2.Headers:
        """The headers of the answer."""
        headers = {"content-type": media_type}
        async with self._sent("PUT", self.url(path), headers=headers, content=content) as response:
            return response.headers

    async def upload(self, digest: str, size: int, content: Content) -> None:
        """A blob, whole and in one go."""
        async with self._sent("POST", self.url("blobs/uploads/"), content=b"") as response:
            place = urljoin(str(response.request.url), response.headers.get("location", ""))
        target = httpx2.URL(place).copy_merge_params({"digest": digest})
        headers = {"content-type": "application/octet-stream", "content-length": str(size)}
        async with self._sent("PUT", str(target), headers=headers, content=content()):
            return

    @asynccontextmanager
    async def _sent(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        content: bytes | AsyncIterator[bytes] | None = None,
        answers: tuple[int, ...] = (),
    ) -> AsyncIterator[httpx2.Response]:
        """answers: statuses of an error that are an answer."""
        try:
            async with self._client.stream(method, url, headers=headers, content=content) as response:
                if response.is_error and response.status_code not in answers:
                    raise await self._refused(response, f"{method} {response.request.url.path}")
                yield response
        except httpx2.HTTPError as exc:
            raise PlatformError(
                ErrorCode.UNAVAILABLE,
                f"the registry {self._host} does not answer: {type(exc).__name__}",
                "see whether its address is right and it runs",
                internal=str(exc),
            ) from exc

    async def _refused(self, response: httpx2.Response, asked: str) -> PlatformError:
        said = (await response.aread())[:2000].decode(errors="replace").strip()
        status = response.status_code
        match status:
            case 401 | 403:
                code, hint = ErrorCode.PERMISSION_DENIED, self._login_hint
            case 404:
                code, hint = ErrorCode.NOT_FOUND, "check the name of the repository"
            case 429 | 500 | 502 | 503 | 504:
                code, hint = ErrorCode.UNAVAILABLE, "try again later"
            case _:
                code, hint = ErrorCode.FAILED_PRECONDITION, "see the log of the registry"
        return PlatformError(
            code, f"the registry {self._host} answered {status} to {asked} of {self.repository}", hint, internal=said
        )

    @property
    def _login_hint(self) -> str:
        file = f"--authfile {self._auth_file} " if self._auth_file else ""
        return f"`podman login {file}{self._host}`; `releases.auth_file` in santiago.yaml names the file"

    # --- credentials ----------------------------------------------------------------------------------------

    async def _authenticate(self) -> None:
        """As the registry's answer to a bare request asks for."""
        async with self._sent("GET", f"{self._base}/v2/", answers=(401,)) as response:
            challenge = response.headers.get("www-authenticate", "") if response.status_code == 401 else ""
        scheme, _, rest = challenge.partition(" ")
        known = self._credentials()
        if scheme.lower() == "basic" and known:
            self._client.headers["authorization"] = f"Basic {known}"
        elif scheme.lower() == "bearer":
            self._client.headers["authorization"] = f"Bearer {await self._token(dict(_CHALLENGE.findall(rest)), known)}"

    async def _token(self, challenge: dict[str, str], known: str | None) -> str:
        realm = challenge.get("realm", "")
        if not realm.startswith("https://") and not (
            realm.startswith("http://") and _LOOPBACK.fullmatch(realm.split("/")[2])
        ):
            raise PlatformError(
                ErrorCode.PERMISSION_DENIED,
                f"the registry {self._host} sends to {realm[:80]!r} for a token, which is not encrypted",
                "credentials are sent by HTTPS alone",
            )
        params = {"scope": f"repository:{self._path}:{self._actions}"}
        if "service" in challenge:
            params["service"] = challenge["service"]
        headers = {"authorization": f"Basic {known}"} if known else None
        async with self._sent("GET", str(httpx2.URL(realm, params=params)), headers=headers) as response:
            await response.aread()
            try:
                answer = response.json()
                return str(answer.get("token") or answer["access_token"])
            except (ValueError, KeyError, AttributeError) as exc:
                raise PlatformError(
                    ErrorCode.UNAVAILABLE, f"the registry {self._host} gave no token", self._login_hint
                ) from exc

    def _credentials(self) -> str | None:
        """Base64 of `USER:PASSWORD` for this host, as the file has it."""
        if self._auth_file is None or not self._auth_file.is_file():
            return None
        try:
            auths: dict[str, Any] = json.loads(self._auth_file.read_text()).get("auths", {})
            names = [self._host, f"https://{self._host}", *(["https://index.docker.io/v1/"] * (self._host in _HOSTS))]
            known = next((str(auths[name].get("auth") or "") for name in names if name in auths), "")
            base64.b64decode(known, validate=True)
            return known or None
        except (OSError, ValueError, AttributeError, TypeError) as exc:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"the credentials in {self._auth_file} cannot be read",
                "`podman login --authfile FILE HOST` writes such a file",
                internal=repr(exc),
            ) from exc
