"""A page: its path, the operations that it reads, and the template that shows them; and what its forms do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...domain.identity import Principal
from ...ports import Ports

Given = Mapping[str, str]  # what stands in the path, in the query, or in a form
Load = Callable[[Ports, Principal, Given], Awaitable[dict[str, Any]]]
Handle = Callable[[Ports, Principal, Given], Awaitable[str]]


@dataclass(frozen=True)
class Page:
    """load: what the template is given; it authorises, or raises PlatformError. What is there depends on the principal
    alone, and changes only where something did: the page is told of that by looking again.

    query: names that may stand behind the path. live: whether it is looked at again while it is open.
    section: of the navigation.
    """

    path: str
    template: str
    title: str
    load: Load
    section: str = ""
    query: tuple[str, ...] = ()
    live: bool = True


@dataclass(frozen=True)
class Form:
    """handle: does what the form asks for, by one operation, and returns the path to go on at."""

    path: str
    handle: Handle
