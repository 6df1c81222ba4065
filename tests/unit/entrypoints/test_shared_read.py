"""Reads that come together are evaluated once; an answer is never older than its question."""

from __future__ import annotations

import asyncio

import pytest

from santiago_platform.entrypoints import shared_read
from santiago_platform.entrypoints.shared_read import SharedReads


class Source:
    """Something that changes, and evaluations that last until they are let go."""

    def __init__(self) -> None:
        self.value = 0
        self.begun = 0
        self.cancelled = 0
        self.error: Exception | None = None
        self._open = asyncio.Event()

    async def evaluate(self) -> int:
        self.begun += 1
        seen = self.value
        try:
            await self._open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return seen

    def let_go(self) -> None:
        self._open.set()


async def turns(count: int = 5) -> None:
    """Of the loop: all that can go on has gone on."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def reads() -> SharedReads[int]:
    return SharedReads()


def ask(reads: SharedReads[int], source: Source, key: str = "same") -> asyncio.Task[int]:
    return asyncio.create_task(reads.read(key, source.evaluate))


async def test_those_who_ask_together_share_one_evaluation(reads: SharedReads[int]) -> None:
    source = Source()
    asked = [ask(reads, source) for _ in range(100)]
    source.let_go()
    assert await asyncio.gather(*asked) == [0] * 100
    assert source.begun == 1


async def test_an_answer_is_never_older_than_its_question(reads: SharedReads[int]) -> None:
    source = Source()
    early = ask(reads, source)
    await turns()
    source.value = 1  # after it was looked at, before it was answered
    late = [ask(reads, source) for _ in range(10)]
    await turns()
    source.let_go()
    assert await early == 0
    assert await asyncio.gather(*late) == [1] * 10
    assert source.begun == 2


async def test_questions_that_differ_do_not_wait_for_each_other(reads: SharedReads[int]) -> None:
    slow, quick = Source(), Source()
    waiting = ask(reads, slow, "slow")
    quick.let_go()
    assert await ask(reads, quick, "quick") == 0
    assert not waiting.done()
    slow.let_go()
    assert await waiting == 0


async def test_an_error_goes_to_those_who_asked_the_same_and_to_nobody_after(reads: SharedReads[int]) -> None:
    source, other = Source(), Source()
    source.error = LookupError("gone")
    together = [ask(reads, source) for _ in range(3)]
    elsewhere = ask(reads, other, "other")
    source.let_go()
    other.let_go()
    assert [type(found) for found in await asyncio.gather(*together, return_exceptions=True)] == [LookupError] * 3
    assert await elsewhere == 0
    source.error = None
    assert await ask(reads, source) == 0


async def test_who_gives_up_does_not_cancel_the_others(reads: SharedReads[int]) -> None:
    source = Source()
    first, second = ask(reads, source), ask(reads, source)
    await turns()
    first.cancel()
    await turns()
    assert first.cancelled()
    source.let_go()
    assert await second == 0
    assert (source.begun, source.cancelled) == (1, 0)


async def test_what_nobody_waits_for_any_more_is_cancelled(reads: SharedReads[int]) -> None:
    source = Source()
    asked = [ask(reads, source) for _ in range(2)]
    await turns()
    for task in asked:
        task.cancel()
    await turns()
    assert source.cancelled == 1
    source.let_go()
    assert await ask(reads, source) == 0


async def test_who_gives_up_before_it_begins_leaves_nothing_behind(reads: SharedReads[int]) -> None:
    source = Source()
    running = ask(reads, source)
    await turns()
    waiting = ask(reads, source)
    await turns()
    waiting.cancel()
    await turns()
    source.let_go()
    assert await running == 0
    assert await ask(reads, source) == 0
    assert source.begun == 2


async def test_a_slow_evaluation_holds_up_the_next_one_for_a_moment_only(
    reads: SharedReads[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_read, "PATIENCE_SECONDS", 0.001)
    slow, next_one = Source(), Source()
    waiting = ask(reads, slow)
    await turns()
    next_one.let_go()
    async with asyncio.timeout(10):
        assert await ask(reads, next_one) == 0
    assert not waiting.done()
    slow.let_go()
    assert await waiting == 0


async def test_nothing_is_kept_of_what_has_ended(reads: SharedReads[int]) -> None:
    source = Source()
    source.let_go()
    await asyncio.gather(*(ask(reads, source, f"key {number}") for number in range(50)))
    await turns()
    assert [len(vars(reads)[name]) for name in ("_waiting", "_running")] == [0, 0]
