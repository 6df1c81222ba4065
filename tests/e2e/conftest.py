"""Real platforms in throwaway workspaces. None outlives this run: the lifeline ends them if it dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from santiago_platform.testing.lifeline import Lifeline
from santiago_platform.testing.running_platform import RunningPlatform


@pytest.fixture
def make_platform(lifeline: Lifeline) -> Callable[..., RunningPlatform]:
    """`with make_platform() as platform`: one of the test's own."""
    return lambda **options: RunningPlatform(lifeline, **options)


@pytest.fixture(scope="module")
def platform(lifeline: Lifeline) -> Iterator[RunningPlatform]:
    """One for the tests of a module, which deploy to it one after the other."""
    with RunningPlatform(lifeline) as running:
        yield running
