from __future__ import annotations

from collections.abc import Sequence

from ...domain.errors import ErrorCode, PlatformError
from ...domain.expression import ExpressionError, canonical
from ...domain.rules import RuleGroup, RuleTest


class FakeRules:
    """Rules in a dictionary. down: it does not answer. refused: words in an expression that the evaluator refuses.
    failing: names of tests that fail. sabotaged: it says that it loads, and loads nothing. writes: how often something
    changed. checked: all tests that were run."""

    def __init__(self, *, verifiable: bool = True) -> None:
        self.verifiable = verifiable
        self.settles_seconds = 10.0
        self.groups: dict[str, tuple[RuleGroup, ...]] = {}
        self.down = False
        self.sabotaged = False
        self.refused: set[str] = set()
        self.failing: set[str] = set()
        self.checked: list[RuleTest] = []
        self.writes = 0

    async def check(self, groups: Sequence[RuleGroup], tests: Sequence[RuleTest] = ()) -> None:
        for rule in (rule for group in groups for rule in group.rules):
            try:
                canonical(rule.expr)
            except ExpressionError as exc:
                raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"promtool refuses {rule.expr}: {exc}", "") from exc
        self.checked += tests
        if failed := [test.name for test in tests if test.name in self.failing]:
            raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"promtool: {', '.join(failed)} failed", "")

    async def apply(self, owner: str, groups: Sequence[RuleGroup]) -> None:
        self._answer()
        if any(word in rule.expr for group in groups for rule in group.rules for word in self.refused):
            raise PlatformError(ErrorCode.FAILED_PRECONDITION, "Prometheus refuses the rules", "")
        if tuple(groups) == self.groups.get(owner, ()) or self.sabotaged:
            return
        self.writes += 1
        self.groups[owner] = tuple(groups)

    async def loaded(self, owner: str) -> tuple[RuleGroup, ...]:
        self._answer()
        return self.groups.get(owner, ())

    def _answer(self) -> None:
        if self.down:
            raise PlatformError(ErrorCode.UNAVAILABLE, "Prometheus does not answer", "try again")
