"""A report as Markdown. What others wrote stays text: no markup of it takes effect."""

from __future__ import annotations

import re
from collections.abc import Collection

from ...domain.report import Report, Section, Table

_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+!|~&-])")


def to_markdown(report: Report, drawn: Collection[str], without_charts: str = "") -> str:
    """drawn: names of the charts whose PNG lies beside it. without_charts: why there are none."""
    lines = [f"# {text(report.title)}: {text(report.period)}", "", f"Made {report.made_at:%Y-%m-%d %H:%M} UTC."]
    if without_charts:
        lines += ["", text(without_charts)]
    for section in report.sections:
        lines += _section(section, drawn)
    return "\n".join(lines) + "\n"


def text(words: str) -> str:
    """One line in which nothing is markup. What is plain stays readable: a hyphen within a word is none."""
    line = " ".join("".join(c if c.isprintable() else " " for c in words).split())
    return re.sub(r"(?<=\w)\\([-_])(?=\w)", r"\1", _MARKUP.sub(r"\\\1", line))


def _section(section: Section, drawn: Collection[str]) -> list[str]:
    lines = ["", f"## {text(section.title)}"]
    if section.missing:
        return [*lines, "", f"Missing: {text(section.missing)}."]
    lines += [line for words in section.words for line in ("", text(words))]
    for chart in section.charts:
        if chart.name in drawn:
            lines += ["", f"![{text(chart.title)}]({chart.name}.png)"]
    return lines + [line for table in section.tables for line in _table(table)]


def _table(table: Table) -> list[str]:
    rows = [table.columns, ("---",) * len(table.columns), *table.rows]
    shown = [tuple(text(cell) if number != 1 else cell for cell in row) for number, row in enumerate(rows)]
    return ["", *(f"| {' | '.join(row)} |" for row in shown)]
