from __future__ import annotations

from collections.abc import Iterator

import pytest

from santiago_platform.testing.lifeline import Lifeline


@pytest.fixture(scope="session")
def lifeline() -> Iterator[Lifeline]:
    """Ends the real platforms of this run where it dies before they are taken down."""
    held = Lifeline()
    yield held
    held.close()
