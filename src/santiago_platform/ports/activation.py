from __future__ import annotations

from typing import Protocol


class Activation(Protocol):
    """Wakes the loops. An activation carries no input: a loop that is woken reads the rows."""

    def activate(self) -> None:
        """Returns at once; many activations may become one."""

    async def wait(self, timeout: float, loop: str = "") -> bool:
        """Returns after an activation since the last wait of this loop, or after `timeout` seconds; whether there was
        one.

        loop: its name, where several wait: each is woken for itself.
        """
