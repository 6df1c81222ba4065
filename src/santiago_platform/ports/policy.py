from __future__ import annotations

from typing import Protocol

from ..domain.policy import Decision, Question


class Policy(Protocol):
    """Knows what principals may do, by the default rules and those of the workspace."""

    def decide(self, question: Question) -> Decision:
        """At once, and never raises: what cannot be judged is denied.

        Rules that were changed count from the next question on. Where they were made invalid, the last ones that were
        valid go on; where there are none, only the owner may do anything, and changes no service.
        """

    def version(self) -> str:
        """Of the rules that count now: another one where a rule of the workspace's is another one."""

    def problems(self) -> list[str]:
        """What keeps the workspace's rules from counting as they stand, each `FILE:LINE: ...`."""
