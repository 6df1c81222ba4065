"""santiago.yaml, `advisors`: whom the platform asks for proposals, in which order, and how far a proposal may go."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from .guard_rails import GuardRails
from .identity import Name
from .proposal import Task
from .value import Value

BUILTIN = "builtin"  # the planner that ships; it is always the last, and is named nowhere
CLIENT = "client"  # in an order: the model of the client that is calling, where it lets itself be asked


class AdvisorType(StrEnum):
    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    COPILOT = "copilot"  # GitHub Copilot
    OPENAI_COMPATIBLE = "openai_compatible"  # vLLM, NIM, and whatever else speaks OpenAI's chat completions


class Api(StrEnum):
    CHAT = "chat"  # chat completions
    RESPONSES = "responses"


KEY_VARIABLES = {
    AdvisorType.OPENAI: "OPENAI_API_KEY",
    AdvisorType.ANTHROPIC: "ANTHROPIC_API_KEY",
    AdvisorType.COPILOT: "GITHUB_COPILOT_API_KEY",
}


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _url(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query or url.fragment:
        raise ValueError("a base URL is as https://HOST/v1, without a user, a query and a fragment")
    if url.scheme == "http" and not is_loopback(url.hostname):
        raise ValueError("what goes to another machine goes by https")
    return text


ModelName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")]


class Provider(Value):
    """One external AI. cheap_model: for what only tells, and once the day's budget is low; else `model`.

    key_variable, key_file: where its key is, one of them; the variable that its vendor documents otherwise.
    timeout_seconds: of a call, from its begin to its end. stream: the answer is sent as it is written, for gateways
    that end a connection on which nothing moves.
    """

    type: AdvisorType
    model: ModelName
    cheap_model: ModelName | None = None
    api: Api = Api.CHAT
    key_variable: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$", max_length=100)] | None = None
    key_file: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    base_url: Annotated[str, Field(max_length=500), AfterValidator(_url)] | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 60.0
    stream: bool = False

    @model_validator(mode="after")
    def _is_complete(self) -> Provider:
        if self.key_variable is not None and self.key_file is not None:
            raise ValueError("the key is in key_variable or in key_file, not in both")
        if self.type is AdvisorType.OPENAI_COMPATIBLE and self.base_url is None:
            raise ValueError("openai_compatible needs a base_url, for example http://127.0.0.1:8000/v1")
        if self.api is Api.RESPONSES and self.type is not AdvisorType.OPENAI:
            raise ValueError("the responses API is OpenAI's alone")
        return self

    @property
    def variable(self) -> str | None:
        """The environment variable of the key; None where it is in a file, or none is needed."""
        return None if self.key_file is not None else self.key_variable or KEY_VARIABLES.get(self.type)

    def model_for(self, *, cheap: bool) -> str:
        return self.cheap_model or self.model if cheap else self.model


class TaskSettings(Value):
    """What differs for one task. model: by provider."""

    order: tuple[Name, ...] | None = None
    model: dict[Name, ModelName] = {}


class Breaker(Value):
    """failures: in a row, until an advisor is not asked for open_seconds; then one call tries it again."""

    failures: Annotated[int, Field(ge=1, le=100)] = 3
    open_seconds: Annotated[float, Field(gt=0, le=86400)] = 60.0


class Advisors(Value):
    """order: names of `providers`, the first asked first, and `client` for the calling client's own model; all
    providers, as they are written, where it is left out.

    role_card: a file of the workspace that takes the place of the role card that ships. context_bytes: how much of
    the workspace an advisor is told at most.
    """

    providers: dict[Name, Provider] = {}
    order: tuple[Name, ...] | None = None
    tasks: dict[Task, TaskSettings] = {}
    breaker: Breaker = Breaker()
    guard_rails: GuardRails = GuardRails()
    role_card: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    context_bytes: Annotated[int, Field(ge=1000, le=500_000)] = 24_000

    @model_validator(mode="after")
    def _names_what_there_is(self) -> Advisors:
        if BUILTIN in self.providers or CLIENT in self.providers:
            raise ValueError(
                f"{BUILTIN} is the planner that ships, and {CLIENT} the calling client: name the provider otherwise"
            )
        named = [
            *(self.order or ()),
            *(name for task in self.tasks.values() for name in (*(task.order or ()), *task.model)),
        ]
        missing = sorted(set(named) - set(self.providers) - {CLIENT})
        if missing:
            raise ValueError(
                f"there is no provider {', '.join(missing)}: there are {', '.join(self.providers) or 'none'}"
            )
        return self

    def order_for(self, task: Task) -> Sequence[str]:
        own = self.tasks.get(task, TaskSettings()).order
        chosen = own if own is not None else self.order
        return tuple(dict.fromkeys(chosen if chosen is not None else self.providers))

    def model_for(self, name: str, task: Task, *, cheap: bool) -> str:
        """A task's own model stands, unless the budget asks for the cheap one."""
        own = self.tasks.get(task, TaskSettings()).model.get(name)
        provider = self.providers[name]
        return own if own is not None and not (cheap and provider.cheap_model) else provider.model_for(cheap=cheap)
