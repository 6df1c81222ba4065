"""The contract of ports.store.Store."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from ..domain.budget import Settlement
from ..domain.change_request import Decision
from ..domain.errors import ErrorCode, PlatformError
from ..domain.evidence import Coverage, Findings, ScanResults, SuiteResults
from ..domain.flag import Flag, FlagEntry, FlagFile, Override
from ..domain.identity import Role
from ..domain.job import RunState
from ..domain.live_period import PERIODS_KEPT
from ..domain.operation import Operation, OperationState
from ..domain.phase import Phase
from ..domain.proposal import Task
from ..ports.store import Snapshot, Store, Transaction
from .rows import (
    ANN,
    START,
    attestation,
    change_request,
    charge,
    deployment,
    live_period,
    message,
    next_of,
    operation,
    rollout,
    run,
    session,
    token,
    version,
)


class StoreContract:
    async def test_operations_that_have_ended_are_removed_beyond_the_newest_with_all_that_is_theirs(
        self, store: Store
    ) -> None:
        ended = {"state": OperationState.SUCCEEDED, "logged": True}

        def unit(tx: Transaction) -> None:
            for number in range(1, 7):
                tx.save_operation(operation(number, **ended))
                tx.add_rollout(rollout(number, phase=Phase.SUCCEEDED))
                tx.add_message(f"ro-{number}", message())
            tx.save_operation(operation(0))
            tx.add_rollout(rollout(0))
            tx.save_operation(operation(-1, **{**ended, "logged": False}))

        await store.write(unit)
        assert await store.write(lambda tx: tx.prune_operations(keep=3, limit=2)) == 2
        assert await store.write(lambda tx: tx.prune_operations(keep=3, limit=2)) == 1
        assert await store.write(lambda tx: tx.prune_operations(keep=3, limit=2)) == 0

        def left(view: Snapshot) -> tuple[list[str], list[int], list[int]]:
            numbers = range(7)
            return (
                [o.id for o in view.operations()],
                [n for n in numbers if view.rollout_of(f"op-{n}") and view.journal(f"ro-{n}")],
                [n for n in numbers if view.messages(f"ro-{n}")],
            )

        names = ["op-6", "op-5", "op-4", "op-0", "op--1"]
        assert await store.read(left) == (names, [0, 4, 5, 6], [4, 5, 6])

    """A subclass supplies the fixture `store`: an empty one, closed afterwards."""

    async def test_what_was_written_is_read_back_as_it_was(self, store: Store) -> None:
        def unit(tx: Transaction) -> str:
            tx.save_operation(operation())
            tx.add_rollout(rollout())
            tx.add_message("ro-1", message())
            tx.save_deployment(deployment(live=version("sha256:" + "b" * 64), warm_until=START))
            tx.save_token(token())
            return "the unit's value"

        assert await store.write(unit) == "the unit's value"

        def look(view: Snapshot) -> list[object]:
            return [
                view.operation("op-1"),
                view.rollout("ro-1"),
                view.rollout_of("op-1"),
                view.active_rollout("web", "production"),
                *view.messages("ro-1"),
                view.deployment("web", "production"),
                view.token("t-1"),
            ]

        assert await store.read(look) == [
            operation(),
            rollout(),
            rollout(),
            rollout(),
            message(),
            deployment(live=version("sha256:" + "b" * 64), warm_until=START),
            token(),
        ]

    async def test_what_is_not_there_is_none_or_empty(self, store: Store) -> None:
        def look(view: Snapshot) -> list[object]:
            return [
                view.operation("x"),
                view.rollout("x"),
                view.rollout_of("x"),
                view.active_rollout("web", "production"),
                view.deployment("web", "production"),
                view.token("x"),
                *view.operations(),
                *view.active_rollouts(),
                *view.journal("x"),
                *view.messages("x"),
                *view.deployments(),
                *view.tokens(),
            ]

        assert await store.read(look) == [None] * 6

    async def test_a_saved_value_replaces_the_one_with_the_same_key(self, store: Store) -> None:
        def unit(tx: Transaction) -> None:
            for value in (operation(), operation(phase="starting")):
                tx.save_operation(value)
            for row in (deployment(), deployment(generation=2)):
                tx.save_deployment(row)
            for held in (token(), token(revoked=True)):
                tx.save_token(held)

        await store.write(unit)
        assert await store.read(lambda v: v.operations()) == [operation(phase="starting")]
        assert await store.read(lambda v: v.deployments()) == [deployment(generation=2)]
        assert await store.read(lambda v: v.tokens()) == [token(revoked=True)]

    async def test_a_unit_reads_what_it_wrote_itself(self, store: Store) -> None:
        def unit(tx: Transaction) -> Operation | None:
            tx.save_operation(operation())
            return tx.operation("op-1")

        assert await store.write(unit) == operation()

    async def test_a_unit_that_raises_stores_nothing_and_its_error_is_raised(self, store: Store) -> None:
        def unit(tx: Transaction) -> None:
            tx.save_operation(operation())
            tx.add_rollout(rollout())
            raise LookupError("the unit's own")

        with pytest.raises(LookupError, match="the unit's own"):
            await store.write(unit)
        assert await store.read(lambda v: (v.operation("op-1"), v.rollout("ro-1"))) == (None, None)
        await store.write(lambda tx: tx.add_rollout(rollout()))

    async def test_a_unit_that_raises_undoes_itself_alone(self, store: Store) -> None:
        def unit(number: int) -> Any:
            def do(tx: Transaction) -> None:
                tx.save_operation(operation(number))
                if number % 3 == 0:
                    raise LookupError(str(number))

            return store.write(do)

        outcomes = await asyncio.gather(*(unit(n) for n in range(60)), return_exceptions=True)
        failed = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, LookupError)]
        stored = {o.id for o in await store.read(lambda v: v.operations(limit=100))}
        assert failed == list(range(0, 60, 3))
        assert stored == {f"op-{n}" for n in range(60) if n % 3}

    async def test_a_unit_that_raises_stop_iteration_answers_too(self, store: Store) -> None:
        async with asyncio.timeout(10):
            with pytest.raises((StopIteration, RuntimeError)):
                await store.write(lambda tx: next(iter(())))

    async def test_units_run_alone_so_that_none_is_lost(self, store: Store) -> None:
        await store.write(lambda tx: tx.save_deployment(deployment()))

        def count(tx: Transaction) -> None:
            found = tx.deployment("web", "production")
            assert found is not None
            tx.save_deployment(found.model_copy(update={"generation": found.generation + 1}))

        await asyncio.gather(*(store.write(count) for _ in range(100)))
        after = await store.read(lambda v: v.deployment("web", "production"))
        assert after is not None
        assert after.generation == 100

    async def test_a_read_sees_all_of_a_unit_or_nothing(self, store: Store) -> None:
        def both(generation: int) -> Any:
            def unit(tx: Transaction) -> None:
                tx.save_deployment(deployment(generation=generation))
                tx.save_deployment(deployment(environment="staging", generation=generation))

            return store.write(unit)

        def look(view: Snapshot) -> set[int]:
            return {d.generation for d in view.deployments()}

        await both(0)
        writing = asyncio.gather(*(both(n) for n in range(1, 50)))
        seen = [await store.read(look)]
        while not writing.done():
            seen.append(await store.read(look))
            await asyncio.sleep(0)
        await writing
        assert all(len(generations) == 1 for generations in seen)
        assert await store.read(look) == {49}

    async def test_operations_come_newest_first_and_bounded(self, store: Store) -> None:
        for number in (2, 3, 1):
            await store.write(lambda tx, n=number: tx.save_operation(operation(n)))  # type: ignore[misc]
        assert [o.id for o in await store.read(lambda v: v.operations())] == ["op-3", "op-2", "op-1"]
        assert [o.id for o in await store.read(lambda v: v.operations(limit=2))] == ["op-3", "op-2"]

    async def test_of_operations_of_the_same_moment_the_one_stored_last_is_newest(self, store: Store) -> None:
        for name in ("op-b", "op-a", "op-c"):
            await store.write(lambda tx, id=name: tx.save_operation(operation(id=id)))  # type: ignore[misc]
        assert [o.id for o in await store.read(lambda v: v.operations())] == ["op-c", "op-a", "op-b"]

    async def test_operations_are_filtered(self, store: Store) -> None:
        done = {"state": OperationState.SUCCEEDED, "finished_at": START}
        rows = [
            operation(1),
            operation(2, service="api"),
            operation(3, environment="staging"),
            operation(4, principal=ANN.model_copy(update={"tenant": "other"})),
            operation(5, **done),
            operation(6, **done, logged=True),
        ]
        for row in rows:
            await store.write(lambda tx, row=row: tx.save_operation(row))  # type: ignore[misc]

        async def found(**filters: Any) -> list[str]:
            return [o.id for o in await store.read(lambda v: v.operations(**filters))]

        assert await found(service="api") == ["op-2"]
        assert await found(environment="staging") == ["op-3"]
        assert await found(tenant="other") == ["op-4"]
        assert await found(running=True) == ["op-4", "op-3", "op-2", "op-1"]
        assert await found(running=False) == ["op-6", "op-5"]
        assert await found(since=rows[4].created_at) == ["op-6", "op-5"]
        assert await found(since=rows[2].created_at, running=True, tenant="other") == ["op-4"]
        assert await found(unlogged=True) == ["op-5"]
        assert await found(unlogged=False, service="web", environment="production", tenant="default") == [
            "op-6",
            "op-1",
        ]

    async def test_of_two_rollouts_added_at_once_exactly_one_wins(self, store: Store) -> None:
        outcomes = await asyncio.gather(
            *(store.write(lambda tx, n=n: tx.add_rollout(rollout(n))) for n in range(2)),  # type: ignore[misc]
            return_exceptions=True,
        )
        errors = [o for o in outcomes if isinstance(o, PlatformError)]
        assert [e.code for e in errors] == [ErrorCode.CONFLICT]
        assert outcomes.count(None) == 1
        assert len(await store.read(lambda v: v.active_rollouts())) == 1

    async def test_another_service_or_environment_may_have_its_own_rollout(self, store: Store) -> None:
        for n, where in enumerate([{}, {"service": "api"}, {"environment": "staging"}]):
            await store.write(lambda tx, n=n, where=where: tx.add_rollout(rollout(n, **where)))  # type: ignore[misc]
        assert [r.id for r in await store.read(lambda v: v.active_rollouts())] == ["ro-0", "ro-1", "ro-2"]

    async def test_a_finished_rollout_makes_room_for_the_next_and_cannot_come_back(self, store: Store) -> None:
        first = next_of(rollout(1), Phase.SUCCEEDED)
        await store.write(lambda tx: tx.add_rollout(rollout(1)))
        await store.write(lambda tx: tx.save_rollout(first))
        assert await store.read(lambda v: v.active_rollout("web", "production")) is None
        await store.write(lambda tx: tx.add_rollout(rollout(2)))
        with pytest.raises(PlatformError) as caught:
            await store.write(lambda tx: tx.save_rollout(next_of(first, Phase.SHIFTING)))
        assert caught.value.code is ErrorCode.CONFLICT
        assert await store.read(lambda v: v.rollout("ro-1")) == first

    async def test_a_writer_that_lags_behind_is_fenced_off_by_the_epoch(self, store: Store) -> None:
        await store.write(lambda tx: tx.add_rollout(rollout()))
        shifting = next_of(rollout(), Phase.SHIFTING)
        await store.write(lambda tx: tx.save_rollout(shifting))
        for epoch in (0, 1, 3):
            late = shifting.model_copy(update={"epoch": epoch, "phase": Phase.FAILED})
            with pytest.raises(PlatformError) as caught:
                await store.write(lambda tx, late=late: tx.save_rollout(late))  # type: ignore[misc]
            assert caught.value.code is ErrorCode.CONFLICT
        with pytest.raises(PlatformError) as caught:
            await store.write(lambda tx: tx.save_rollout(rollout(9, epoch=1)))
        assert caught.value.code is ErrorCode.CONFLICT
        assert await store.read(lambda v: v.rollout("ro-1")) == shifting
        assert len(await store.read(lambda v: v.journal("ro-1"))) == 2

    async def test_the_journal_has_a_line_of_each_stored_phase_in_order(self, store: Store) -> None:
        shifting = next_of(rollout(), Phase.SHIFTING, reason="ready", phase_since=START + timedelta(seconds=5))
        await store.write(lambda tx: tx.add_rollout(rollout()))
        await store.write(lambda tx: tx.save_rollout(shifting))
        steps = await store.read(lambda v: v.journal("ro-1"))
        assert [(s.epoch, s.phase, s.reason, s.at) for s in steps] == [
            (0, Phase.STARTING, "", START),
            (1, Phase.SHIFTING, "ready", START + timedelta(seconds=5)),
        ]

    async def test_messages_wait_oldest_first_until_they_are_removed(self, store: Store) -> None:
        def unit(tx: Transaction) -> None:
            tx.add_rollout(rollout())
            for number in (3, 1, 2):
                tx.add_message("ro-1", message(number))
            tx.add_message("ro-2", message(4))

        await store.write(unit)
        assert [m.id for m in await store.read(lambda v: v.messages("ro-1"))] == ["m-3", "m-1", "m-2"]
        await store.write(lambda tx: tx.remove_messages("ro-1", ["m-3", "m-2", "m-4", "unknown"]))
        await store.write(lambda tx: tx.remove_messages("ro-1", []))
        assert [m.id for m in await store.read(lambda v: v.messages("ro-1"))] == ["m-1"]
        assert [m.id for m in await store.read(lambda v: v.messages("ro-2"))] == ["m-4"]

    async def test_the_same_message_twice_is_once_also_after_it_was_removed(self, store: Store) -> None:
        await store.write(lambda tx: tx.add_message("ro-1", message(reason="first")))
        await store.write(lambda tx: tx.add_message("ro-1", message(reason="second")))
        assert [m.reason for m in await store.read(lambda v: v.messages("ro-1"))] == ["first"]
        await store.write(lambda tx: tx.remove_messages("ro-1", ["m-1"]))
        await store.write(lambda tx: tx.add_message("ro-1", message()))
        assert await store.read(lambda v: v.messages("ro-1")) == []

    async def test_deployments_are_those_of_a_tenant(self, store: Store) -> None:
        rows = [deployment(), deployment(service="api"), deployment(service="own", tenant="other")]
        for row in rows:
            await store.write(lambda tx, row=row: tx.save_deployment(row))  # type: ignore[misc]
        assert [d.service for d in await store.read(lambda v: v.deployments(tenant="default"))] == ["api", "web"]
        assert [d.service for d in await store.read(lambda v: v.deployments())] == ["api", "own", "web"]

    async def test_attestations_are_of_exactly_one_release_oldest_first_and_never_changed(self, store: Store) -> None:
        found: list[Findings] = [
            SuiteResults(type="tests", tests=0),
            Coverage(type="coverage", line_ratio=0.0),
            ScanResults(type="scan"),
        ]
        rows = [attestation(number, findings=findings) for number, findings in enumerate(found)]
        other = attestation(9, release="sha256:" + "b" * 64)
        for row in (*rows, other, attestation(0, name="changed")):
            await store.write(lambda tx, row=row: tx.add_attestation(row))  # type: ignore[misc]
        assert list(await store.read(lambda v: v.attestations(rows[0].release))) == rows
        assert list(await store.read(lambda v: v.attestations(other.release))) == [other]
        assert list(await store.read(lambda v: v.attestations("sha256:" + "c" * 64))) == []

    async def test_live_periods_are_oldest_first_ended_in_place_and_forgotten_with_their_release(
        self, store: Store
    ) -> None:
        other = "sha256:" + "b" * 64
        rows = [live_period(2), live_period(1), live_period(3, other), live_period(1, environment="staging")]
        ended = live_period(2, until=START, taken_back=True)

        def unit(tx: Transaction) -> None:
            for row in (*rows, ended):
                tx.save_live_period(row)

        await store.write(unit)
        assert list(await store.read(lambda v: v.live_periods("web", "production"))) == [rows[1], ended, rows[2]]
        await store.write(lambda tx: tx.forget_live_periods(rows[0].release))
        await store.write(lambda tx: tx.forget_live_periods("sha256:" + "c" * 64))
        assert list(await store.read(lambda v: v.live_periods("web", "production"))) == [rows[2]]
        assert list(await store.read(lambda v: v.live_periods("web", "staging"))) == []

    async def test_the_newest_live_periods_of_a_service_and_environment_stay(self, store: Store) -> None:
        def unit(tx: Transaction) -> None:
            tx.save_live_period(live_period(1, service="api"))
            for number in range(PERIODS_KEPT + 3):
                tx.save_live_period(live_period(number))

        await store.write(unit)
        kept = await store.read(lambda v: [p.number for p in v.live_periods("web", "production")])
        assert kept == list(range(3, PERIODS_KEPT + 3))
        assert await store.read(lambda v: len(v.live_periods("api", "production"))) == 1

    async def test_the_flags_that_were_saved_last_are_kept_whole(self, store: Store) -> None:
        assert await store.read(lambda v: v.flags()) is None
        flag = Flag(state="DISABLED", variants={"a": {"x": 1}, "b": {}}, targeting={"if": [True, "a"]})
        entry = FlagEntry(flag=flag, environments={"staging": Override(default_variant="b", metadata={"owner": "web"})})
        for file in (FlagFile(), FlagFile(evaluators={"all": {"==": [1, 1]}}).with_entry("new", entry)):
            await store.write(lambda tx, file=file: tx.save_flags(file))  # type: ignore[misc]
            assert await store.read(lambda v: v.flags()) == file

    async def test_change_requests_are_found_newest_first_by_what_they_are_about(self, store: Store) -> None:
        said = Decision(approved=True, by="bob", role=Role.PM, at=START)
        rows = [
            change_request(1),
            change_request(2, decision=said),
            change_request(3, ended="nobody answered"),
            change_request(4, environment="staging"),
        ]
        for row in (change_request(2), *rows):
            await store.write(lambda tx, row=row: tx.save_change_request(row))  # type: ignore[misc]

        async def found(**wanted: Any) -> list[str]:
            return [r.id for r in await store.read(lambda v: v.change_requests(**wanted))]

        assert await store.read(lambda v: v.change_request("op-2")) == rows[1]
        assert await store.read(lambda v: v.change_request("op-9")) is None
        assert await found() == ["op-4", "op-3", "op-1", "op-2"]
        assert await found(open=True) == ["op-4", "op-1"]
        assert await found(open=False, release=rows[0].release, environment="production") == ["op-3", "op-2"]
        assert await found(release="sha256:" + "b" * 64) == []
        assert await found(limit=1) == ["op-4"]

    async def test_charges_are_found_newest_first_and_what_a_day_amounts_to_is_exact(self, store: Store) -> None:
        tomorrow = START.date() + timedelta(days=1)
        rows = [
            charge(1, amount_usd=Decimal("0.000000001")),
            charge(2, amount_usd=Decimal("12.3456789"), role=Role.QA, task=Task.SUMMARY, tenant="other"),
            charge(3, day=tomorrow),
        ]

        def unit(tx: Transaction) -> None:
            for row in (*rows, charge(1, amount_usd=Decimal("0.1"), settlement=Settlement.ANSWERED)):
                tx.save_charge(row)

        await store.write(unit)
        assert await store.read(lambda v: v.charge("ch-2")) == rows[1]
        assert await store.read(lambda v: v.charge("ch-9")) is None

        def ids(**wanted: Any) -> Any:
            return lambda view: [each.id for each in view.charges(**wanted)]

        assert sorted(await store.read(ids())) == ["ch-1", "ch-2", "ch-3"]
        assert await store.read(ids(unsettled=True)) == ["ch-3", "ch-2"]
        assert await store.read(ids(unsettled=False)) == ["ch-1"]
        assert await store.read(ids(day=tomorrow)) == ["ch-3"]
        assert len(await store.read(ids(limit=2))) == 2
        spent = await store.read(lambda v: v.spent(START.date()))
        assert spent.total_usd == Decimal("12.4456789")
        assert spent.by_role == {Role.DEVELOPER: Decimal("0.1"), Role.QA: Decimal("12.3456789")}
        assert spent.by_task[Task.SUMMARY] == spent.by_tenant["other"] == Decimal("12.3456789")
        assert (await store.read(lambda v: v.spent(tomorrow))).total_usd == Decimal("0.5")
        assert (await store.read(lambda v: v.spent(tomorrow + timedelta(days=1)))).total_usd == 0

    async def test_sessions_are_of_a_principal_newest_first_and_forgotten_once_they_expired(self, store: Store) -> None:
        bob = ANN.model_copy(update={"name": "bob"})
        rows = [session(1), session(2, principal=bob), session(3)]
        for row in (*rows, renewed := session(1, expires_at=START + timedelta(seconds=9))):
            await store.write(lambda tx, row=row: tx.save_session(row))  # type: ignore[misc]

        def ids(**wanted: Any) -> Any:
            return lambda view: [each.id for each in view.sessions(**wanted)]

        assert await store.read(lambda v: v.session("se-1")) == renewed
        assert await store.read(lambda v: v.session("se-9")) is None
        assert await store.read(ids()) == ["se-3", "se-2", "se-1"]
        assert await store.read(ids(tenant="default", name="ann")) == ["se-3", "se-1"]
        assert await store.read(ids(tenant="default", name="ann", limit=1)) == ["se-3"]
        assert await store.read(ids(tenant="other")) == []
        await store.write(lambda tx: tx.forget_sessions(expired_before=START + timedelta(seconds=3)))
        assert await store.read(ids()) == ["se-3", "se-1"]

    async def test_a_closed_store_refuses_reads_and_writes(self, store: Store) -> None:
        await store.close()
        await store.close()
        for call in (store.read(lambda v: v.tokens()), store.write(lambda tx: tx.save_token(token()))):
            with pytest.raises(PlatformError) as caught:
                await call
            assert caught.value.code is ErrorCode.UNAVAILABLE

    async def test_runs_of_jobs_are_found_newest_first_and_forgotten_by_their_ids(self, store: Store) -> None:
        runs = [run(1), run(2, rollout_id="ro-1"), run(3, job="other")]

        def unit(tx: Transaction) -> None:
            for each in runs:
                tx.save_job_run(each)
            tx.save_job_run(runs[0].ended(RunState.FAILED, START, "exited with code 1", ("last words",)))

        await store.write(unit)

        def ids(**wanted: Any) -> Any:
            return lambda view: [each.id for each in view.job_runs(**wanted)]

        first, second, third = (each.id for each in runs)
        assert await store.read(ids()) == [third, second, first]
        assert await store.read(ids(limit=1)) == [third]
        assert await store.read(ids(service="web", environment="production", job="report")) == [second, first]
        assert await store.read(ids(rollout_id="ro-1")) == [second]
        assert await store.read(ids(unfinished=True)) == [third, second]
        assert await store.read(ids(unfinished=False)) == [first]
        assert await store.read(ids(environment="staging")) == []
        found = await store.read(lambda view: view.job_run(first))
        assert found is not None
        assert (found.state, found.log_tail) == (RunState.FAILED, ("last words",))
        await store.write(lambda tx: tx.forget_job_runs([first, "unknown"]))
        assert await store.read(ids()) == [third, second]
        assert await store.read(lambda view: view.job_run(first)) is None
