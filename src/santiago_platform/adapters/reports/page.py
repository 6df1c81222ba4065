"""A report as one HTML page that needs nothing else: no script, nothing fetched, all that others wrote escaped."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from html import escape

from ...domain.report import Report, Section, Table

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .3rem .8rem; border-bottom: 1px solid #8886; vertical-align: top; }
img { display: block; max-width: 100%; background: #fff; border-radius: 6px; margin: 1rem 0; }
.missing { border-left: 4px solid #d97706; padding-left: .8rem; }
"""


def to_html(report: Report, drawn: Mapping[str, bytes], without_charts: str = "") -> str:
    """drawn: the SVG of each chart, by its name. without_charts: why there are none."""
    title = escape(f"{report.title}: {report.period}")
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main>",
        f"<h1>{title}</h1><p>Made {report.made_at:%Y-%m-%d %H:%M} UTC.</p>",
    ]
    if without_charts:
        parts.append(f"<p>{escape(without_charts)}</p>")
    parts += [_section(section, drawn) for section in report.sections]
    return "\n".join([*parts, "</main></body></html>"]) + "\n"


def _section(section: Section, drawn: Mapping[str, bytes]) -> str:
    heading = f"<h2>{escape(section.title)}</h2>"
    if section.missing:
        return f'<section>{heading}<p class="missing">Missing: {escape(section.missing)}.</p></section>'
    words = "".join(f"<p>{escape(words)}</p>" for words in section.words)
    charts = "".join(
        f'<img alt="{escape(chart.title)}" src="data:image/svg+xml;base64,{b64encode(drawn[chart.name]).decode()}">'
        for chart in section.charts
        if chart.name in drawn
    )
    return f"<section>{heading}{words}{charts}{''.join(_table(table) for table in section.tables)}</section>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
