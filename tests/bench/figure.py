"""A measured figure with its aim, and the tables of them that people read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """what: was measured. detail: what else is known of it, in words. at_least, at_most: the aim, if there is one."""

    what: str
    value: float
    unit: str = ""
    detail: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool | None:
        """None without an aim."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most

    @property
    def row(self) -> tuple[str, str, str, str, str]:
        """what, figure, aim, met, detail."""
        aim = ""
        if self.at_least is not None:
            aim = f"at least {_number(self.at_least)} {self.unit}"
        elif self.at_most is not None:
            aim = f"at most {_number(self.at_most)} {self.unit}"
        met = {True: "yes", False: "NO", None: ""}[self.met]
        return self.what, f"{_number(self.value)} {self.unit}".strip(), aim.strip(), met, self.detail


HEADINGS = ("what", "figure", "aim", "met", "detail")


def shown(figures: Iterable[Figure]) -> Table:
    """For a terminal."""
    table = Table(*HEADINGS, title="Santiago: figures")
    for figure in figures:
        style = {True: "green", False: "red", None: ""}[figure.met]
        table.add_row(*figure.row, style=style)
    return table


def markdown(figures: Sequence[Figure]) -> str:
    rows = [HEADINGS, ("---",) * len(HEADINGS), *(figure.row for figure in figures)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _number(value: float) -> str:
    """Three digits that mean something; whole numbers whole."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
