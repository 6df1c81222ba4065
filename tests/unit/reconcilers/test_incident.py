"""Incidents from the first alert to the post-mortem, over the platform in memory."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import pytest

from santiago_platform.adapters.advisors.builtin import BuiltinPlanner
from santiago_platform.adapters.fake.advisors import FakeAdvisor
from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.adapters.stores.incidents import StoredIncidents
from santiago_platform.domain.alert_notification import notification
from santiago_platform.domain.budget import Price
from santiago_platform.domain.counters import Samples
from santiago_platform.domain.delivery import DeliveryState, Receiver
from santiago_platform.domain.environment import Environment, Settings
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.gate import Outcome
from santiago_platform.domain.gates.incident import IncidentGate
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.incident import Evidence, Incident, IncidentState, Recovery
from santiago_platform.domain.incident_policy import IncidentPolicy
from santiago_platform.domain.mailbox import Severity as Loudness
from santiago_platform.domain.operation import Operation, OperationState
from santiago_platform.domain.policy import Verdict
from santiago_platform.domain.proposal import Completion
from santiago_platform.operations.change import close_interrupted
from santiago_platform.operations.check_gates import GatesQuery, read_gates
from santiago_platform.operations.configure_flag import FlagChange, configure_flag
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.incidents import IncidentCommand, manage_incident, receive_alerts
from santiago_platform.operations.messages import MailboxQuery, MailFields, acknowledge_mail, read_mailbox, send_mail
from santiago_platform.operations.read_incidents import IncidentsQuery, list_incidents, show_incident
from santiago_platform.ports import Ports
from santiago_platform.ports.compute import InstanceState
from santiago_platform.reconcilers.flag import FlagReconciler
from santiago_platform.reconcilers.incident import IncidentReconciler
from santiago_platform.reconcilers.postmortem import PostmortemReconciler
from santiago_platform.reconcilers.rollout import RolloutReconciler
from santiago_platform.testing.alerts import alert, webhook
from santiago_platform.testing.crashing import Killed, Reaper

ANN = Principal(name="ann", role=Role.DEVELOPER)
PETE = Principal(name="pete", role=Role.PLATFORM)
PAM = Principal(name="pam", role=Role.PM)
OBI = Principal(name="obi", role=Role.OBSERVER)
WHERE: dict[str, Any] = {"service": "web", "environment": "production"}


class World:
    def __init__(self, gates: tuple[Any, ...] = (), **policy: Any) -> None:
        policy.setdefault("quiet_seconds", 0)
        self.environment = Environment(incidents=IncidentPolicy(**policy), gates=gates)
        settings = Settings(environments={"production": self.environment})
        self.platform = FakePlatform(workspace=FakeWorkspace(settings=settings))
        self.ports = self.platform.ports
        self.restart()

    def restart(self, ports: Ports | None = None) -> None:
        """The loops of a daemon that has just been started."""
        ports = ports or self.ports
        self.loops = [RolloutReconciler(ports), FlagReconciler(ports), IncidentReconciler(ports)]
        self.postmortems = PostmortemReconciler(ports)

    @property
    def now(self) -> datetime:
        return self.platform.clock.now()

    async def passes(self, times: int = 30, seconds: float = 0.5) -> None:
        rollouts, flags, incidents = self.loops
        for _ in range(times):
            await rollouts.pass_over_all()  # type: ignore[union-attr]
            with suppress(PlatformError):
                await flags.pass_over()  # type: ignore[union-attr]
            await incidents.pass_over()  # type: ignore[union-attr]
            await self.postmortems.pass_over()
            self.platform.clock.advance(seconds)
            await self.platform.clock.sleep(0)

    async def deploy(self, ref: str) -> Operation:
        started = await deploy_service(self.ports, ANN, DeployRequest(**WHERE, git_ref=ref))
        await self.passes()
        found = await self.platform.store.read(lambda v: v.operation(started.id))
        assert found is not None
        assert found.state is OperationState.SUCCEEDED, found.reason
        return found

    async def live(self) -> str:
        found = await self.platform.store.read(lambda v: v.deployment("web", "production"))
        assert found is not None
        assert found.live is not None
        return found.live.name

    async def fire(self, **labels: str) -> Incident:
        self.began = self.now
        await self.hear(alert(self.now, **labels))
        return await self.incident()

    async def end(self, **labels: str) -> None:
        await self.hear(alert(self.began, ended_at=self.now, **labels))

    async def hear(self, *alerts: dict[str, Any], **said: Any) -> tuple[str, ...]:
        return (await receive_alerts(self.ports, notification(webhook(*alerts, **said)))).incidents

    async def incident(self) -> Incident:
        """The newest one."""
        return (await self.platform.store.read(lambda v: v.incidents(limit=1)))[0]

    async def mails(self, who: Principal) -> list[tuple[str, str]]:
        """(severity, text) of those about incidents, oldest first."""
        found = await read_mailbox(self.ports, who, MailboxQuery(limit=50))
        return [(m.severity, m.text) for m in reversed(found.mails) if m.incident]

    async def changed(self, principal: str = "platform") -> list[tuple[str, str]]:
        """(kind, state) of what was done in a name, oldest first."""
        found = await self.platform.store.read(lambda v: v.operations(limit=50))
        return [(o.kind, o.state) for o in reversed(found) if o.principal.name == principal]


async def bad_release(world: World) -> tuple[str, Operation]:
    """v1, and v2 over it that an alert is about. Returns v1's version, and v2's operation."""
    await world.deploy("v1")
    good = await world.live()
    deployed = await world.deploy("v2")
    return good, deployed


async def test_a_page_is_told_acknowledged_recovered_from_resolved_and_written_up() -> None:
    world = World()
    good, deployed = await bad_release(world)
    bad = await world.live()
    fired = await world.fire(version=bad)
    assert (fired.state, fired.severity, fired.affected) == (IncidentState.OPEN, "page", ("web",))
    await world.passes(2)
    assert [severity for severity, _ in await world.mails(PETE)] == ["warning", "critical"]
    assert "incident " in (await world.mails(PAM))[0][1], "a page of production is told to everybody"
    await manage_incident(world.ports, ANN, IncidentCommand(incident=fired.id, action="acknowledge", text="looking"))
    await world.passes(40)
    assert await world.live() == good
    assert await world.changed() == [("rollback_service", "succeeded")]
    during = await world.incident()
    assert during.state is IncidentState.ACKNOWLEDGED
    assert during.suspect is not None
    assert (during.suspect.operation, during.suspect.evidence) == (deployed.id, Evidence.VERSION)
    assert [(a.recovery, a.outcome) for a in during.attempts] == [(Recovery.ROLLBACK, "done: succeeded")]
    await world.end(version=bad)
    await world.passes(3)
    after = await world.incident()
    assert after.state is IncidentState.RESOLVED
    assert not after.unfinished
    text = world.platform.postmortems.files[after.postmortem]
    for said in ("## Impact", "## Timeline", "## Causes", "## What went well", "## Actions", "acknowledged by ann"):
        assert said in text
    assert deployed.id in text
    view = await show_incident(world.ports, ANN, after.id)
    texts = [event.text for event in view.timeline]
    order = ["TooManyErrors fires", "opened as page", "acknowledged by ann", "TooManyErrors has ended", "resolved"]
    places = [next(n for n, text in enumerate(texts) if text.startswith(said)) for said in order]
    assert places == sorted(places)
    assert any("deploy_service was asked for" in text for text in texts)
    (report,) = (await list_incidents(world.ports, ANN, IncidentsQuery())).times
    assert (report.incidents, report.acknowledged, report.resolved) == (1, 1, 1)
    assert report.mtta_seconds == 1.0
    assert report.mttr_seconds == (world.now - world.began).total_seconds() - 1.5


async def test_the_ships_log_has_every_event_of_the_timeline_once() -> None:
    world = World()
    await bad_release(world)
    await world.fire(version=await world.live())
    await world.passes(40)
    await world.end(version="x")
    await world.passes(3)
    incident = await world.incident()
    entries = [e for e in world.platform.ship_log.entries if e.action == "incident.timeline"]
    assert len([line for e in entries for line in e.body["events"]]) == len(incident.events)
    assert [e.body["first"] for e in entries] == sorted({e.body["first"] for e in entries})
    actions = {e.action for e in world.platform.ship_log.entries if e.action.startswith("incident.")}
    assert actions == {"incident.timeline", "incident.rollback"}


async def test_nobody_answers_and_one_role_after_the_other_is_told_until_somebody_does() -> None:
    world = World(escalate=(Role.PLATFORM, Role.PM), escalate_after_seconds=60)
    await world.fire()
    await world.passes(2)
    assert len(await world.mails(PAM)) == 1, "that there is an incident; it is not the role's turn"
    world.platform.clock.advance(61)
    await world.passes(2)
    told = await world.mails(PAM)
    assert [severity for severity, _ in told] == ["warning", "critical"]
    assert "nobody has acknowledged it yet" in told[-1][1]
    world.platform.clock.advance(600)
    await world.passes(2)
    assert len(await world.mails(PETE)) == 2, "each role is told once"


async def test_an_alert_that_goes_to_a_role_tells_that_first_and_then_the_others_until_one_has_it() -> None:
    world = World(escalate=(Role.PLATFORM, Role.QA), escalate_after_seconds=10)
    await world.fire(route="qa")
    told = []
    for _ in range(3):
        await world.passes(1)
        told.append([e.text for e in (await world.incident()).events if e.kind == "notice"])
        world.platform.clock.advance(11)
    assert told == [["qa is told"], ["qa is told", "platform is told"], ["qa is told", "platform is told"]]


async def test_an_alert_that_goes_to_a_receiver_is_delivered_there_whatever_that_listens_to_else() -> None:
    world = World()
    quiet = Receiver(url_variable="CHAT", roles=(Role.PM,), severity=Loudness.CRITICAL)
    settings = world.platform.workspace.current
    world.platform.workspace.current = settings.model_copy(
        update={"notify": {"chat": quiet, "elsewhere": quiet, "foreign": quiet.model_copy(update={"tenant": "bank"})}}
    )
    await world.fire(route="chat", severity="ticket")
    await world.passes(1)
    deliveries = await world.platform.store.read(lambda view: view.deliveries(state=DeliveryState.PENDING))
    assert {delivery.receiver for delivery in deliveries} == {"chat"}


async def test_who_acknowledges_the_mail_that_its_role_was_told_by_has_the_incident() -> None:
    world = World(escalate=(Role.PLATFORM, Role.PM), escalate_after_seconds=60)
    await world.fire()
    await world.passes(2)
    news = [m for m in (await read_mailbox(world.ports, PAM, MailboxQuery())).mails if m.incident]
    await acknowledge_mail(world.ports, PAM, tuple(m.id for m in news))
    assert (await world.incident()).state is IncidentState.OPEN, "what everybody hears is no request to anybody"
    told = [m for m in (await read_mailbox(world.ports, PETE, MailboxQuery())).mails if m.severity == "critical"]
    await acknowledge_mail(world.ports, PETE, tuple(m.id for m in told))
    incident = await world.incident()
    assert (incident.state, incident.acknowledged_by) == (IncidentState.ACKNOWLEDGED, "pete")
    world.platform.clock.advance(600)
    await world.passes(2)
    assert [severity for severity, _ in await world.mails(PAM)] == ["warning"], "nobody else is told"


async def test_a_mail_that_names_an_incident_is_in_its_timeline() -> None:
    world = World()
    incident = await world.fire()
    await send_mail(world.ports, ANN, MailFields(text="the cache is cold", incident=incident.id), Role.PLATFORM)
    view = await show_incident(world.ports, ANN, incident.id)
    assert [e.text for e in view.timeline if e.kind == "message"] == ["to platform: the cache is cold"]


async def test_the_same_message_twice_is_once_and_a_storm_is_one_incident_with_few_writes() -> None:
    world = World()
    begun = world.now
    storm = [alert(begun, instance=f"web-{n}") for n in range(1000)]
    writes = 0
    write = world.platform.store.write

    async def counted(unit: Any) -> Any:
        nonlocal writes
        writes += 1
        return await write(unit)

    world.platform.store.write = counted  # type: ignore[method-assign]
    for n in (*range(1, 40), 100, 300, 600, 1000, 1000):
        await world.hear(*storm[:n])
    assert len(await world.platform.store.read(lambda v: v.incidents())) == 1
    incident = await world.incident()
    assert 500 <= incident.alerts <= 1000
    assert writes <= 11, "as often as the number doubles"
    assert len(incident.stored()) < 5_000
    for n in range(1000):  # each in a group of its own, as another Alertmanager may send them
        await world.hear(storm[n], group=f"g{n}")
    assert len(await world.platform.store.read(lambda v: v.incidents())) == 1
    assert writes <= 11 + 100, "as many groups as are followed"
    await world.passes(3)
    assert len((await world.incident()).events) < 10


async def test_two_causes_are_two_incidents_and_alerts_of_one_objective_are_one() -> None:
    world = World()
    await world.fire(alertname="BurnFast", slo="availability")
    await world.fire(alertname="BurnSlow", slo="availability", severity="ticket")
    await world.fire(alertname="DiskFull", service="")
    causes = [(i.cause, i.service) for i in await world.platform.store.read(lambda v: v.incidents())]
    assert causes == [("DiskFull", ""), ("slo availability", "web")]


async def test_a_ticket_that_becomes_a_page_is_told_as_one() -> None:
    world = World()
    await world.fire(severity="ticket")
    await world.passes(2)
    assert [severity for severity, _ in await world.mails(PETE)] == ["warning"]
    await world.fire(severity="page")
    await world.passes(2)
    assert (await world.incident()).page
    assert [severity for severity, _ in await world.mails(PETE)] == ["warning", "warning", "critical"]


async def test_a_cause_that_comes_back_soon_opens_its_incident_again_and_later_a_new_one() -> None:
    world = World(reopen_seconds=600)
    first = await world.fire()
    await world.passes(2)
    await world.end()
    await world.passes(3)
    draft = (await world.incident()).postmortem
    await world.fire()
    again = await world.incident()
    assert (again.id, again.state, again.reopened) == (first.id, IncidentState.OPEN, 1)
    await world.passes(2)
    assert [severity for severity, _ in await world.mails(PETE)].count("critical") == 2, "it is told again"
    await world.end()
    await world.passes(3)
    assert (await world.incident()).postmortem == draft, "nobody had changed the draft"
    assert "opened again" in world.platform.postmortems.files[draft]
    world.platform.clock.advance(601)
    assert (await world.fire()).id != first.id


async def test_what_was_rolled_back_to_is_not_rolled_back_for_another_cause() -> None:
    """Two causes, each of a version of its own, would go to and fro for ever."""
    world = World()
    good, _ = await bad_release(world)
    await world.fire(version=await world.live(), alertname="TooManyErrors")
    await world.passes(40)
    assert await world.live() == good
    await world.fire(version=good, alertname="TooSlow")
    await world.passes(40)
    slow = await world.incident()
    assert (slow.cause, slow.suspect and slow.suspect.kind) == ("TooSlow", "rollback_service")
    assert slow.attempts == ()
    assert await world.live() == good


async def test_a_deploy_that_is_under_way_over_the_suspect_is_left_alone() -> None:
    world = World()
    await bad_release(world)
    fix = await deploy_service(world.ports, ANN, DeployRequest(**WHERE, git_ref="v3"))
    await world.passes(1)
    await world.fire(version=await world.live())
    await world.passes(40)
    found = await world.platform.store.read(lambda v: v.operation(fix.id))
    assert found is not None
    assert found.state is OperationState.SUCCEEDED
    assert (await world.incident()).attempts == ()


async def test_nothing_is_tried_for_a_page_that_is_over_while_its_ticket_goes_on() -> None:
    world = World(recover=(Recovery.SCALE_OUT,), scale_out_to=2)
    await world.deploy("v1")
    world.platform.clock.advance(4000)
    begun, burns = world.now, {"alertname": "ErrorBudgetBurn", "slo": "availability"}
    await world.hear(alert(begun, **burns))
    ticket = alert(begun, **{**burns, "severity": "ticket"})
    await world.hear(alert(begun, ended_at=world.now, **burns), ticket)
    await world.passes(5)
    incident = await world.incident()
    assert (incident.page, len(incident.firing), incident.attempts) == (True, 1, ())
    await world.hear(alert(begun, **burns), ticket)
    await world.passes(5)
    assert len((await world.incident()).attempts) == 1


@pytest.mark.parametrize("began", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
async def test_an_alert_of_an_absurd_time_is_told_and_ends_like_any_other(began: str) -> None:
    world = World()
    await world.deploy("v1")
    absurd = {**alert(world.now), "startsAt": began}
    await world.hear(absurd)
    await world.passes(3)
    assert len(await world.mails(PETE)) == 2
    await world.hear({**absurd, "status": "resolved", "endsAt": began})
    await world.passes(3)
    incident = await world.incident()
    assert incident.state is IncidentState.RESOLVED
    assert incident.postmortem


async def test_a_post_mortem_that_cannot_be_written_holds_up_no_other_and_is_not_paid_for_each_second() -> None:
    world = World()
    request = {"paragraphs": [{"text": "It began with an alert.", "facts": ["e1"]}]}
    says = Completion(text=json.dumps({"request": request, "rationale": "r"}), model="m")
    one = FakeAdvisor("one", says, models=("m", "m"), price=Price(input_usd=Decimal(1), output_usd=Decimal(1)))
    world.platform.advisors.all = [one, BuiltinPlanner()]
    write, refused = world.platform.postmortems.write, ""

    async def full(name: str, text: str, *, replaces: str = "") -> str:
        if refused in name:
            raise PlatformError(ErrorCode.FAILED_PRECONDITION, "the disk is full")
        return await write(name, text, replaces=replaces)

    world.platform.postmortems.write = full  # type: ignore[method-assign]
    world.platform.clock.advance(1)
    first, began = await world.fire(alertname="A"), world.now
    second = await world.fire(alertname="B")
    refused = second.id
    await world.hear(alert(began, ended_at=world.now, alertname="A"))
    await world.end(alertname="B")
    await world.passes(20)
    assert [first.id in path for path in world.platform.postmortems.files] == [True]
    assert len(one.asked) == 2
    refused = "nothing"
    world.platform.clock.advance(300)
    await world.passes(2)
    assert len(world.platform.postmortems.files) == 2


async def test_without_evidence_of_the_version_nothing_is_rolled_back() -> None:
    world = World()
    _, deployed = await bad_release(world)
    await world.fire()
    await world.passes(20)
    incident = await world.incident()
    assert incident.suspect is not None
    assert (incident.suspect.operation, incident.suspect.evidence) == (deployed.id, Evidence.TIME)
    assert incident.attempts == ()


async def test_a_version_that_fails_more_than_the_one_before_is_rolled_back_without_a_label() -> None:
    world = World()
    good, _ = await bad_release(world)
    bad = await world.live()
    for version, errors in ((good, 0), (bad, 40)):
        counted = Samples(instance="i", proxy="p", series="s", requests=(0, 100), errors=(0, errors))
        world.platform.metrics.samples["web", "production", version] = (counted,)
    await world.fire()
    await world.passes(40)
    assert await world.live() == good
    incident = await world.incident()
    assert incident.suspect is not None
    assert any("40 of 100 requests" in reason for reason in incident.suspect.reasons)


async def test_metrics_that_do_not_answer_leave_a_suspect_by_time() -> None:
    world = World()
    await bad_release(world)
    world.platform.metrics.down = True
    await world.fire()
    await world.passes(3)
    suspect = (await world.incident()).suspect
    assert suspect is not None
    assert suspect.evidence is Evidence.TIME


async def test_a_change_long_before_is_no_suspect() -> None:
    world = World(suspect_seconds=60)
    await bad_release(world)
    world.platform.clock.advance(120)
    await world.fire(version=await world.live())
    await world.passes(5)
    assert (await world.incident()).suspect is None


async def test_what_was_tried_once_is_not_tried_again_when_the_incident_opens_again() -> None:
    world = World()
    good, _ = await bad_release(world)
    await world.fire(version=await world.live())
    await world.passes(40)
    await world.end()
    await world.passes(3)
    await world.deploy("v3")
    await world.fire(version=await world.live())
    await world.passes(300)
    assert await world.live() != good
    assert len((await world.incident()).attempts) == 1


async def test_where_no_recovery_is_allowed_none_is_tried() -> None:
    world = World(recover=())
    good, _ = await bad_release(world)
    await world.fire(version=await world.live())
    await world.passes(20)
    assert await world.live() != good
    assert await world.changed() == []


class Forbidding:
    """The default rules, and no way back for the platform itself."""

    def __init__(self, policy: Any) -> None:
        self._policy = policy

    def decide(self, question: Any) -> Any:
        decision = self._policy.decide(question)
        if question.principal.name == "platform" and question.action == "manage_operation.rollback":
            return decision.model_copy(update={"verdict": Verdict.DENY, "rules": ("people-alone",)})
        return decision

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)


async def test_what_the_policy_forbids_is_not_done_and_its_reason_is_kept() -> None:
    world = World()
    world.ports = replace(world.ports, policy=Forbidding(world.platform.policy))
    world.restart()
    good, _ = await bad_release(world)
    await world.fire(version=await world.live())
    await world.passes(20)
    assert await world.live() != good
    (attempt,) = (await world.incident()).attempts
    assert attempt.outcome.startswith("refused: role platform may not manage_operation.rollback")
    assert [e.outcome for e in world.platform.ship_log.entries if e.action == "incident.rollback"] == ["", "denied"]


async def test_a_flag_that_was_turned_on_before_is_turned_off_where_that_is_allowed() -> None:
    world = World(recover=(Recovery.FLAG_OFF,))
    await world.deploy("v1")
    world.platform.clock.advance(4000)
    asked = FlagChange(action="set", flag="new", definition={"defaultVariant": "on"})
    await configure_flag(world.ports, ANN, asked, wait_seconds=0)
    await world.passes(3)
    await world.fire()
    await world.passes(10)
    assert await world.changed() == [("configure_flag", "succeeded")]
    flag = (await world.platform.flags.read()).entry("new").effective("production")
    assert flag is not None
    assert flag.state == "DISABLED"
    assert [a.outcome for a in (await world.incident()).attempts] == ["done: succeeded"]


async def test_an_instance_that_is_not_ready_any_more_is_ended_so_that_it_starts_anew() -> None:
    world = World(recover=(Recovery.RESTART,))
    await world.deploy("v1")
    (status,) = await world.platform.compute.list("web", "production")
    release = status.instance.template.release
    world.platform.compute.broken[release] = (InstanceState.UNREADY, "does not answer")
    await world.fire()
    await world.passes(1)
    assert world.platform.compute.stopped == [status.instance.id]
    world.platform.compute.broken.clear()
    await world.passes(10)
    assert [s.state for s in await world.platform.compute.list("web", "production")] == [InstanceState.READY]
    (attempt,) = (await world.incident()).attempts
    assert attempt.outcome.startswith(f"done: {status.instance.id}")


async def test_replicas_are_added_where_that_is_allowed_and_no_change_is_suspected() -> None:
    world = World(recover=(Recovery.SCALE_OUT,), scale_out_to=2)
    await world.deploy("v1")
    world.platform.clock.advance(4000)
    await world.fire()
    await world.passes(20)
    assert await world.changed() == [("scale_resources", "succeeded")]
    assert len(await world.platform.compute.list("web", "production")) == 2


async def test_an_open_page_holds_a_deployment_up_and_the_fix_of_it_passes() -> None:
    world = World(gates=(IncidentGate(type="incident"),))
    await world.deploy("v1")
    world.ports = replace(world.ports, incidents=StoredIncidents(world.platform.store))
    incident = await world.fire()

    async def outcome(fixes: str = "") -> Outcome:
        asked = GatesQuery(**WHERE, **({"fixes": fixes} if fixes else {}))
        return (await read_gates(world.ports, ANN, asked)).answers[0].outcome

    assert await outcome() is Outcome.FAIL
    assert await outcome(incident.id) is Outcome.PASS
    await manage_incident(world.ports, PETE, IncidentCommand(incident=incident.id, action="resolve"))
    assert await outcome() is Outcome.PASS


async def test_who_may_not_is_refused_and_what_is_over_cannot_be_acknowledged() -> None:
    world = World()
    incident = await world.fire()

    async def code(who: Principal, action: str, text: str = "") -> ErrorCode | None:
        command = IncidentCommand.model_validate({"incident": incident.id, "action": action, "text": text})
        try:
            await manage_incident(world.ports, who, command)
        except PlatformError as exc:
            return exc.code
        return None

    assert await code(OBI, "acknowledge") is ErrorCode.PERMISSION_DENIED
    assert await code(PAM.model_copy(update={"tenant": "else"}), "acknowledge") is ErrorCode.NOT_FOUND
    assert await code(ANN, "note") is ErrorCode.INVALID_ARGUMENT
    assert await code(ANN, "acknowledge") is None
    assert await code(PAM, "acknowledge") is None
    assert (await world.incident()).acknowledged_by == "ann", "who was first stays"
    assert await code(ANN, "resolve", "false alarm") is None
    assert await code(ANN, "resolve") is ErrorCode.FAILED_PRECONDITION
    assert await code(ANN, "note", "the rule was wrong") is None


async def test_an_alert_that_is_not_repeated_for_hours_is_taken_to_have_ended() -> None:
    world = World()
    await world.fire()
    await world.passes(2)
    world.platform.clock.advance(timedelta(hours=2).total_seconds())
    await world.hear(alert(world.began))
    world.platform.clock.advance(timedelta(hours=2).total_seconds())
    await world.passes(2)
    assert (await world.incident()).is_open
    world.platform.clock.advance(timedelta(hours=2).total_seconds())
    await world.passes(2)
    assert not (await world.incident()).is_open


@pytest.mark.parametrize(("text", "told"), [("It began with an alert.", True), ("It cost 4711 orders.", False)])
async def test_an_advisor_tells_the_timeline_of_a_post_mortem_and_makes_nothing_up(text: str, told: bool) -> None:
    world = World()
    request = {"paragraphs": [{"text": text, "facts": ["e1"]}]}
    says = Completion(text=json.dumps({"request": request, "rationale": "r"}), model="m")
    one = FakeAdvisor("one", says, models=("m", "m"), price=Price(input_usd=Decimal(1), output_usd=Decimal(1)))
    world.platform.advisors.all = [one, BuiltinPlanner()]
    await world.fire()
    await world.passes(2)
    await world.end()
    await world.passes(3)
    (draft,) = world.platform.postmortems.files.values()
    assert (text in draft) is told
    assert ("## Summary" in draft) is told
    assert "TooManyErrors fires" in one.asked[0].prompt


async def test_a_crash_at_any_call_rolls_back_once_tells_once_and_loses_nothing() -> None:
    for fatal in count():
        world = World()
        good, _ = await bad_release(world)
        bad = await world.live()
        killed = False
        world.restart(Reaper(fatal).ports(world.ports))
        try:
            await world.fire(version=bad)
            await world.passes(25)
            await world.end(version=bad)
            await world.passes(3)
        except Killed:
            killed = True
        world.restart()
        await close_interrupted(world.ports)
        await world.passes(25)
        await world.hear(alert(world.began, ended_at=world.now, version=bad))
        await world.passes(3)
        incident = await world.incident()
        assert not incident.unfinished
        assert await world.live() == good
        assert await world.changed() == [("rollback_service", "succeeded")]
        assert [severity for severity, _ in await world.mails(PETE)] == ["warning", "critical", "info"]
        assert list(world.platform.postmortems.files) == [incident.postmortem]
        assert await world.platform.ship_log.unfinished() == []
        if not killed:
            assert fatal > 20, "the walk did reach the rollback"
            return
