"""Draws charts with Vega-Lite, in a process of its own: the library holds a JavaScript engine of 100 MB.

`python -m santiago_platform.adapters.reports.chart`: specifications by name in on stdin as JSON; out come, by name, the
SVG and the PNG in base64.
"""

from __future__ import annotations

import asyncio
import json
import sys
from base64 import b64decode, b64encode
from importlib.util import find_spec
from typing import Any, NamedTuple

from ...domain.report import Chart, ChartKind

DRAW_SECONDS = 120
WIDTH, HEIGHT, WIDEST_BAR = 640, 260, 80  # pixels, of which the PNG has twice as many
WITHOUT = "Charts are left out: they need `pip install 'santiago-platform[charts]'`."
_LIBRARY = "vl_convert"
# Told apart by those who see colours differently, too (Okabe and Ito).
_COLOURS = ["#0072b2", "#d55e00", "#999999", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442"]


class Drawing(NamedTuple):
    svg: bytes
    png: bytes


def can_draw() -> bool:
    return find_spec(_LIBRARY) is not None


async def draw(charts: tuple[Chart, ...]) -> dict[str, Drawing]:
    """By name. Raises OSError where it cannot be drawn. A cancellation ends the process."""
    specifications = json.dumps({chart.name: specification(chart) for chart in charts}).encode()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(DRAW_SECONDS):
            out, err = await process.communicate(specifications)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise OSError(f"the charts could not be drawn: {err.decode(errors='replace').strip()[-500:]}")
    return {name: Drawing(b64decode(svg), b64decode(png)) for name, (svg, png) in json.loads(out).items()}


def specification(chart: Chart) -> dict[str, Any]:
    """Of Vega-Lite. It is dark on white, which is readable on any page."""
    x, y = chart.axes
    several = any(point.series for point in chart.points)
    names = list(dict.fromkeys(point.series for point in chart.points))
    encoding: dict[str, Any] = {
        "x": {"field": "x", "type": "nominal", "title": x, "sort": None, "axis": {"labelAngle": _angle(chart)}},
        "y": {"field": "y", "type": "quantitative", "title": y, "axis": _axis(chart)},
    }
    if several:
        scale = {"domain": names, "range": (_COLOURS * (len(names) // len(_COLOURS) + 1))[: len(names)]}
        encoding["color"] = {"field": "series", "type": "nominal", "title": None, "scale": scale}
        encoding["order"] = {"field": "place", "type": "quantitative"}
    else:
        overspent = {"test": "datum.y < 0", "value": _COLOURS[1]}
        encoding["color"] = {"condition": overspent, "value": _COLOURS[0]}
    size = min(WIDEST_BAR, 0.8 * WIDTH / len({point.x for point in chart.points}))
    bars = {"mark": {"type": "bar", "size": size}, "encoding": encoding}
    values = [{"x": p.x, "y": p.y, "series": p.series, "place": names.index(p.series)} for p in chart.points]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": {"text": chart.title, "anchor": "start", "offset": 12},
        "width": WIDTH,
        "height": HEIGHT,
        "background": "white",
        "padding": 12,
        "data": {"values": values},
        "layer": [bars, *_limit(chart)],
        "config": {
            "axis": {"labelFontSize": 12, "titleFontSize": 13},
            "legend": {"orient": "top"},
            "font": "sans-serif",
        },
    }


def _axis(chart: Chart) -> dict[str, Any]:
    if chart.kind is ChartKind.SHARES:
        return {"format": ".0%"}
    whole = all(point.y == int(point.y) for point in chart.points) and chart.limit is None
    return {"tickMinStep": 1, "format": "d"} if whole else {}


def _angle(chart: Chart) -> int:
    """Names that do not fit beside each other are turned."""
    names = {point.x for point in chart.points}
    return 0 if sum(map(len, names)) * 8 < WIDTH else -40


def _limit(chart: Chart) -> list[dict[str, Any]]:
    if chart.limit is None:
        return []
    at, what = chart.limit
    data = {"values": [{"y": at, "what": f"{what}: {at:g}"}]}
    y = {"field": "y", "type": "quantitative"}
    line = {"type": "rule", "color": "#a00", "strokeDash": [6, 4], "size": 2}
    words = {"type": "text", "align": "right", "baseline": "bottom", "dy": -4, "color": "#a00", "fontSize": 12}
    return [
        {"data": data, "mark": line, "encoding": {"y": y}},
        {"data": data, "mark": words, "encoding": {"y": y, "x": {"value": WIDTH}, "text": {"field": "what"}}},
    ]


def main() -> None:
    import vl_convert  # of the extra `charts`

    drawn = {
        name: (
            b64encode(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]).encode()).decode(),
            b64encode(vl_convert.vegalite_to_png(spec, scale=2, allowed_base_urls=[])).decode(),
        )
        for name, spec in json.load(sys.stdin).items()
    }
    json.dump(drawn, sys.stdout)


if __name__ == "__main__":
    main()
