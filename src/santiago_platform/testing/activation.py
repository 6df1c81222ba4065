"""What every activation keeps to."""

from __future__ import annotations

import asyncio

from ..ports.activation import Activation


class ActivationContract:
    """Subclasses give the fixture `activation`."""

    async def test_an_activation_before_the_wait_is_not_lost(self, activation: Activation) -> None:
        activation.activate()
        async with asyncio.timeout(5):
            assert await activation.wait(3600)

    async def test_an_activation_ends_a_wait(self, activation: Activation) -> None:
        waiting = asyncio.create_task(activation.wait(3600))
        await asyncio.sleep(0)
        activation.activate()
        async with asyncio.timeout(5):
            await waiting

    async def test_many_activations_are_one(self, activation: Activation) -> None:
        for _ in range(3):
            activation.activate()
        await activation.wait(3600)
        waiting = asyncio.create_task(activation.wait(3600))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        waiting.cancel()

    async def test_without_an_activation_a_wait_ends_after_its_time(self, activation: Activation) -> None:
        async with asyncio.timeout(5):
            assert not await activation.wait(0.01)

    async def test_each_loop_is_woken_for_itself(self, activation: Activation) -> None:
        activation.activate()
        async with asyncio.timeout(5):
            await activation.wait(60, loop="one")
            await activation.wait(60, loop="two")
