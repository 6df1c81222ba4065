"""Gates over the in-memory platform: what is asked when, what is stored, and what is never asked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.domain.environment import Environment, ReleaseRetention, Settings
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.evidence import EvidenceKind, SuiteResults
from santiago_platform.domain.gate import Budget, Incident, Reply
from santiago_platform.domain.gates import AnyGate
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.operation import OperationState
from santiago_platform.domain.ship_log import EntryKind
from santiago_platform.operations.check_gates import GatesQuery, GatesView, read_gates
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.evidence import EvidenceRequest, add_evidence, list_evidence
from santiago_platform.operations.manage_operation import OperationCommand, manage_operation
from santiago_platform.operations.operation_view import OperationView
from santiago_platform.operations.release_service import ReleaseRequest, prune_releases, release_service
from santiago_platform.ports.evidence import Parsed
from santiago_platform.reconcilers.rollout import RolloutReconciler
from santiago_platform.testing.rows import incident

ANN = Principal(name="ann", role=Role.DEVELOPER)
CI = Principal(name="ci", role=Role.PIPELINE)
READ: TypeAdapter[Any] = TypeAdapter(AnyGate)
FOREVER = {"type": "freeze", "start": "2000-01-01T00:00:00", "duration": "P1D", "rule": "FREQ=DAILY"}


def platform(*gates: dict[str, Any]) -> FakePlatform:
    """With `staging` before `production`, which has these gates."""
    made = FakePlatform(workspace=FakeWorkspace())
    ask(made, *gates)
    return made


def ask(platform: FakePlatform, *gates: dict[str, Any]) -> None:
    production = Environment(gates=tuple(READ.validate_python(gate) for gate in gates))
    platform.workspace.current = Settings(environments={"staging": Environment(), "production": production})


async def happened(platform: FakePlatform, id: str = "in-7", **fields: Any) -> None:
    made = incident(id=id, opened_at=platform.clock.now(), **fields)
    await platform.store.write(lambda tx: tx.save_incident(made))


async def settle(platform: FakePlatform) -> None:
    loop = RolloutReconciler(platform.ports)
    for _ in range(400):
        await loop.pass_over_all()
        await platform.clock.sleep(0.2)
        if not await platform.store.read(lambda v: v.operations(running=True)):
            return
    raise AssertionError("it hangs")


async def release(platform: FakePlatform, ref: str = "v1") -> str:
    return (await release_service(platform.ports, ANN, ReleaseRequest(service="web", git_ref=ref))).digest


async def deploy(platform: FakePlatform, **request: Any) -> OperationView:
    """To production, followed to its end."""
    asked = DeployRequest(**{"service": "web", "environment": "production", **request})
    started = await deploy_service(platform.ports, ANN, asked)
    if asked.dry_run:
        return started
    await settle(platform)
    status = OperationCommand(action="status", operation=started.id)
    return (await manage_operation(platform.ports, ANN, status)).operations[0]


async def refused(
    platform: FakePlatform, code: ErrorCode = ErrorCode.FAILED_PRECONDITION, **request: Any
) -> PlatformError:
    with pytest.raises(PlatformError) as raised:
        await deploy(platform, **request)
    assert raised.value.code is code
    return raised.value


def file(**counts: int) -> bytes:
    found = SuiteResults(**{"type": "tests", "tests": 3, **counts})  # type: ignore[arg-type]
    return Parsed(kind=EvidenceKind.JUNIT, findings=found).model_dump_json().encode()


async def attest(platform: FakePlatform, release: str, by: Principal = CI, **counts: int) -> None:
    await add_evidence(platform.ports, by, EvidenceRequest(release=release), file(**counts))


async def asked(platform: FakePlatform, **query: Any) -> GatesView:
    return await read_gates(platform.ports, ANN, GatesQuery(service="web", environment="production", **query))


async def test_a_release_that_does_not_pass_is_refused_with_each_gate_and_what_to_do() -> None:
    made = platform({"type": "tests"}, FOREVER, {"type": "signature"})
    error = await refused(made, release=await release(made))
    assert "2 gates do not pass: fail tests: no evidence" in error.message
    assert "fail freeze: frozen from" in error.message
    assert "signature" not in error.message
    assert "tests: role qa or pipeline uploads it" in error.hint
    assert "freeze: wait until" in error.hint
    assert await made.store.read(lambda v: v.operations(running=True)) == []
    assert made.ship_log.entries[-1].outcome == "refused"


async def test_with_evidence_it_passes_and_the_answers_stay_with_the_operation_and_in_the_log() -> None:
    made = platform({"type": "tests"}, {"type": "signature"})
    digest = await release(made)
    await attest(made, digest)
    ended = await deploy(made, release=digest)
    assert ended.state == OperationState.SUCCEEDED
    assert [line.split(":")[0] for line in ended.gates] == ["pass tests", "pass signature"]
    completed = [e for e in made.ship_log.entries if e.kind is EntryKind.COMPLETED and e.action == "deploy_service"]
    assert completed[-1].body["gates"] == list(ended.gates)


async def test_a_dry_run_shows_every_answer_and_refuses_nothing() -> None:
    made = platform({"type": "tests"}, {"type": "promotion"}, {"type": "error_budget"})
    planned = await deploy(made, release=await release(made), dry_run=True)
    assert planned.state == OperationState.PLANNED
    assert [line.split(":")[0] for line in planned.gates] == [
        "fail tests",
        "fail promotion",
        "not_applicable error_budget",
    ]
    assert planned.next.startswith("it would be refused: tests: ")


async def test_of_a_commit_that_is_not_built_what_needs_no_release_is_asked_at_once() -> None:
    made = platform({"type": "tests"}, FOREVER)
    error = await refused(made, git_ref="v1")
    assert "1 gate does not pass: fail freeze" in error.message
    assert made.artifacts.builds == []
    planned = await deploy(made, git_ref="v1", dry_run=True)
    assert "unknown tests: it is asked once the release is built" in planned.gates


async def test_a_commit_is_held_up_once_it_is_built_and_no_traffic_moves() -> None:
    made = platform({"type": "tests"})
    ended = await deploy(made, git_ref="v1")
    assert ended.state == OperationState.FAILED
    assert "fail tests: no evidence" in ended.reason
    assert "What to do: tests: role qa or pipeline uploads it" in ended.reason
    assert not any(route.weights for route in made.traffic.history)


async def test_a_commit_whose_release_has_its_evidence_passes() -> None:
    made = platform({"type": "tests"})
    await attest(made, await release(made, "v1"))
    assert (await deploy(made, git_ref="v1")).state == OperationState.SUCCEEDED


async def test_evidence_of_another_release_does_not_count() -> None:
    made = platform({"type": "tests"})
    await attest(made, await release(made, "v1"))
    assert "no evidence" in (await refused(made, release=await release(made, "v2"))).message


async def test_evidence_that_was_changed_or_whose_attester_may_not_does_not_count() -> None:
    made = platform({"type": "tests"})
    digest = await release(made)
    await attest(made, digest)
    ((key, content),) = made.evidence.files.items()
    made.evidence.files[key] = content + b" "
    assert "was changed since it was attested" in (await refused(made, release=digest)).message
    made.evidence.files[key] = content
    assert (await asked(made)).passes
    (row,) = await made.store.read(lambda v: v.attestations(digest))
    forged = row.model_copy(update={"id": "ev-forged", "principal": ANN})
    await made.store.write(lambda tx: tx.add_attestation(forged))
    assert "role developer may not attest" in (await refused(made, release=digest)).message


async def test_a_newer_file_takes_the_older_ones_place() -> None:
    made = platform({"type": "tests"})
    digest = await release(made)
    await attest(made, digest)
    await attest(made, digest, failures=1)
    assert not (await asked(made)).passes
    listed = (await list_evidence(made.ports, ANN, digest)).evidence
    assert [(one.summary.split(",")[1], one.counts) for one in listed] == [
        (" 1 failures", True),
        (" 0 failures", False),
    ]


@pytest.mark.parametrize("role", [role for role in Role if role not in (Role.QA, Role.PIPELINE)])
async def test_no_other_role_may_attest_and_the_attempt_is_logged(role: Role) -> None:
    made = platform()
    digest = await release(made)
    with pytest.raises(PlatformError) as raised:
        await attest(made, digest, by=Principal(name="eve", role=role))
    assert raised.value.code is ErrorCode.PERMISSION_DENIED
    assert made.ship_log.entries[-1].outcome == "denied"
    assert await made.store.read(lambda v: v.attestations(digest)) == []


async def test_what_is_no_evidence_is_refused_and_nothing_is_kept() -> None:
    made = platform()
    digest = await release(made)
    with pytest.raises(PlatformError) as raised:
        await add_evidence(made.ports, CI, EvidenceRequest(release=digest), b"words")
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT
    assert made.evidence.files == {}
    with pytest.raises(PlatformError) as raised:
        await add_evidence(made.ports, CI, EvidenceRequest(release="sha256:" + "0" * 64), file())
    assert raised.value.code is ErrorCode.NOT_FOUND


async def test_a_rollback_never_waits_for_a_gate() -> None:
    made = platform()
    await deploy(made, git_ref="v1")
    await deploy(made, git_ref="v2")
    ask(made, {"type": "tests"}, FOREVER, {"type": "webhook", "url": "http://deaf/"})
    command = OperationCommand(action="rollback", service="web", environment="production")
    back = (await manage_operation(made.ports, ANN, command)).operations[0]
    await settle(made)
    status = OperationCommand(action="status", operation=back.id)
    assert (await manage_operation(made.ports, ANN, status)).operations[0].state == OperationState.SUCCEEDED
    assert made.webhook.asked == []


async def test_a_release_that_was_live_and_held_is_on_a_fast_track_and_one_that_was_taken_back_is_not() -> None:
    made = platform()
    for ref in ("v1", "v2", "v3"):
        await deploy(made, git_ref=ref)
    ask(made, FOREVER, {"type": "webhook", "url": "http://deaf/"})
    back = await deploy(made, release=await release(made, "v1"))
    assert back.state == OperationState.SUCCEEDED
    assert [line.split(":")[0] for line in back.gates] == ["pass fast_track"]
    assert made.webhook.asked == []
    ask(made)
    await deploy(made, git_ref="v4")
    await manage_operation(
        made.ports, ANN, OperationCommand(action="rollback", service="web", environment="production")
    )
    await settle(made)
    ask(made, FOREVER)
    await refused(made, release=await release(made, "v4"))


async def test_promotion_asks_how_long_the_digest_was_live_before() -> None:
    made = platform({"type": "promotion", "minutes": 10})
    digest = await release(made)
    assert "never live in staging" in (await refused(made, release=digest)).message
    await deploy(made, environment="staging", release=digest)
    assert "it was live in staging for" in (await refused(made, release=digest)).message
    made.clock.advance(600)
    assert (await deploy(made, from_environment="staging")).state == OperationState.SUCCEEDED


async def test_promotion_of_a_service_with_an_slo_waits_for_its_data() -> None:
    made = platform({"type": "promotion", "minutes": 0})
    digest = await release(made)
    await deploy(made, environment="staging", release=digest)
    made.error_budget.all["web", "staging"] = PlatformError(ErrorCode.UNSUPPORTED, "its budget is not kept")
    assert "unknown promotion: it was live in staging" in (await refused(made, release=digest)).message
    made.error_budget.all["web", "staging"] = Budget(met=True)
    assert (await deploy(made, release=digest)).state == OperationState.SUCCEEDED


async def test_the_fix_of_an_incident_passes_a_spent_budget_and_everybody_hears_of_it() -> None:
    made = platform({"type": "error_budget"}, {"type": "incident"})
    await deploy(made, git_ref="v1")
    made.error_budget.all["web", "production"] = Budget(remaining_ratio=-0.2)
    made.incidents.all = [Incident(id="in-7", title="500s", page=True, opened_at=datetime(2026, 1, 1))]
    await happened(made)
    digest = await release(made, "v2")
    assert "2 gates do not pass" in (await refused(made, release=digest)).message
    planned = await deploy(made, release=digest, fixes="in-7", dry_run=True)
    ended = await deploy(made, release=digest, fixes="in-7")
    assert ended.state == OperationState.SUCCEEDED
    for line in (*planned.gates, *ended.gates):
        assert "[EXCEPTION: the fix of incident in-7]" in line
    noted = [e for e in made.ship_log.entries if e.kind is EntryKind.NOTED and e.action == "gate.exception"]
    assert [entry.body["gate"] for entry in noted] == ["error_budget", "incident"]
    assert noted[0].principal == "ann"


@pytest.mark.parametrize(
    ("what", "fields"),
    [
        ("of another service", {"service": "api", "affected": ("api",)}),
        ("of an environment before", {"environment": "staging"}),
        ("long over", {"state": "resolved", "resolved_at": datetime(2025, 1, 1, tzinfo=UTC)}),
    ],
)
async def test_what_is_no_incident_of_the_service_there_opens_no_gate_and_the_open_ones_are_named(
    what: str, fields: dict[str, Any]
) -> None:
    made = platform({"type": "error_budget"})
    digest = await release(made)
    await happened(made, "in-1", **fields)
    await happened(made, "in-2")
    for named in ("in-1", "TICKET-4711"):
        error = await refused(made, ErrorCode.NOT_FOUND, release=digest, fixes=named)
        assert "open: in-2;" in error.hint
        with pytest.raises(PlatformError, match=f"no incident {named}"):
            await asked(made, fixes=named)


async def test_a_fix_of_production_goes_through_staging_first() -> None:
    made = platform()
    await happened(made, affected=("web", "api"))
    assert (await deploy(made, environment="staging", git_ref="v2", fixes="in-7")).state == OperationState.SUCCEEDED


async def test_a_webhook_is_asked_with_what_is_to_be_deployed_and_silence_does_not_pass() -> None:
    made = platform({"type": "webhook", "url": "http://hook/"})
    digest = await release(made)
    assert "unknown webhook: http://hook/ did not answer" in (await refused(made, release=digest)).message
    made.webhook.replies["http://hook/"] = Reply(passed=True)
    await deploy(made, release=digest)
    body = made.webhook.asked[-1]
    assert (body["service"], body["environment"], body["release"]) == ("web", "production", digest)


async def test_an_approval_that_nobody_gave_is_waited_for() -> None:
    made = platform({"type": "approval", "role": "pm"})
    asked = DeployRequest(service="web", environment="production", release=await release(made))
    held = await deploy_service(made.ports, ANN, asked)
    assert (held.state, held.reason) == ("awaiting", "waits for approval by role pm (gate approval)")
    assert any("unknown approval: it waits for approval by role pm" in gate for gate in held.gates)


async def test_a_held_rollout_is_not_promoted_into_a_freeze() -> None:
    made = platform()
    held = await deploy_service(
        made.ports, ANN, DeployRequest(service="web", environment="production", git_ref="v1", hold=True)
    )
    loop = RolloutReconciler(made.ports)
    for _ in range(20):
        await loop.pass_over_all()
        await made.clock.sleep(0.2)
    ask(made, FOREVER, {"type": "tests"})
    promote = OperationCommand(action="promote", operation=held.id)
    with pytest.raises(PlatformError, match="1 gate does not pass: fail freeze"):
        await manage_operation(made.ports, ANN, promote)
    ask(made)
    await manage_operation(made.ports, ANN, promote)
    await settle(made)
    status = OperationCommand(action="status", operation=held.id)
    assert (await manage_operation(made.ports, ANN, status)).operations[0].state == OperationState.SUCCEEDED


async def test_gates_are_read_of_the_newest_release_or_of_one_by_its_beginning() -> None:
    made = platform({"type": "tests"})
    with pytest.raises(PlatformError, match="web has no release yet"):
        await asked(made)
    digest = await release(made)
    await attest(made, digest)
    found = await asked(made, release=digest.removeprefix("sha256:")[:12])
    assert (found.release, found.passes) == (digest, True)
    with pytest.raises(PlatformError, match="web has no release sha256:0000"):
        await asked(made, release="sha256:000000000000")
    with pytest.raises(PlatformError, match="there is no environment moon"):
        await read_gates(made.ports, ANN, GatesQuery(service="web", environment="moon"))


async def test_evidence_of_a_release_goes_with_it() -> None:
    made = platform()
    made.workspace.current = Settings(releases=ReleaseRetention(keep=1, keep_days=0))
    old, new = await release(made, "v1"), await release(made, "v2")
    kept = max(old, new)  # built at the same moment: the digest decides
    for digest in (old, new):
        await attest(made, digest)
    made.clock.advance(1)
    await prune_releases(made.ports)
    assert {release for release, _ in made.evidence.files} == {kept}


async def test_a_fix_from_a_commit_passes_once_it_is_built_and_is_noted_once() -> None:
    made = platform({"type": "error_budget"})
    await deploy(made, git_ref="v1")
    made.error_budget.all["web", "production"] = Budget(remaining_ratio=-0.2)
    await happened(made)
    ended = await deploy(made, git_ref="v2", fixes="in-7")
    assert ended.state == OperationState.SUCCEEDED
    assert "[EXCEPTION: the fix of incident in-7]" in ended.gates[0]
    assert [e.action for e in made.ship_log.entries].count("gate.exception") == 1
