"""A tool: a name, words and schemas for agents, and the one operation that it calls."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel

from ..domain.identity import Principal
from ..operations.manage_operation import Report
from ..ports import Ports
from .schema import answer_schema, input_schema, parse

Call = Callable[[Ports, Principal, Any, Report | None], Awaitable[BaseModel]]


@dataclass(frozen=True)
class Tool:
    """description: for an agent: what it does, when to use it, what comes back, what next.

    request, answer: the models of what goes in and comes out. example: arguments that are valid.
    read_only: changes nothing. destructive: may end what runs. idempotent: twice is the same as once.
    call: authorises and answers, or raises PlatformError; it is given the parsed request, and tells the report,
    where there is one, how far it is (0 to 1) and in words.
    """

    name: str
    title: str
    description: str
    request: type[BaseModel]
    answer: type[BaseModel]
    example: Mapping[str, Any]
    call: Call
    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False

    @cached_property
    def input_schema(self) -> dict[str, Any]:
        """JSON schema of the arguments, with the example."""
        return {**input_schema(self.request), "examples": [dict(self.example)]}

    @cached_property
    def output_schema(self) -> dict[str, Any]:
        return answer_schema(self.answer)

    def parse(self, arguments: Mapping[str, Any]) -> BaseModel:
        """The typed request. Raises PlatformError(INVALID_ARGUMENT) with an example in its hint."""
        return parse(self.request, arguments, self.input_schema, self._hint)

    @cached_property
    def _hint(self) -> str:
        return f"for example {json.dumps(self.example)}; {self.name} takes {', '.join(self.request.model_fields)}"


def render(answer: BaseModel) -> bytes:
    """The answer as compact JSON, as its output schema says: without what is null."""
    return answer.__pydantic_serializer__.to_json(answer, exclude_none=True)
