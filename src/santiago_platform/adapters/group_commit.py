"""Group commit: what is asked for while one group is being made durable is the next group."""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Generic, NamedTuple, TypeVar

from ..domain.errors import ErrorCode, PlatformError

Job = TypeVar("Job")
Answer = TypeVar("Answer")

GROUP_LIMIT = 1000
QUIET_SECONDS = 0.5  # without a job, after which `rest` is called
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # a full disk, a quota, a limit of file size

log = logging.getLogger(__name__)


class Outcome(NamedTuple, Generic[Answer]):
    """What a job came to: its answer, or the error that its caller gets."""

    answer: Answer | None = None
    error: BaseException | None = None


class GroupCommit(Generic[Job, Answer]):
    """A thread that calls `commit` with the jobs that wait, in the order of their `submit`, one group at a time.

    commit: returns one outcome a job, in order, once the group is durable; an exception of it goes to all of the
    group. rest: called once after the last group of many, as soon as nobody waits. Submit from one event loop.
    what: names it in errors.
    """

    def __init__(
        self,
        what: str,
        commit: Callable[[Sequence[Job]], Sequence[Outcome[Answer]]],
        rest: Callable[[], None] | None = None,
    ) -> None:
        self._what = what
        self._commit = commit
        self._rest = rest
        self._queue: SimpleQueue[tuple[Job, asyncio.Future[Answer]] | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"writer of {what}", daemon=True)
        self._thread.start()

    async def submit(self, job: Job) -> Answer:
        """Returns when the job is durable. A cancellation may leave it done. Raises UNAVAILABLE when closed."""
        self.check_open()
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.put((job, future))
        return await future

    def check_open(self) -> None:
        if self._closed:
            raise PlatformError(ErrorCode.UNAVAILABLE, f"{self._what} is closed", "start the platform again")

    async def close(self) -> None:
        """Does what was submitted before, then ends the thread."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        ending, rested = False, self._rest is None
        while not ending:
            try:
                group = [self._queue.get(timeout=None if rested else QUIET_SECONDS)]
            except Empty:
                rested = True
                self._take_rest()
                continue
            rested = self._rest is None
            try:
                while len(group) < GROUP_LIMIT:
                    group.append(self._queue.get_nowait())
            except Empty:
                pass
            work = [item for item in group if item is not None]
            ending = len(work) < len(group)
            if work:
                self._do(work)

    def _take_rest(self) -> None:
        try:
            if self._rest is not None:
                self._rest()
        except Exception:  # nobody waits for it, and the next group is followed by another rest
            log.exception("%s: what is done at rest failed", self._what)

    def _do(self, work: list[tuple[Job, asyncio.Future[Answer]]]) -> None:
        outcomes: Sequence[Outcome[Answer]]
        try:
            outcomes = self._commit([job for job, _ in work])
        except PlatformError as exc:
            outcomes = [Outcome(error=exc)] * len(work)
        except BaseException as exc:  # whatever a job throws, the thread serves the others
            log.exception("%s: a group was not written", self._what)
            outcomes = [Outcome(error=exc)] * len(work)
        futures = [future for _, future in work]
        try:
            # One wake-up of the loop for the whole group.
            futures[0].get_loop().call_soon_threadsafe(_settle, futures, outcomes)
        except RuntimeError:
            log.warning("%s: the event loop ended before %d answers", self._what, len(work))


def _settle(futures: Sequence[asyncio.Future[Answer]], outcomes: Sequence[Outcome[Answer]]) -> None:
    for future, outcome in zip(futures, outcomes, strict=True):
        if future.cancelled():
            continue
        if outcome.error is None:
            future.set_result(outcome.answer)  # type: ignore[arg-type]
        elif isinstance(outcome.error, StopIteration):  # which a future does not take
            future.set_exception(RuntimeError("the unit raised StopIteration"))
        else:
            future.set_exception(outcome.error)
