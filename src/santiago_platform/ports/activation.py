from __future__ import annotations

from typing import Protocol


class Activation(Protocol):
    """Wakes the loops. An activation carries no input: a loop that is woken reads the rows."""

    def activate(self) -> None:
        """Returns at once; many activations may become one."""

    async def wait(self, timeout: float) -> bool:
        """Returns after an activation since the last wait, or after `timeout` seconds; whether there was one."""
