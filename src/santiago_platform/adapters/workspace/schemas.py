"""Writes the JSON schemas of a workspace's files: `python -m santiago_platform.adapters.workspace.schemas DIR`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import BaseModel

from ...domain.environment import Settings
from ...domain.flag import FlagFile
from ..artifacts.build import Build
from .score import Score

SCHEMAS: dict[str, type[BaseModel]] = {"santiago": Settings, "score": Score, "build": Build, "flags": FlagFile}


def schema_text(name: str) -> str:
    """The schema of a key of SCHEMAS, as it is written."""
    schema = SCHEMAS[name].model_json_schema(by_alias=True)
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


def write_schemas(directory: Path) -> list[Path]:
    """Writes NAME.schema.json for each; returns the paths."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name in SCHEMAS:
        path = directory / f"{name}.schema.json"
        path.write_text(schema_text(name))
        written.append(path)
    return written


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
