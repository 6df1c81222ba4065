"""A tool: a name, words and schemas for agents, and the one operation that it calls."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel
from pydantic_core import from_json

from ..domain.identity import Principal
from ..operations.manage_operation import Report
from ..ports import Ports
from .schema import answer_schema, input_schema, parse

Call = Callable[[Ports, Principal, Any, Report | None], Awaitable[BaseModel]]
Audience = Callable[[Any, Principal], Hashable | None]


def nobody_else(_request: Any, _principal: Principal) -> None:
    """The audience of a call whose answer is its caller's alone."""


@dataclass(frozen=True)
class Tool:
    """description: for an agent: what it does, when to use it, what comes back, what next.

    request, answer: the models of what goes in and comes out. answer_names: those of the answer that are told here,
    where another tool tells the rest; empty means all. example: arguments that are valid.
    read_only: changes nothing. destructive: may end what runs. idempotent: twice is the same as once.
    call: authorises and answers, or raises PlatformError; it is given the parsed request, and tells the report,
    where there is one, how far it is (0 to 1) and in words.
    audience: of a request that only reads: those of an equal audience get the same answer to an equal request, so that
    one evaluation may serve them all; None where no other one may have it.
    answers_as: the tool that gives the same answer, whose names are not listed twice.
    """

    name: str
    title: str
    description: str
    request: type[BaseModel]
    answer: type[BaseModel]
    example: Mapping[str, Any]
    call: Call
    answer_names: tuple[str, ...] = ()
    audience: Audience = nobody_else
    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False
    answers_as: str = ""

    @cached_property
    def input_schema(self) -> dict[str, Any]:
        """JSON schema of the arguments, with the example."""
        return {**input_schema(self.request), "examples": [dict(self.example)]}

    @cached_property
    def output_schema(self) -> dict[str, Any]:
        return {"type": "object"} if self.answers_as else answer_schema(self.answer, self.answer_names)

    def parse(self, arguments: Mapping[str, Any]) -> BaseModel:
        """The typed request. Raises PlatformError(INVALID_ARGUMENT) with an example in its hint."""
        return parse(self.request, arguments, self.input_schema, self._hint)

    @cached_property
    def _hint(self) -> str:
        return f"for example {json.dumps(self.example)}; {self.name} takes {', '.join(self.request.model_fields)}"


class Answer:
    """A tool's answer, rendered once for all who get it. text: compact JSON."""

    def __init__(self, answer: BaseModel) -> None:
        self.text = render(answer)

    @cached_property
    def structured(self) -> dict[str, Any]:
        """Of the values that JSON has. Not to be changed: it is shared."""
        found: dict[str, Any] = from_json(self.text)
        return found


def render(answer: BaseModel) -> bytes:
    """The answer as compact JSON, as its output schema says: without what is null."""
    return answer.__pydantic_serializer__.to_json(answer, exclude_none=True)
