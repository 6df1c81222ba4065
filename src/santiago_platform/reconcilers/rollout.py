"""The loop over services: converges each one, and moves its rollout to the next phase."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..domain.deployment import Deployment, Version
from ..domain.effect import claims
from ..domain.errors import PlatformError
from ..domain.live_period import succession
from ..domain.operation import Operation, OperationState
from ..domain.phase import PROMOTABLE, Phase
from ..domain.proof import Proof, Verdict, prove
from ..domain.rollout import Message, MessageKind, Rollout, Seen, VersionSeen, desired
from ..domain.rollout_decision import after_jump, decide, progress, settle
from ..domain.signal import LogLine
from ..operations.change import complete_operation
from ..operations.check_gates import require_gates_still
from ..operations.release_service import prune_releases
from ..operations.rollback_service import KIND as ROLLBACK
from ..operations.rollback_service import begin_waiting, waiting_rollbacks
from ..ports import Ports
from ..ports.compute import InstanceStatus
from ..ports.logs import LogFilter
from ..ports.store import Snapshot, Transaction
from .build import Builds
from .canary import CanaryObserver
from .clock_jump import ClockJumps
from .jobs import JobRuns
from .service import BUSY_SECONDS, IDLE_SECONDS, Pass, ServiceConverger
from .synthetic import SyntheticLoad
from .watch import WatchObserver

log = logging.getLogger(__name__)

ANALYSING_SECONDS = 0.25  # between passes while a canary's step is waited for
PROVEN_PHASES = (Phase.REHEARSING, Phase.ANALYSING, Phase.PROVING)
RETRY_SECONDS = 1.0  # after a pass that failed
SWEEP_SECONDS = 6.0
GATES_SECONDS = 1.0
Key = tuple[str, str]
CountPass = Callable[[str, str, float], None]


class _OvertakenError(Exception):
    """A message came in after the rows were read: they are read again, so that nobody is told yes and passed over."""


@dataclass(frozen=True)
class _Rows:
    deployment: Deployment
    rollout: Rollout | None
    messages: tuple[Message, ...]
    waiting: bool = False  # a rollback, and nothing is under way that it could wait for


class RolloutReconciler:
    """Runs every rollout and keeps every service as desired. One per daemon; the store's epoch fences a second."""

    def __init__(self, ports: Ports, count_pass: CountPass = lambda *_: None) -> None:
        """count_pass: told (loop, `ok` or `failed`, how many seconds it took) after each pass."""
        self._ports = ports
        self._count_pass = count_pass
        self._runs = JobRuns(ports)
        self._convergers: dict[Key, ServiceConverger] = {}
        self._canary = CanaryObserver(ports)
        self._synthetic = SyntheticLoad(ports)
        self._watch = WatchObserver(ports)
        self._builds = Builds(ports)
        self._wakes: dict[Key, asyncio.Event] = {}
        self._refusals: dict[str, tuple[float, str]] = {}
        self._jumps = ClockJumps(ports.clock)
        self._completing = asyncio.Lock()

    async def run(self) -> None:
        """Runs until it is cancelled: a loop for each service and environment, so that a slow one holds up no other."""
        loops: dict[Key, asyncio.Task[None]] = {}
        activated, swept = False, self._ports.clock.monotonic()
        try:
            while True:
                try:
                    for key in await self._ports.store.read(_keys):
                        if key not in loops:
                            self._wakes[key] = asyncio.Event()
                            loops[key] = asyncio.create_task(self._run_one(key), name="rollouts of {}/{}".format(*key))
                    if activated:
                        await self._wake()
                    if self._ports.clock.monotonic() - swept >= SWEEP_SECONDS:
                        swept = self._ports.clock.monotonic()
                        await self._sweep()
                    await self._complete_logs()
                except Exception:
                    log.exception("looking for services failed")
                activated = await self._ports.activation.wait(SWEEP_SECONDS)
        finally:
            for loop in loops.values():
                loop.cancel()
            await asyncio.gather(*loops.values(), return_exceptions=True)
            await self._builds.end()
            await self._synthetic.end()
            await self._canary.end()

    async def _wake(self) -> None:
        """Those that have a rollout: nothing else changes what is desired."""
        for rollout in await self._ports.store.read(lambda v: list(v.active_rollouts())):
            if wake := self._wakes.get((rollout.service, rollout.environment)):
                wake.set()

    async def _sweep(self) -> None:
        """One look at everything wakes the services that are not as a pass left them: hundreds at rest cost little."""
        began = time.perf_counter()
        deployments = await self._ports.store.read(lambda v: list(v.deployments()))
        present: dict[Key, list[InstanceStatus]] = {}
        for status in await self._ports.compute.list():
            template = status.instance.template
            present.setdefault((template.service, template.environment), []).append(status)
        now = self._ports.clock.now()
        for deployment in deployments:
            key = deployment.service, deployment.environment
            converger = self._convergers.get(key)
            if converger and not await converger.rests(desired(deployment, None, now), present.get(key, [])):
                self._wakes[key].set()
        self._count_pass("sweep", "ok", time.perf_counter() - began)

    async def _run_one(self, key: Key) -> None:
        """Passes over one service; a failed pass is logged and tried again."""
        while True:
            rest = await self._guarded(key)
            with suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await self._wakes[key].wait()
            self._wakes[key].clear()

    async def pass_over_all(self) -> float:
        """One pass over every service. Returns the seconds until the next one is due."""
        keys = await self._ports.store.read(_keys)
        results = await asyncio.gather(*(self._guarded(key) for key in keys))
        await self._complete_logs()
        return min(results, default=IDLE_SECONDS)

    async def _guarded(self, key: Key) -> float:
        began, outcome, rest = time.perf_counter(), "failed", RETRY_SECONDS
        try:
            rest = await self.pass_over(*key)
            outcome = "ok"
        except PlatformError as exc:
            log.warning("%s/%s: %s %s", *key, exc.message, exc.internal)
        except Exception:
            log.exception("%s/%s: the pass failed", *key)
        self._count_pass("rollout", outcome, time.perf_counter() - began)
        return rest

    async def pass_over(self, service: str, environment: str) -> float:
        """Converges one service and moves its rollout as far as it goes. Returns the seconds until the next pass."""
        while True:
            rows = await self._ports.store.read(lambda v: _rows(v, service, environment))
            if rows is None:
                return IDLE_SECONDS
            converger = self._convergers.setdefault(
                (service, environment), ServiceConverger(self._ports, service, environment)
            )
            rollout = rows.rollout
            jump = self._jumps.of((service, environment))
            waited = self._jumps.of(_clocked(rollout)) if rollout else timedelta()  # none where it began after it
            if jump or waited:
                await self._after_jump(rows, jump, waited)
                continue
            drain = rollout.drain_timeout_seconds if rollout else rows.deployment.drain_timeout_seconds
            want = desired(rows.deployment, rollout, self._ports.clock.now())
            on_trial = rollout.new.name if rollout and rollout.new and not rollout.unchanged else ""
            done = await converger.converge(want, drain_seconds=drain, on_trial=on_trial)
            if rollout is None:
                if rows.waiting:  # it is begun with the end of the rollout before it; but whatever comes, it begins
                    await self._begin_waiting(rows)
                    continue
                return min(done.rest, _until_cold(rows.deployment, self._ports.clock.now()))
            seen = await self._seen(rows, rollout, done)
            after = decide(rollout, seen, rows.messages, self._ports.clock.now())
            if after is rollout:
                return ANALYSING_SECONDS if rollout.phase is Phase.ANALYSING else BUSY_SECONDS
            await self._store(rows, rollout, after)

    async def _begin_waiting(self, rows: _Rows) -> None:
        service, environment = rows.deployment.service, rows.deployment.environment
        now, next_id = self._ports.clock.now(), self._ports.clock.new_id("ro")

        def unit(tx: Transaction) -> None:
            deployment = tx.deployment(service, environment)
            if deployment is not None and tx.active_rollout(service, environment) is None:
                begin_waiting(tx, deployment, next_id, now)

        await self._ports.store.write(unit)

    async def _gate_refusal(self, rollout: Rollout) -> str:
        """Asked anew each second: a pass comes more often, and a gate may look far."""
        now = self._ports.clock.monotonic()
        at, said = self._refusals.get(rollout.id, (float("-inf"), ""))
        if now - at >= GATES_SECONDS:
            try:
                await require_gates_still(self._ports, rollout.operation_id)
                said = ""
            except PlatformError as exc:
                said = exc.message
            self._refusals = {rollout.id: (now, said)} | {
                key: known for key, known in self._refusals.items() if key != rollout.id and now - known[0] < 60
            }
        return said

    async def _after_jump(self, rows: _Rows, jump: timedelta, waited: timedelta) -> None:
        """What the rows have waited for is as far away as it was. waited: by how much the clock has jumped in the
        rollout's own time."""
        service, environment = rows.deployment.service, rows.deployment.environment
        log.warning("%s/%s: the clock has jumped by %s", service, environment, jump or waited)
        rollout, warm_until = rows.rollout, rows.deployment.warm_until

        def unit(tx: Transaction) -> None:
            if rollout is not None and waited:
                looked = rollout.model_copy(update={"analysis": self._canary.newest(rollout)})
                tx.save_rollout(after_jump(looked, waited))
            deployment = tx.deployment(service, environment)
            if deployment is not None and deployment.warm_until == warm_until is not None:
                tx.save_deployment(deployment.model_copy(update={"warm_until": warm_until + jump}))

        await self._ports.store.write(unit)
        self._jumps.dealt_with((service, environment))
        if rollout is not None:
            self._jumps.dealt_with(_clocked(rollout))

    async def _seen(self, rows: _Rows, rollout: Rollout, done: Pass) -> Seen:
        routed = any(v.template.ports for v in (rollout.old, rollout.new) if v is not None)
        want = desired(rows.deployment, rollout, self._ports.clock.now())
        new, old = VersionSeen(), VersionSeen()
        if rollout.new is not None:
            new = done.version(rollout.new.name, routed=bool(rollout.new.template.ports))
            if new.failure or new.restarts or self._ports.clock.now() > rollout.deadline:
                new = new.model_copy(update={"log_tail": await self._log_tail(rollout, rollout.new)})
        if rollout.old is not None:
            old = done.version(rollout.old.name, routed=bool(rollout.old.template.ports))
        weights = done.route.weights if routed else want.weights
        if routed and (want.matches or want.mirror) and not done.route.acknowledged:
            weights = None
        seen = Seen(
            runs=await self._runs.of_rollout(rollout),
            new=new,
            old=old,
            weights=weights,
            route_error=done.route.error,
            not_ready_because=done.why_not_ready(rollout.new.name) if rollout.new else "",
        )
        if rollout.phase is Phase.RELEASING:
            return seen.model_copy(update=self._builds.seen(rollout))
        if rollout.stepwise and not rollout.phase.going_back:
            self._canary.prepare(rollout)
            if rollout.moved:
                seen = seen.model_copy(update={"analysis": await self._canary.look(rollout)})
        if rollout.phase is Phase.FINISHING and rollout.watch is not None:
            key = (rollout.service, rollout.environment)
            return seen.model_copy(update={"watch": await self._watch.look(key, rollout.watch, rollout.old)})
        if rollout.phase is Phase.ANALYSING:
            self._synthetic.keep(rollout)
            seen = seen.model_copy(update={"gate_refusal": await self._gate_refusal(rollout)})
            if rollout.proof is not None:
                return seen
        moved = rollout.phase is Phase.REVERTING or (rollout.phase is Phase.SHIFTING and rollout.at_step)
        if rollout.phase in PROVEN_PHASES or (moved and weights == want.weights):
            proof = await self._proof(rollout, rows)
            return seen.model_copy(update={"proof": proof.model_copy(update={"notes": done.limits_not_enforced})})
        return seen

    async def _proof(self, rollout: Rollout, rows: _Rows) -> Proof:
        now = self._ports.clock.now()
        wanted = claims(rollout.service, rollout.environment, desired(rows.deployment, rollout, now))
        routed = any(v.template.ports for v in (rollout.new, rollout.old) if v is not None)
        never_left = rollout.phase is Phase.REVERTING and rollout.never_left and routed
        if rollout.phase is Phase.REHEARSING or never_left:  # a live version that is broken is no reason to keep it
            wanted = [c for c in wanted if c.subject.startswith(("route ", "rules "))]
        elif rollout.at_step and not rollout.phase.going_back:  # what both versions answer is the judge's to say
            own = f"instances {rollout.service}/{rollout.environment} {rollout.new.name if rollout.new else ''}"
            wanted = [c for c in wanted if c.subject.startswith(("route ", "rules ", own))]
        if not routed and (rollout.new or rollout.old) is not None:
            wanted = [c for c in wanted if c.subject.startswith("instances ")]
        return prove(wanted, await self._ports.probe.observe(wanted), self._ports.clock.now())

    async def _log_tail(self, rollout: Rollout, version: Version) -> tuple[str, ...]:
        page = await self._ports.logs.read(
            LogFilter(service=rollout.service, environment=rollout.environment, version=version.name, limit=20)
        )
        lines: list[LogLine] = list(reversed(page.lines))
        return tuple(line.text[:400] for line in lines)

    async def _store(self, rows: _Rows, rollout: Rollout, after: Rollout) -> None:
        """The next phase, what it makes of the deployment and the operation, and the inbox: all or nothing, which it is
        where a message has come in meanwhile."""
        now = self._ports.clock.now()
        known = {m.id for m in rows.messages}
        next_id = self._ports.clock.new_id("ro")

        def unit(tx: Transaction) -> Operation | None:
            if any(m.kind is not MessageKind.PROMOTE and m.id not in known for m in tx.messages(after.id)):
                raise _OvertakenError
            tx.save_rollout(after)
            if _done_with_messages(rollout, after):
                tx.remove_messages(after.id, [m.id for m in rows.messages if not _still_due(m, rollout, after)])
            operation = tx.operation(after.operation_id)
            if operation is None:
                return None
            operation = _follow(operation, after)
            tx.save_operation(operation.model_copy(update={"updated_at": now}))
            if after.phase.finished:
                deployment = tx.deployment(after.service, after.environment) or rows.deployment
                finished = operation.model_copy(update={"updated_at": now, "finished_at": now})
                tx.save_operation(finished)
                begin_waiting(tx, _settled(tx, deployment, after, finished, now), next_id, now)
                return finished
            return None

        try:
            finished = await self._ports.store.write(unit)
        except _OvertakenError:
            return
        self._synthetic.keep(after)
        if after.phase is not rollout.phase:
            self._ports.traces.step(
                after.operation_id,
                f"rollout {rollout.phase}",
                rollout.phase_since,
                now,
                {"santiago.operation": after.operation_id, "santiago.rollout": after.id, "santiago.step": rollout.step},
                failed=after.phase.going_back and not rollout.phase.going_back,
            )
        log.info("%s/%s %s: %s %s", after.service, after.environment, after.operation_id, after.phase, after.reason)
        if finished is not None:
            self._canary.forget(after.id)
            self._jumps.forget(_clocked(after))
            self._builds.forget(after.id)
            await self._complete_log(finished)
            for release in await prune_releases(self._ports):
                log.info("pruned release %s of %s", release.short, release.service)

    async def _complete_logs(self) -> None:
        """Entries of operations that finished just before a crash."""
        for operation in await self._ports.store.read(lambda v: list(v.operations(unlogged=True))):
            await self._complete_log(operation)

    async def _complete_log(self, operation: Operation) -> None:
        """Once: the loop that has finished it and the one that looks for what a crash left may come together."""
        async with self._completing:
            stored = await self._ports.store.read(lambda v: v.operation(operation.id))
            if stored is not None and not stored.logged:
                await complete_operation(self._ports, stored)


def _settled(tx: Transaction, before: Deployment, rollout: Rollout, operation: Operation, now: datetime) -> Deployment:
    """Stores what a finished rollout makes of the deployment, and when which version was live."""
    after = settle(before, rollout, now)
    tx.save_deployment(after)
    last = tx.live_periods(after.service, after.environment)[-1:]
    proven = operation.state is OperationState.SUCCEEDED
    rollback = operation.kind == ROLLBACK
    for period in succession(before, after, last[0] if last else None, now, proven=proven, rollback=rollback):
        tx.save_live_period(period)
    return after


def _done_with_messages(before: Rollout, after: Rollout) -> bool:
    """A promotion may come early: it waits until the rollout is ready for it."""
    if after.phase.going_back or after.phase.finished:
        return True
    left = before.phase in PROMOTABLE and before.phase is not after.phase
    return left or (after.moved and not after.stepwise)


def _still_due(message: Message, before: Rollout, after: Rollout) -> bool:
    """The promotion of a step that begins anew, since the rollout was scaled in the same pass."""
    anew = before.phase is Phase.ANALYSING and after.phase is Phase.STARTING and before.step == after.step
    return anew and message.kind is MessageKind.PROMOTE and message.step == after.step


def _follow(operation: Operation, rollout: Rollout) -> Operation:
    """The operation as its rollout stands."""
    states = {
        Phase.SUCCEEDED: OperationState.SUCCEEDED,
        Phase.ROLLED_BACK: OperationState.ROLLED_BACK,
        Phase.FAILED: OperationState.FAILED,
    }
    state = states.get(rollout.phase, OperationState.RUNNING)
    if state is OperationState.SUCCEEDED and (rollout.proof is None or rollout.proof.verdict is not Verdict.MATCH):
        state = OperationState.UNVERIFIED
    return operation.model_copy(
        update={
            "state": state,
            "phase": Phase.HOLDING if rollout.phase is Phase.ANALYSING and rollout.needs_somebody else rollout.phase,
            "progress": progress(rollout),
            "reason": rollout.reason,
            "detail": rollout.detail,
            "proof": rollout.proof,
        }
    )


def _clocked(rollout: Rollout) -> tuple[str, str, str]:
    return rollout.service, rollout.environment, rollout.id


def _until_cold(deployment: Deployment, now: datetime) -> float:
    """Seconds that a service without a rollout may be left alone: its warm version ends in time."""
    if deployment.warm(now) is None or deployment.warm_until is None:
        return IDLE_SECONDS
    return min(IDLE_SECONDS, (deployment.warm_until - now).total_seconds())


def _keys(view: Snapshot) -> list[Key]:
    rows = {(d.service, d.environment) for d in view.deployments()}
    return sorted(rows | {(r.service, r.environment) for r in view.active_rollouts()})


def _rows(view: Snapshot, service: str, environment: str) -> _Rows | None:
    deployment = view.deployment(service, environment)
    if deployment is None:
        return None
    rollout = view.active_rollout(service, environment)
    if rollout is None:
        return _Rows(deployment, None, (), waiting=bool(waiting_rollbacks(view, service, environment)))
    return _Rows(deployment, rollout, tuple(view.messages(rollout.id)))
