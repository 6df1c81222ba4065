"""Pushes a release to a registry, under the same digest, and reads it back."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Name, Principal
from ..domain.proof import Proof, prove
from ..domain.release import Digest, RegistryName
from ..domain.value import Value
from ..ports import Ports
from .authority import authorise
from .change import change
from .tenancy import require_service


class PushRequest(Value):
    """release: a digest, or 12 or more of its hex digits. registry: HOST[:PORT][/PATH]; None: as in santiago.yaml."""

    service: Name
    release: Annotated[str, Field(max_length=200)]
    registry: RegistryName | None = None


class Pushed(Value):
    """image: HOST/PATH@DIGEST, by which it can be pulled everywhere; tag: another name of it in the repository."""

    service: Name
    release: Digest
    image: str
    tag: str
    proof: Proof


async def push_release(ports: Ports, principal: Principal, request: PushRequest) -> Pushed:
    """Into the repository of the service's name below the registry's path. Idempotent.

    Raises PlatformError: PERMISSION_DENIED (the role; another registry than santiago.yaml's is the owner's to name),
    NOT_FOUND, INVALID_ARGUMENT (another service's release), FAILED_PRECONDITION (no registry is set), and what
    ports.registry says.
    """
    asked = request.model_dump(mode="json", exclude_defaults=True)
    async with change(ports, principal, "push_release", request.service, asked) as record:
        settings = ports.workspace.settings()
        authorise(ports, principal, "push_release", settings, service=request.service)
        await require_service(ports, principal, settings, request.service)
        if request.registry not in (None, settings.releases.registry):
            authorise(ports, principal, "choose_registry", settings, service=request.service)
        registry = request.registry or settings.releases.registry
        if registry is None:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                "no registry is set",
                "set `releases.registry` in santiago.yaml, or name one: `santiago release NAME --push "
                "--registry HOST/PATH`",
            )
        release = await ports.artifacts.get(request.release)
        if release.service != request.service:
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT,
                f"release {release.short} is not of service {request.service}",
                f"`santiago release {request.service}` builds one",
            )
        repository = f"{registry}/{request.service}"
        claims = await ports.registry.push(release, repository)
        proof = prove(claims, await ports.registry.observe(claims), ports.clock.now())
        pushed = Pushed(
            service=request.service,
            release=release.digest,
            image=f"{repository}@{release.digest}",
            tag=release.tag,
            proof=proof,
        )
        record.outcome, record.body = "pushed", pushed.model_dump(mode="json")
    return pushed
