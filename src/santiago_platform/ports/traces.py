from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from ..domain.trace import Attributes


class Kind(StrEnum):
    """Who is asked: this server, somebody by it, or nobody outside."""

    SERVER = "server"
    CLIENT = "client"
    INTERNAL = "internal"


class Span(Protocol):
    def tell(self, attributes: Attributes, *, failed: bool = False) -> None:
        """Adds to it what is known only now. failed: it is an error, whatever is raised."""


class Traces(Protocol):
    """Tells a collector what was done, and how long it took. Never blocks, never raises, and loses what nobody takes.

    Attributes are names, ids, counts and sizes: never arguments, never text that somebody wrote.
    """

    enabled: bool

    def span(
        self,
        name: str,
        *,
        kind: Kind = Kind.INTERNAL,
        attributes: Attributes | None = None,
        caller: Mapping[str, str] | None = None,
        operation: str = "",
    ) -> AbstractContextManager[Span]:
        """A span around what is done within it, below the one that is under way.

        caller: the headers of a request, whose `traceparent` it goes on from; without one it begins a trace. operation:
        the id of one that it links to. What is raised through it makes it an error, of which it has the kind and no
        words; a question to the client's model is none.
        """

    def step(
        self,
        operation: str,
        name: str,
        began: datetime,
        ended: datetime,
        attributes: Attributes | None = None,
        *,
        failed: bool = False,
    ) -> None:
        """A part of an operation that has ended: a span below the operation's, in its trace."""

    def operation(
        self,
        operation: str,
        name: str,
        began: datetime,
        ended: datetime,
        attributes: Attributes | None = None,
        *,
        failed: bool = False,
    ) -> None:
        """The whole of an operation that has ended: the root of its trace. Told twice, it is the same span."""
