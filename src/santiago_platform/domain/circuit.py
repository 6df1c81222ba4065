"""A circuit breaker: what fails several times in a row is left alone for a while; then one call tries it. Pure."""

from __future__ import annotations

from .value import Value


class Circuit(Value):
    """failures: in a row. opened_at: monotonic seconds, when it last opened. tried_at: when the one call went out."""

    failures: int = 0
    opened_at: float | None = None
    tried_at: float | None = None

    def admits(self, now: float, open_seconds: float) -> bool:
        """A try whose end nobody reported makes room for another one after as long again."""
        if self.opened_at is None:
            return True
        since = self.opened_at if self.tried_at is None else self.tried_at
        return now - since >= open_seconds

    def trying(self, now: float) -> Circuit:
        """Once a call was admitted: while it is half open, the others wait for its end."""
        return self if self.opened_at is None else self.model_copy(update={"tried_at": now})

    def after(self, now: float, *, failed: bool, threshold: int) -> Circuit:
        if not failed:
            return Circuit()
        failures = self.failures + 1
        opened = now if failures >= threshold else self.opened_at
        return Circuit(failures=failures, opened_at=opened)
