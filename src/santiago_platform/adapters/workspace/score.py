"""The Score format, v1b1: what an author writes of a workload. Source: https://docs.score.dev."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from ...domain.identity import Name
from .yaml_document import NAME_RULE, Document, parse, validate

Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,61}[a-z0-9]$")]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,61}[A-Za-z0-9]$")]
ResourceId = Annotated[
    str,
    StringConstraints(
        min_length=2, max_length=63, pattern=r"^[a-z0-9]+(?:-+[a-z0-9]+)*(?:\.[a-z0-9]+(?:-+[a-z0-9]+)*)*$"
    ),
]
AnnotationKey = Annotated[
    str,
    StringConstraints(
        min_length=2,
        max_length=316,
        pattern=r"^(([a-z0-9][a-z0-9-]{0,61}[a-z0-9])(\.[a-z0-9][a-z0-9-]{0,61}[a-z0-9])*/)?"
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,61}[A-Za-z0-9]$",
    ),
]
Text = Annotated[str, StringConstraints(min_length=1)]
VariableName = Annotated[str, StringConstraints(pattern=r"^[^=]+$")]
PortNumber = Annotated[int, Field(ge=1, le=65535)]

MEMORY_PATTERN = r"^(0\.[0-9]+|[1-9][0-9]*(\.[0-9]+)?)(K|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
CPU_PATTERN = r"^[0-9]+(m|\.[0-9]+)?$"


class _Part(BaseModel):
    """camelCase in the file; unknown keys are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=False, validate_by_alias=True
    )


class Metadata(_Part):
    """Further keys are allowed and may be referred to as `${metadata.KEY}`."""

    model_config = ConfigDict(extra="allow")

    name: Label
    annotations: dict[AnnotationKey, str] = {}


class ServicePort(_Part):
    """port: as others reach it. target_port: where the program listens; `port` when left out."""

    port: PortNumber
    protocol: Literal["TCP", "UDP"] = "TCP"
    target_port: PortNumber | None = None

    @property
    def target(self) -> int:
        return self.target_port or self.port


class Service(_Part):
    ports: dict[Label, ServicePort] = {}


class ContainerFile(_Part):
    target: Text | None = None
    mode: Annotated[str, StringConstraints(pattern=r"^0?[0-7]{3}$")] | None = None
    source: Text | None = None
    content: str | None = None
    binary_content: str | None = None
    no_expand: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> ContainerFile:
        if sum(v is not None for v in (self.source, self.content, self.binary_content)) != 1:
            raise ValueError("exactly one of source, content and binaryContent is needed")
        return self


class ContainerVolume(_Part):
    source: str
    path: str | None = None
    target: str | None = None
    read_only: bool = False


class Before(_Part):
    ready: Literal["started", "healthy", "complete"]


class ResourceLimits(_Part):
    """memory: bytes, with an optional unit ("128Mi"). cpu: cores ("0.5") or thousandths of one ("500m")."""

    memory: Annotated[str, StringConstraints(pattern=MEMORY_PATTERN)] | None = None
    cpu: Annotated[str, StringConstraints(pattern=CPU_PATTERN)] | None = None


class ContainerResources(_Part):
    limits: ResourceLimits = ResourceLimits()
    requests: ResourceLimits = ResourceLimits()


class HttpHeader(_Part):
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]
    value: Text


class HttpProbe(_Part):
    """port: a target port of the service."""

    port: PortNumber
    path: str
    host: Text | None = None
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    http_headers: tuple[HttpHeader, ...] = ()


class ExecProbe(_Part):
    command: tuple[str, ...]


class ContainerProbe(_Part):
    http_get: HttpProbe | None = None
    exec: ExecProbe | None = None


class Container(_Part):
    image: Text
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    variables: dict[VariableName, str] = {}
    files: dict[str, ContainerFile] | tuple[ContainerFile, ...] = ()
    volumes: dict[str, ContainerVolume] | tuple[ContainerVolume, ...] = ()
    before: dict[Label, Before] = {}
    resources: ContainerResources = ContainerResources()
    liveness_probe: ContainerProbe | None = None
    readiness_probe: ContainerProbe | None = None

    @model_validator(mode="after")
    def _targets_are_keys(self) -> Container:
        for name, entries in (("files", self.files), ("volumes", self.volumes)):
            if isinstance(entries, dict) and any(entry.target is not None for entry in entries.values()):
                raise ValueError(f"in {name} written as a map the key is the target; take the key `target` out")
        return self


class ResourceMetadata(_Part):
    model_config = ConfigDict(extra="allow")

    annotations: dict[AnnotationKey, str] = {}


class Resource(_Part):
    """Something that the workload needs from its surroundings; `${resources.NAME.OUTPUT}` gives what it offers."""

    type: Word
    class_: Annotated[Word | None, Field(alias="class")] = None
    id: ResourceId | None = None
    metadata: ResourceMetadata | None = None
    params: dict[str, Any] | None = None


class Score(_Part):
    """score.yaml, whole."""

    api_version: Literal["score.dev/v1b1"]
    metadata: Metadata
    service: Service = Service()
    containers: Annotated[dict[Label, Container], Field(min_length=1)]
    resources: dict[Label, Resource] = {}


@lru_cache(maxsize=64)
def read_score(text: str, where: str) -> tuple[Score, Document]:
    """Kept by its text: the score of a release is read at each plan.

    Raises PlatformError(INVALID_ARGUMENT), beginning `WHERE:LINE: `, for a text that is not Score v1b1, or whose
    workload has a name that no service can have.
    """
    document = parse(text, where)
    score = validate(document, Score)
    if not is_name(score.metadata.name):
        raise document.error(("metadata", "name"), f"{score.metadata.name!r} cannot name a service", NAME_RULE)
    return score, document


def is_name(text: str) -> bool:
    """Whether the platform can use `text` as a Name: Score allows more characters in front, and more of them."""
    try:
        _NAME.validate_python(text)
    except ValidationError:
        return False
    return True


_NAME: TypeAdapter[str] = TypeAdapter(Name)
