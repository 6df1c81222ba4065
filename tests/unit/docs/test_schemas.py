from __future__ import annotations

from pathlib import Path

import pytest

from santiago_platform.adapters.workspace.schemas import SCHEMAS, schema_text, write_schemas

WRITTEN = Path(__file__).parents[3] / "docs" / "schemas"


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_written_schema_is_up_to_date(name: str) -> None:
    hint = "run: python -m santiago_platform.adapters.workspace.schemas docs/schemas"
    assert (WRITTEN / f"{name}.schema.json").read_text() == schema_text(name), hint


def test_every_schema_is_written(tmp_path: Path) -> None:
    paths = write_schemas(tmp_path / "schemas")
    assert sorted(path.name for path in paths) == [
        f"{name}.schema.json" for name in ("build", "flags", "santiago", "score")
    ]
    assert all(path.read_text() for path in paths)
