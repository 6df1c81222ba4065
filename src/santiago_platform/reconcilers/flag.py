"""The loop over feature flags: changes are written, proven and completed; edits by hand and expired flags are told.

Ramps need no loop: their rules move by themselves, see domain/ramp.py.
"""

from __future__ import annotations

import logging
from typing import Any

from ..domain.errors import PlatformError, retryable
from ..domain.flag import FlagEntry, FlagFile, expired, served_as
from ..domain.identity import PLATFORM
from ..domain.operation import Operation, OperationState
from ..domain.proof import Claim, Proof, Verdict, prove
from ..operations.change import complete_operation, note
from ..operations.configure_flag import KIND
from ..ports import Ports
from ..ports.store import Snapshot, Transaction

log = logging.getLogger(__name__)

IDLE_SECONDS = 1.0
BUSY_SECONDS = 0.05
PROOF_SECONDS = 8.0  # the endpoint looks at the file ten times a second, and may have to start first


class FlagReconciler:
    """One per daemon."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._looked = False
        self._refused = ""
        self._warned: set[str] = set()

    async def run(self) -> None:
        """Passes until it is cancelled; a failed pass is logged and tried again."""
        while True:
            rest = IDLE_SECONDS
            try:
                rest = await self.pass_over()
            except PlatformError as exc:
                log.warning("flags: %s %s", exc.message, exc.internal)
            except Exception:
                log.exception("the pass over flags failed")
            await self._ports.activation.wait(rest, loop="flags")

    async def pass_over(self) -> float:
        """Moves every change as far as it goes. Returns the seconds until the next pass."""
        await self._ports.flags.serve()
        running = await self._ports.store.read(_running)
        for operation in running:
            await self._move(operation)
        await self._look_at_file(changing={operation.request["flag"] for operation in running})
        return BUSY_SECONDS if await self._ports.store.read(_running) else IDLE_SECONDS

    async def _move(self, operation: Operation) -> None:
        flag, after = operation.request["flag"], FlagEntry.model_validate(operation.request["after"])
        try:
            await self._ports.flags.put(flag, FlagEntry.model_validate(operation.request["before"]), after)
            await self._ports.flags.serve()
            proof = await self._prove(flag, after, operation.request["environment"])
        except PlatformError as exc:
            if not retryable(exc.code) or self._late(operation):
                await self._end(operation, OperationState.FAILED, exc.message, None)
            return
        if proof.verdict is Verdict.MATCH:
            await self._end(operation, OperationState.SUCCEEDED, operation.reason, proof)
        elif self._late(operation):
            failed = proof.verdict is Verdict.DRIFT
            state = OperationState.FAILED if failed else OperationState.UNVERIFIED
            await self._end(operation, state, proof.summary(), proof)

    async def _prove(self, flag: str, after: FlagEntry, environment: str | None) -> Proof:
        """What is served, in each environment that the change is about, against what was asked for."""
        environments = sorted(self._ports.workspace.last_good_settings().environments)
        file = (await self._ports.flags.read()).with_entry(flag, after)
        claims = [
            Claim(subject=f"flag {flag} {name}", expected=served_as(file.compiled(name).get(flag)))
            for name in ([environment] if environment is not None else environments)
        ]
        return prove(claims, await self._ports.probe.observe(claims), self._ports.clock.now())

    def _late(self, operation: Operation) -> bool:
        return (self._ports.clock.now() - operation.created_at).total_seconds() > PROOF_SECONDS

    async def _end(self, operation: Operation, state: OperationState, reason: str, proof: Proof | None) -> None:
        now = self._ports.clock.now()
        finished = operation.model_copy(
            update={
                "state": state,
                "phase": "done",
                "progress": 1.0,
                "reason": reason,
                "proof": proof,
                "updated_at": now,
                "finished_at": now,
            }
        )
        flag, after = operation.request["flag"], FlagEntry.model_validate(operation.request["after"])
        written = state is not OperationState.FAILED or proof is not None

        def store(tx: Transaction) -> None:
            tx.save_operation(finished)
            known = tx.flags()
            if written and known is not None:
                tx.save_flags(known.with_entry(flag, after))

        await self._ports.store.write(store)
        await complete_operation(self._ports, finished)

    async def _look_at_file(self, changing: set[str]) -> None:
        """Notes in the ship's log what somebody edited, what was refused, and what expired: each once.

        Edited is what differs from the stored flags, so that what happened while nobody looked is noted too.
        """
        try:
            file = await self._ports.flags.read()
        except PlatformError as exc:
            if exc.message != self._refused:
                self._refused = exc.message
                await self._tell("flag.refused", "flags.json", {"problem": exc.message})
            return
        self._refused = ""
        await self._note_edits(file, changing)
        for key, warning in expired(file, self._ports.clock.now()):
            if key not in self._warned:
                self._warned.add(key)
                await self._tell("flag.expired", f"flag {key}", {"warning": warning})

    async def _note_edits(self, file: FlagFile, changing: set[str]) -> None:
        known = await self._ports.store.read(lambda view: view.flags())
        how = "by hand" if self._looked else "by hand, while the platform was down"
        self._looked = True
        now = file
        if known is not None:
            for key in changing:  # its operation says what becomes of it
                now = now.with_entry(key, known.entry(key))
            if now == known:
                return
            for key in sorted({*known.flags, *now.flags}):
                before, after = known.entry(key), now.entry(key)
                if before != after:
                    body = {"how": how, "before": before.written(), "after": after.written()}
                    await self._tell("flag.edited", f"flag {key}", body)
            if known.evaluators != now.evaluators:
                body = {"how": how, "before": known.evaluators, "after": now.evaluators}
                await self._tell("flag.edited", "$evaluators", body)
        if known is not None or now.flags:
            await self._ports.store.write(lambda tx: tx.save_flags(now))

    async def _tell(self, action: str, subject: str, body: dict[str, Any]) -> None:
        log.warning("%s %s: %s", action, subject, body)
        await note(self._ports, PLATFORM, action, subject, body)


def _running(view: Snapshot) -> list[Operation]:
    """Oldest first."""
    found = view.operations(service="", running=True, limit=1000)
    return [o for o in reversed(found) if o.kind == KIND and o.state is OperationState.RUNNING]
