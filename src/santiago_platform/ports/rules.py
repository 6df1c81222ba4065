from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..domain.rules import RuleGroup, RuleTest


class Rules(Protocol):
    """Has rules evaluated. Each owner's rules (a service's name, or `alerts`) are replaced as a whole.

    verifiable: what was written can be read back; of an export it cannot before somebody loads it.
    settles_seconds: after a change, in which what is read back may still be what was before.
    """

    verifiable: bool
    settles_seconds: float

    async def check(self, groups: Sequence[RuleGroup], tests: Sequence[RuleTest] = ()) -> None:
        """Raises INVALID_ARGUMENT with the checker's words for rules that do not parse or that fail their tests,
        UNSUPPORTED where there is no checker."""

    async def apply(self, owner: str, groups: Sequence[RuleGroup]) -> None:
        """Idempotent: equal rules write nothing. No groups removes them. On a refusal the rules before stay in force.

        Raises PlatformError: UNAVAILABLE where the evaluator does not answer, FAILED_PRECONDITION where it refuses.
        """

    async def loaded(self, owner: str) -> tuple[RuleGroup, ...]:
        """As the evaluator says that it runs them, never as they were written. Raises UNAVAILABLE, UNSUPPORTED where
        nobody can be asked."""
