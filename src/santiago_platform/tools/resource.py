"""A resource: a URI, and the one operation that reads it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from ..domain.identity import Principal
from ..ports import Ports

Read = Callable[[Ports, Principal, Mapping[str, str]], Awaitable[BaseModel | str]]
JSON = "application/json"


@dataclass(frozen=True)
class Resource:
    """uri: whole, or a template of RFC 6570 with simple variables. example: a URI that fits.

    read: authorises and answers the value, which is shown as JSON, or the text itself; or raises PlatformError. It is
    given the template's variables. What it answers depends on the caller's role and tenant alone.
    """

    name: str
    title: str
    uri: str
    description: str
    read: Read
    mime_type: str = JSON

    @property
    def is_template(self) -> bool:
        return "{" in self.uri
