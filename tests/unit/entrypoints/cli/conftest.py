from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from santiago_platform.entrypoints.cli import console, main


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Santiago = Callable[..., Done]


@pytest.fixture
def santiago(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Santiago:
    """The command line as a person calls it, from a folder that is no workspace."""
    monkeypatch.chdir(tmp_path)
    for name in ("SANTIAGO_WORKSPACE", "SANTIAGO_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str) -> Done:
        monkeypatch.setattr(console, "as_json", False)
        monkeypatch.setattr(sys, "argv", ["santiago", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)

    return run
