from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from santiago_platform.adapters import group_commit as module
from santiago_platform.adapters.group_commit import GroupCommit, Outcome
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.testing.eventually import eventually


async def test_what_waits_while_a_group_is_written_is_the_next_group_in_order() -> None:
    groups: list[list[int]] = []
    started, go_on = threading.Event(), threading.Event()

    def commit(jobs: Sequence[int]) -> Sequence[Outcome[int]]:
        groups.append(list(jobs))
        started.set()
        assert go_on.wait(10)
        return [Outcome(job * 10) for job in jobs]

    group = GroupCommit("the test", commit)
    first = asyncio.create_task(group.submit(0))
    assert await asyncio.to_thread(started.wait, 10)
    others = [asyncio.create_task(group.submit(n)) for n in range(1, 6)]
    await asyncio.sleep(0)
    go_on.set()
    assert await asyncio.gather(first, *others) == [0, 10, 20, 30, 40, 50]
    assert groups == [[0], [1, 2, 3, 4, 5]]
    await group.close()


async def test_it_rests_once_after_the_last_group_and_again_after_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.01)
    rests: list[int] = []
    group = GroupCommit("the test", lambda jobs: [Outcome(job) for job in jobs], lambda: rests.append(1))

    async def rested() -> int:
        return len(rests)

    for expected in (1, 2):
        await group.submit(expected)
        assert await eventually(rested, lambda count, least=expected: count >= least) == expected
    await group.close()


async def test_each_job_gets_its_own_outcome() -> None:
    def commit(jobs: Sequence[int]) -> Sequence[Outcome[int]]:
        return [Outcome(error=ValueError(str(job))) if job % 2 else Outcome(job) for job in jobs]

    group = GroupCommit("the test", commit)
    outcomes = await asyncio.gather(*(group.submit(n) for n in range(4)), return_exceptions=True)
    assert [o if isinstance(o, int) else str(o) for o in outcomes] == [0, "1", 2, "3"]
    await group.close()


@pytest.mark.parametrize("error", [PlatformError(ErrorCode.RESOURCE_EXHAUSTED, "full"), RuntimeError("a bug")])
async def test_an_error_of_the_commit_goes_to_the_whole_group_and_the_next_group_is_done(error: Exception) -> None:
    failing = [True]

    def commit(jobs: Sequence[int]) -> Sequence[Outcome[int]]:
        if failing[0]:
            raise error
        return [Outcome(job) for job in jobs]

    group = GroupCommit("the test", commit)
    outcomes = await asyncio.gather(*(group.submit(n) for n in range(3)), return_exceptions=True)
    assert outcomes == [error] * 3
    failing[0] = False
    assert await group.submit(7) == 7
    await group.close()


async def test_closing_does_what_was_submitted_and_refuses_what_comes_later() -> None:
    done: list[int] = []

    def commit(jobs: Sequence[int]) -> Sequence[Outcome[None]]:
        done.extend(jobs)
        return [Outcome() for _ in jobs]

    group = GroupCommit("the test", commit)
    tasks = [asyncio.create_task(group.submit(n)) for n in range(10)]
    await asyncio.sleep(0)
    await group.close()
    await group.close()
    await asyncio.gather(*tasks)
    assert done == list(range(10))
    with pytest.raises(PlatformError, match="the test is closed") as caught:
        await group.submit(10)
    assert caught.value.code is ErrorCode.UNAVAILABLE
