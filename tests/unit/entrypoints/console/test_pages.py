"""What the console's pages show, to whom, and what their forms do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.error_budget import BudgetState
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.incident import EventKind, Evidence, Suspect, event
from santiago_platform.domain.mailbox import Severity
from santiago_platform.domain.operation import OperationState
from santiago_platform.domain.phase import Phase
from santiago_platform.domain.signal import Point
from santiago_platform.entrypoints.console.pages import FORMS, PAGES
from santiago_platform.operations.deploy_service import DeployRequest, deploy_service
from santiago_platform.operations.messages import MailFields, send_mail
from santiago_platform.testing.rows import incident

ANN = Principal(name="ann", role=Role.DEVELOPER)
BOB = Principal(name="bob", role=Role.PLATFORM, tenant="bank")
NOW = datetime(2026, 2, 1, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script><img src=x onerror='alert(2)'>\"'&"
SignedIn = Callable[..., Awaitable[Any]]


async def deploys(
    platform: FakePlatform, who: Principal = ANN, service: str = "web", environment: str = "staging"
) -> Any:
    asked = DeployRequest(service=service, environment=environment, git_ref="HEAD")
    return await deploy_service(platform.ports, who, asked)


async def happened(platform: FakePlatform, **fields: Any) -> None:
    made = incident(id="in-1", **fields)
    await platform.store.write(lambda tx: tx.save_incident(made))


async def saved(platform: FakePlatform, id: str, **changes: Any) -> None:
    found = await platform.store.read(lambda v: v.operation(id))
    assert found is not None
    await platform.store.write(lambda tx: tx.save_operation(found.model_copy(update=changes)))


def path_of(page: Any, operation: str) -> str:
    path: str = page.path.format(service="web", environment="staging", operation=operation, seq="1", incident="in-1")
    return path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
async def test_every_page_shows_what_is_there_and_asks_the_policy(
    signed_in: SignedIn, platform: FakePlatform, policy: Any, page: Any
) -> None:
    visitor = await signed_in()
    await happened(platform)
    path = path_of(page, (await deploys(platform)).id)
    shown = await visitor.get(path)
    assert shown.status_code == 200, shown.text
    assert "<h1>" in shown.text
    assert 'lang="en"' in shown.text
    assert '<main id="main"' in shown.text
    before = len(platform.ship_log.entries)
    policy.off = True
    refused = await visitor.get(path)
    assert refused.status_code == 403, refused.text
    assert "harbour-closed" in refused.text, "it says which rule"
    assert len(platform.ship_log.entries) == before


@pytest.mark.parametrize(
    ("form", "fields"),
    [
        (FORMS[0], {"action": "abort"}),
        (FORMS[1], {"word": "approve", "hash": "a" * 64}),
        (FORMS[2], {"mail": "ml-1"}),
        (FORMS[3], {"action": "acknowledge"}),
    ],
    ids=lambda value: getattr(value, "path", ""),
)
async def test_every_form_asks_the_policy_and_leaves_its_entry(
    signed_in: SignedIn, platform: FakePlatform, policy: Any, form: Any, fields: dict[str, str]
) -> None:
    visitor = await signed_in()
    waiting = await deploys(platform, environment="production")
    key = await visitor.key()
    policy.off = True
    refused = await visitor.http.post(path_of(form, waiting.id), data={"key": key, **fields})
    assert refused.status_code == 403
    assert "harbour-closed" in refused.text
    assert platform.ship_log.entries[-1].outcome == "denied"


def test_the_forms_of_the_walk_are_all() -> None:
    assert [form.path for form in FORMS] == [
        "/console/operations/{operation}",
        "/approve/{operation}",
        "/console/messages",
        "/console/incidents/{incident}",
    ]


async def test_no_page_shows_what_is_another_tenants(signed_in: SignedIn, platform: FakePlatform) -> None:
    theirs = await deploys(platform, BOB, "vault")
    await happened(platform, service="vault", tenant="bank")
    await send_mail(platform.ports, BOB, MailFields(text="the vault is open"), None)
    visitor = await signed_in("ann", Role.DEVELOPER)
    for page in PAGES:
        found = page.path.format(service="vault", environment="staging", operation=theirs.id, seq="1", incident="in-1")
        nobodys = page.path.format(
            service="ghost", environment="staging", operation="op-none", seq="999", incident="in-9"
        )
        answer, other = await visitor.get(found), await visitor.get(nobodys)
        said = (
            answer.text.replace("vault", "ghost")
            .replace(theirs.id, "op-none")
            .replace("entry 1 ", "entry 999 ")
            .replace("in-1", "in-9")
        )
        told = other.text
        if page.live and answer.status_code == 200:  # the address of its events
            said, told = (text.partition("data-events")[0] for text in (said, told))
        assert (answer.status_code, said) == (other.status_code, told), page.path
        if "vault" not in found:
            assert "vault" not in answer.text, page.path
        assert "bank" not in answer.text, page.path


async def test_text_of_others_is_text_and_nothing_else(signed_in: SignedIn, platform: FakePlatform) -> None:
    visitor = await signed_in()
    operation = await deploys(platform)
    await saved(platform, operation.id, state=OperationState.FAILED, reason=HOSTILE, detail=(HOSTILE,))
    await send_mail(platform.ports, ANN, MailFields(text=HOSTILE, severity=Severity.CRITICAL), None)
    paths = ["/", "/console/messages", "/console/log", f"/console/operations/{operation.id}"]
    entries = len(platform.ship_log.entries)
    for path in [*paths, *(f"/console/log/{seq}" for seq in range(1, entries + 1))]:
        page = (await visitor.get(path)).text
        assert "<script>alert" not in page, path
        assert "<img src=x" not in page, path
    assert "&lt;script&gt;alert(1)" in (await visitor.get("/console/messages")).text
    assert "&lt;script&gt;alert(1)" in (await visitor.get(f"/console/operations/{operation.id}")).text
    nowhere = await visitor.get(f"/console/operations/{HOSTILE.replace('/', '')}")
    assert "<script>" not in nowhere.text
    assert nowhere.status_code == 404


async def test_a_rollout_is_promoted_and_aborted_by_whoever_has_signed_in(
    signed_in: SignedIn, platform: FakePlatform
) -> None:
    visitor = await signed_in()
    operation = await deploys(platform)
    here = f"/console/operations/{operation.id}"
    page = (await visitor.get(here)).text
    assert "Abort" in page
    assert "Promote" not in page
    rollout = await platform.store.read(lambda v: v.rollout_of(operation.id))
    assert rollout is not None
    held = rollout.model_copy(update={"phase": Phase.HOLDING, "hold": True, "epoch": rollout.epoch + 1})
    await platform.store.write(lambda tx: tx.save_rollout(held))
    await saved(platform, operation.id, phase=Phase.HOLDING)
    assert "Promote" in (await visitor.get(here)).text
    assert (await visitor.send(here, here, action="promote", reason="looks good")).headers["location"] == here
    assert (await visitor.send(here, here, action="abort")).status_code == 303
    [promote, abort] = await platform.store.read(lambda v: v.messages(rollout.id))
    assert (promote.kind, promote.by, promote.reason) == ("promote", "owner", "looks good")
    assert abort.kind == "abort"
    assert (await visitor.send(here, here, action="approve")).status_code == 400, "that page shows no plan"


async def test_who_asked_reads_the_plan_and_another_principal_must_approve(
    signed_in: SignedIn, platform: FakePlatform
) -> None:
    waiting = await deploys(platform, environment="production")
    assert waiting.plan is not None
    here = f"/approve/{waiting.id}?hash={waiting.plan.hash}"
    ann = await signed_in("ann", Role.DEVELOPER)
    page = (await ann.get(here)).text
    assert waiting.plan.hash in page
    assert "Another principal must" in page
    assert 'value="approve"' not in page
    assert 'value="reject"' in page, "one may withdraw one's own"
    word = {"word": "approve", "hash": waiting.plan.hash}
    assert (await ann.send(f"/approve/{waiting.id}", here, **word)).status_code == 403
    assert await platform.store.read(lambda v: v.active_rollouts()) == []


async def test_another_principal_approves_exactly_the_plan_of_its_page(
    signed_in: SignedIn, platform: FakePlatform
) -> None:
    waiting = await deploys(platform, environment="production")
    assert waiting.plan is not None
    here = f"/approve/{waiting.id}?hash={waiting.plan.hash}"
    for role in (Role.OBSERVER, Role.QA):
        other = await signed_in("eve", role)
        assert 'value="approve"' not in (await other.get(here)).text, role
    pat = await signed_in("pat", Role.PLATFORM)
    moved = (await pat.get(f"/approve/{waiting.id}?hash={'0' * 64}")).text
    assert "another plan" in moved
    assert 'value="approve"' not in moved
    assert 'value="approve"' in (await pat.get(here)).text
    for fields in ({}, {"hash": "0" * 64}):
        assert (await pat.send(f"/approve/{waiting.id}", here, word="approve", **fields)).status_code in (400, 409)
    assert await platform.store.read(lambda v: v.active_rollouts()) == []
    done = await pat.send(f"/approve/{waiting.id}", here, word="approve", hash=waiting.plan.hash, reason="read it")
    assert (done.status_code, done.headers["location"]) == (303, f"/console/operations/{waiting.id}")
    [rollout] = await platform.store.read(lambda v: v.active_rollouts())
    assert rollout.operation_id == waiting.id
    assert "waits for nobody any more" in (await pat.get(here)).text


async def test_a_mail_is_acknowledged_on_its_page(signed_in: SignedIn, platform: FakePlatform) -> None:
    sent = await send_mail(platform.ports, ANN, MailFields(text="look"), Role.OWNER)
    visitor = await signed_in()
    page = "/console/messages"
    assert (await visitor.send(page, page, mail=sent.id)).status_code == 303
    assert "0 unread" in (await visitor.get(page)).text


async def test_the_ships_log_is_verified_for_whom_it_is(signed_in: SignedIn, platform: FakePlatform) -> None:
    owner = await signed_in()
    assert "intact" in (await owner.get("/console/log/verification")).text
    platform.ship_log.lines[0] = platform.ship_log.lines[0].replace(b"issue_token", b"issue_tokes")
    assert "broken" in (await owner.get("/console/log/verification")).text
    other = await signed_in("bob", Role.PLATFORM, "bank")
    assert (await other.get("/console/log/verification")).status_code == 403


async def test_an_incident_is_read_acknowledged_noted_and_resolved_on_its_page(
    signed_in: SignedIn, platform: FakePlatform
) -> None:
    blamed = await deploys(platform)
    why = Suspect(operation=blamed.id, kind="deploy_service", evidence=Evidence.VERSION, at=NOW, reasons=(HOSTILE,))
    await happened(platform, title=HOSTILE, suspect=why, events=(event(NOW, EventKind.ALERT, HOSTILE),))
    visitor = await signed_in()
    here = "/console/incidents/in-1"
    listed, page = (await visitor.get("/console/incidents")).text, (await visitor.get(here)).text
    assert f'href="{here}"' in listed
    for shown in (listed, page):
        assert "&lt;script&gt;alert(1)" in shown
        assert "<script>alert" not in shown
        assert f"/console/operations/{blamed.id}" in shown
    assert "by evidence of its own version" in page
    for action, said in (("acknowledge", "acknowledged"), ("note", "cold cache"), ("resolve", "resolved")):
        sent = await visitor.send(here, here, action=action, reason="cold cache")
        assert (sent.status_code, sent.headers["location"]) == (303, here)
        assert said in (await visitor.get(here)).text
    assert 'value="acknowledge"' not in (await visitor.get(here)).text
    assert 'value="resolve"' not in (await visitor.get(here)).text
    assert "None is open" in (await visitor.get("/console/incidents?open=yes")).text
    assert (await visitor.send(here, here, action="delete")).status_code == 400
    assert [e.action for e in platform.ship_log.entries if e.action.startswith("manage_incident.")][::2] == [
        "manage_incident.acknowledge",
        "manage_incident.note",
        "manage_incident.resolve",
    ]


async def test_an_objective_says_in_words_how_it_stands_and_its_history_is_a_chart_with_a_table(
    signed_in: SignedIn, platform: FakePlatform
) -> None:
    good = BudgetState(
        service="web",
        environment="staging",
        slo="availability",
        title=HOSTILE,
        target=0.999,
        period_seconds=28 * 86400,
        sli_ratio=0.9995,
        remaining_ratio=0.5,
        burn_rates={"1h": 3.0, "6h": 2.0, "5m": 0.5},
        met=True,
        exhausted_at=NOW,
        history=(Point(at=1.0, value=0.9), Point(at=2.0, value=0.5)),
    )
    spent = good.model_copy(update={"slo": "speed", "met": False, "remaining_ratio": -0.25, "title": ""})
    promised = spent.model_copy(update={"slo": "contract", "sla": True})
    unknown = BudgetState(service="web", environment="staging", slo="new", target=0.9, period_seconds=86400)
    platform.error_budget.reported["web"] = (good, spent, promised, unknown)
    visitor = await signed_in()
    page = (await visitor.get("/console/slos")).text
    words = (
        "met",
        "not met",
        "breached",
        "no data",
        "50.0%</strong> of the budget is left",
        "overspent</strong> by 25.0%",
    )
    for word in (*words, "spent by", "99.95% of", "6h <strong>2</strong>", 'data-load="/console/figures/slos"'):
        assert word in page, word
    assert page.index("5m <strong>") < page.index("1h <strong>") < page.index("6h <strong>")
    assert "<script>alert" not in page
    figures = (await visitor.get("/console/figures/slos")).text
    assert figures.count("<figure") == 3, "of what has a history"
    assert figures.index("web in staging: speed") < figures.index("&lt;script&gt;"), "the worst first"
    assert 'data-points="[[1.0, 2.0], [0.9, 0.5]]"' in figures
    assert '<td class="number">0.5</td>' in figures


async def test_without_objectives_the_page_says_what_to_do(signed_in: SignedIn) -> None:
    page = (await (await signed_in()).get("/console/slos")).text
    assert "No service has an objective yet" in page
    assert "data-load" not in page
