"""What an advisor is asked, and what it answers: a typed request that is checked like any caller's.

An advisor decides nothing. Its `Draft` holds the same request that anybody could send, and goes through the same
policy, gates, budget and approval.
"""

from __future__ import annotations

import re
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, Field

from .narrative import Fact
from .value import Value

T = TypeVar("T", bound=BaseModel)

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,99}")
Sentence = Annotated[str, Field(max_length=600)]


class Task(StrEnum):
    """What a proposal is for: which model is asked, and what it may cost, is set by task."""

    DEPLOYMENT_PLAN = "deployment_plan"
    INFRASTRUCTURE = "infrastructure"
    MONITORING = "monitoring"
    ALERT_RULE = "alert_rule"
    SCALING_PLAN = "scaling_plan"
    FLAG_CHANGE = "flag_change"
    DIAGNOSIS = "diagnosis"
    POST_MORTEM = "post_mortem"
    CAPACITY = "capacity"
    SUMMARY = "summary"

    @property
    def strong(self) -> bool:
        """Whether it is for the strong model: what changes something. What only tells is for the cheap one."""
        return self not in (Task.SUMMARY, Task.POST_MORTEM, Task.CAPACITY)


class Draft(Value, Generic[T]):
    """An advisor's whole answer.

    request: what it proposes to ask of the platform. assumptions: what it took for granted. risks: what may go wrong.
    confidence: 0 to 1, its own word for it. questions: what it could not answer, for whoever asked.
    """

    request: T
    rationale: Annotated[str, Field(max_length=4000)]
    assumptions: Annotated[tuple[Sentence, ...], Field(max_length=20)] = ()
    risks: Annotated[tuple[Sentence, ...], Field(max_length=20)] = ()
    confidence: Annotated[float, Field(ge=0, le=1)] = 0.5
    questions: Annotated[tuple[Sentence, ...], Field(max_length=20)] = ()


class Ask(Value):
    """A question to an advisor, and all that it is told.

    words: of whoever asked. system: who the advisor is and what it must not do. prompt: the words and the context,
    rendered, untrusted text fenced. answer: the JSON schema of the `Draft` that is wanted. correction: what was wrong
    with the answer before, word for word; empty at first. known: names that exist, by kind, and facts: what is to be
    told, for a planner that reads no prose. max_answer_tokens: the provider is told to stop there, and is paid at most
    that much.
    """

    task: Task
    words: str
    system: str
    prompt: str
    answer: dict[str, object]
    correction: str = ""
    known: dict[str, tuple[str, ...]] = {}
    facts: tuple[Fact, ...] = ()
    max_answer_tokens: Annotated[int, Field(ge=1)] = 4096

    @property
    def most_prompt_tokens(self) -> int:
        """No tokenizer makes more tokens than there are UTF-8 bytes; what a provider adds by itself is allowed for."""
        text = (self.system, self.prompt, self.correction, str(self.answer))
        return sum(len(part.encode()) for part in text) + PROVIDER_OVERHEAD_TOKENS


PROVIDER_OVERHEAD_TOKENS = 2_000  # of the provider's own instructions for structured answers


class Usage(Value):
    """Tokens as the provider counted them."""

    input_tokens: Annotated[int, Field(ge=0)] = 0
    output_tokens: Annotated[int, Field(ge=0)] = 0


class Completion(Value):
    """What a provider sent back. text: the draft as JSON, not checked yet. model: as the provider names it.

    usage: None where it did not say.
    """

    text: str
    model: str
    usage: Usage | None = None


def model_name(said: str, otherwise: str = "") -> str:
    """As whoever answered names its model, where that is a name and no text: approvers read it."""
    return said if _MODEL_NAME.fullmatch(said) else otherwise


class Planner(Value):
    """Who planned: the advisor's name and its model; the built-in planner has none."""

    advisor: str
    model: str = ""

    def __str__(self) -> str:
        return f"{self.advisor} ({self.model})" if self.model else self.advisor


class Proposal(Value, Generic[T]):
    """A draft that was checked. by: who made it. tried: what came before it and did not do, a line each.
    cost_usd: of all tries."""

    draft: Draft[T]
    by: Planner
    tried: tuple[str, ...] = ()
    cost_usd: Decimal = Decimal(0)
