"""Reports in folders of a workspace: report.md, report.html, and an SVG and a PNG of each chart."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...domain.errors import ErrorCode, PlatformError
from ...domain.report import Report
from .chart import WITHOUT, can_draw, draw
from .markdown import to_markdown
from .page import to_html

MAIN = "report.md"


class FileReports:
    """Implements ports.reports.Reports. root: that files are told relative to. folder: below it, where reports go."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder

    async def exists(self, name: str) -> bool:
        return (self._folder / name / MAIN).is_file()

    async def keep(self, report: Report) -> Sequence[str]:
        folder = self._folder / report.name
        try:
            if folder.exists() and any(folder.iterdir()) and not (folder / MAIN).is_file():
                raise PlatformError(
                    ErrorCode.FAILED_PRECONDITION,
                    f"{folder} holds something else than a report",
                    "name another folder, or move that away",
                )
            files = await _files(report)
            await asyncio.to_thread(_replace, folder, files)
        except (OSError, TimeoutError) as exc:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"the report {report.name} cannot be kept: {exc}",
                "look at the folder's owner, and at the space on its disk",
            ) from exc
        return [str((folder / file).relative_to(self._root)) for file in sorted(files)]


async def _files(report: Report) -> dict[str, bytes]:
    drawn = await draw(report.charts) if report.charts and can_draw() else {}
    without = WITHOUT if report.charts and not drawn else ""
    files = {MAIN: to_markdown(report, drawn, without).encode()}
    files["report.html"] = to_html(report, {name: drawing.svg for name, drawing in drawn.items()}, without).encode()
    for name, drawing in drawn.items():
        files |= {f"{name}.svg": drawing.svg, f"{name}.png": drawing.png}
    return files


def _replace(folder: Path, files: dict[str, bytes]) -> None:
    """A folder is there whole or not at all; one that a crash left half made has another name and is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left_over in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(left_over)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    made.chmod(0o755)
    for name, content in files.items():
        (made / name).write_bytes(content)
    if folder.exists():
        folder.rename(made / ".before")
    made.rename(folder)
    shutil.rmtree(folder / ".before", ignore_errors=True)
