"""What all rows share: a connection, and how statements become values."""

from __future__ import annotations

import sqlite3
from typing import TypeVar

from ...domain.value import Value
from .document import value_of

V = TypeVar("V", bound=Value)


class RowAccess:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def _execute(self, statement: str, **parameters: object) -> sqlite3.Cursor:
        return self._connection.execute(statement, parameters)

    def _one(self, kind: type[V], statement: str, **parameters: object) -> V | None:
        row = self._connection.execute(statement, parameters).fetchone()
        return None if row is None else value_of(kind, row[0])

    def _all(self, kind: type[V], statement: str, **parameters: object) -> list[V]:
        return [value_of(kind, text) for (text,) in self._connection.execute(statement, parameters)]
