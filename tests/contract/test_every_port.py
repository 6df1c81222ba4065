"""A port without a contract suite, or a suite that nobody runs, fails here."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

import santiago_platform.testing
from santiago_platform.ports import Ports

SUITES = Path(santiago_platform.testing.__file__).parent
TESTS = "\n".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))


@pytest.mark.parametrize("port", [field.name for field in fields(Ports)])
def test_every_port_has_a_contract_suite_that_is_run(port: str) -> None:
    assert (SUITES / f"{port}.py").is_file()
    assert f"santiago_platform.testing.{port} import" in TESTS
