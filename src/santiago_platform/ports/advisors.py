from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..domain.budget import Price
from ..domain.errors import ErrorCode, PlatformError
from ..domain.proposal import Ask, Completion, Task, Usage


class NotBilledError(PlatformError):
    """A failure that cost nothing: nothing was sent, or the provider refused the call unread."""


class AnswerError(PlatformError):
    """The provider answered, and not with a draft: it refused, was cut off at its limit, or wrote something else.

    usage: what it counted, where it said so.
    """

    def __init__(
        self,
        message: str,
        hint: str = "another advisor may answer",
        *,
        code: ErrorCode = ErrorCode.UNAVAILABLE,
        usage: Usage | None = None,
        internal: str = "",
    ) -> None:
        super().__init__(code, message, hint, internal=internal)
        self.usage = usage


class Advisor(Protocol):
    """A source of judgement: an external AI, or the built-in planner. It holds no keys to the platform."""

    name: str

    def model(self, task: Task, *, cheap: bool) -> str:
        """Which model it asks; empty where it needs none, and so costs nothing."""

    def price(self, model: str) -> Price | None:
        """None where nobody knows what the model costs."""

    async def propose(self, ask: Ask, model: str) -> Completion:
        """One call, never repeated by itself. May block for the configured time-out.

        Raises NotBilledError where it certainly cost nothing (nothing sent; 4xx, 429), AnswerError where it answered
        without a draft, and another PlatformError (UNAVAILABLE, DEADLINE_EXCEEDED) where it may have cost anything.
        A cancellation leaves that open, too.
        """


class Advisors(Protocol):
    """The advisors of the workspace."""

    def order(self, task: Task) -> Sequence[Advisor]:
        """As the workspace names them, without those whose circuit is open; the built-in planner is always the last.
        Asking for it takes nothing: who is in it need not be asked."""

    def begin(self, advisor: Advisor) -> bool:
        """Right before a call to one of `order`. False: it is left alone, since its circuit has opened meanwhile, or
        since the one call that tries it again is another's."""

    def report(self, advisor: Advisor, failure: PlatformError | None) -> None:
        """How a call that began ended: several failures in a row open an advisor's circuit for a while."""

    def redacted(self, text: str) -> str:
        """What of a text may leave the machine: without secrets. Everything that goes into a prompt passes here."""
