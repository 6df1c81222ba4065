from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from santiago_platform.adapters.fake.advisors import FakeAdvisor
from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.stores.sqlite import SqliteStore
from santiago_platform.adapters.traces import OpenTelemetryTraces
from santiago_platform.domain.advisor import Advisors as AdvisorSettings
from santiago_platform.domain.budget import MOST_USD, AiBudget, Charge, Price, Settlement
from santiago_platform.domain.environment import Environment, Settings
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.proposal import Ask, Completion, Draft, Proposal, Task, Usage
from santiago_platform.operations.advise import advise
from santiago_platform.operations.ai_budget import reserve, settle_interrupted, worst_case
from santiago_platform.operations.scale_resources import ScaleRequest
from santiago_platform.ports.advisors import AnswerError, NotBilledError
from santiago_platform.testing.otlp_collector import seen

ANN = Principal(name="ann", role=Role.DEVELOPER)
PRICE = Price(input_usd=Decimal(1), output_usd=Decimal(10))
GOOD = json.dumps({"request": {"service": "web", "environment": "staging", "replicas": 2}, "rationale": "as asked"})
BAD = json.dumps({"request": {"service": "web", "environment": "staging", "replicas": 0}, "rationale": "as asked"})
USED = Usage(input_tokens=1000, output_tokens=100)
COST = PRICE.of(USED)
ANSWERED = Completion(text=GOOD, model="m", usage=USED)
BUILTIN = FakeAdvisor("builtin", Completion(text=GOOD, model=""))
CUT = PlatformError(ErrorCode.UNAVAILABLE, "it broke off")


def question(**fields: Any) -> Ask:
    known: dict[str, Any] = {
        "task": Task.SCALING_PLAN,
        "words": "scale web",
        "system": "card",
        "prompt": "scale web",
        "answer": Draft[ScaleRequest].model_json_schema(),
    }
    return Ask(**{**known, **fields})


def external(name: str, *replies: Any, price: Price | None = PRICE) -> FakeAdvisor:
    return FakeAdvisor(name, *replies, models=("strong", "cheap"), price=price)


async def ask(platform: FakePlatform, *advisors: FakeAdvisor, **options: Any) -> Proposal[ScaleRequest]:
    platform.advisors.all = [*advisors, BUILTIN]
    asked = options.pop("ask", None) or question()
    return await advise(platform.ports, ANN, asked, Draft[ScaleRequest], **options)


async def ledger(platform: FakePlatform) -> list[tuple[Settlement, Decimal]]:
    rows = await platform.store.read(lambda view: view.charges(limit=1000))
    return sorted((c.settlement, c.amount_usd) for c in rows)


def budget(platform: FakePlatform, **fields: Any) -> None:
    platform.workspace.current = Settings(
        environments={"production": Environment(), "staging": Environment()}, budget=AiBudget.model_validate(fields)
    )


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform()


async def test_the_first_draft_that_holds_is_taken_and_says_who_made_it_and_what_it_cost(
    platform: FakePlatform,
) -> None:
    proposal = await ask(platform, external("one", ANSWERED))
    assert proposal.draft.request.replicas == 2
    assert (str(proposal.by), proposal.tried, proposal.cost_usd) == ("one (m)", (), COST)
    assert await ledger(platform) == [(Settlement.ANSWERED, COST)]
    assert platform.advisors.reports == [("one", None)]


async def test_an_answer_that_does_not_hold_is_asked_again_with_what_was_wrong(platform: FakePlatform) -> None:
    one = external("one", ANSWERED.model_copy(update={"text": BAD}), ANSWERED)
    proposal = await ask(platform, one)
    assert [asked.correction for asked in one.asked] == ["", one.asked[1].correction]
    assert "request.replicas" in one.asked[1].correction
    assert proposal.cost_usd == 2 * COST
    assert len(await ledger(platform)) == 2
    assert len(proposal.tried) == 1


async def test_after_two_answers_that_do_not_hold_the_next_one_is_asked(platform: FakePlatform) -> None:
    bad = ANSWERED.model_copy(update={"text": "{"})
    one, two = external("one", bad), external("two", ANSWERED)
    proposal = await ask(platform, one, two)
    assert (len(one.asked), proposal.by.advisor, proposal.cost_usd) == (2, "two", 3 * COST)


@pytest.mark.parametrize(
    ("failure", "settlement", "cost"),
    [
        (NotBilledError(ErrorCode.UNAVAILABLE, "429"), Settlement.RELEASED, Decimal(0)),
        (AnswerError("prose", usage=USED), Settlement.ANSWERED, COST),
        (AnswerError("prose"), Settlement.UNKNOWN, None),
        (CUT, Settlement.UNKNOWN, None),
        (PlatformError(ErrorCode.DEADLINE_EXCEEDED, "late"), Settlement.UNKNOWN, None),
    ],
)
async def test_each_failure_is_settled_as_what_it_may_have_cost_and_the_next_one_is_asked(
    platform: FakePlatform, failure: PlatformError, settlement: Settlement, cost: Decimal | None
) -> None:
    proposal = await ask(platform, external("one", failure))
    cost = worst_case(question(), PRICE) if cost is None else cost
    assert await ledger(platform) == [(settlement, cost)]
    assert (proposal.by.advisor, proposal.cost_usd) == ("builtin", cost)
    assert proposal.tried == (f"one (strong): {failure.message}",)


async def test_who_is_left_alone_meanwhile_is_not_asked_and_costs_nothing(platform: FakePlatform) -> None:
    one = external("one", ANSWERED)
    platform.advisors.away.add("one")
    proposal = await ask(platform, one)
    assert (proposal.by.advisor, one.asked, platform.advisors.reports) == ("builtin", [], [])
    assert await ledger(platform) == [(Settlement.RELEASED, Decimal(0))]
    assert proposal.tried == ("one (strong): it is left alone after several failures",)


async def test_a_proposal_costs_no_more_than_its_ceiling_however_many_are_asked(platform: FakePlatform) -> None:
    worst = worst_case(question(), PRICE)
    rails = {"guard_rails": {"cost_usd": str(worst * 2)}}
    platform.workspace.current = Settings(advisors=AdvisorSettings.model_validate(rails))
    one, two, three = (external(name, CUT) for name in ("one", "two", "three"))
    proposal = await ask(platform, one, two, three)
    assert (len(one.asked), len(two.asked), len(three.asked)) == (1, 1, 0)
    assert (proposal.by.advisor, proposal.cost_usd) == ("builtin", worst * 2)
    assert "the guard rail cost_usd refuses" in proposal.tried[2]


async def test_an_answer_without_a_count_is_settled_at_its_worst(platform: FakePlatform) -> None:
    await ask(platform, external("one", Completion(text=GOOD, model="m")))
    assert await ledger(platform) == [(Settlement.UNKNOWN, worst_case(question(), PRICE))]


async def test_an_answer_beyond_its_reservation_counts_in_full_and_is_noted(platform: FakePlatform) -> None:
    more = Usage(input_tokens=4 * 10**7, output_tokens=10**4)
    await ask(platform, external("one", ANSWERED.model_copy(update={"usage": more})))
    assert await ledger(platform) == [(Settlement.ANSWERED, PRICE.of(more))]
    noted = [entry.body for entry in platform.ship_log.entries if entry.action == "budget.exceeded"]
    assert [(body["amount_usd"], body["reserved_usd"]) for body in noted] == [
        (f"{PRICE.of(more):f}", f"{worst_case(question(), PRICE):f}")
    ]
    following = external("two", ANSWERED)
    assert (await ask(platform, following)).by.advisor == "builtin"
    assert following.asked == []


async def test_no_count_of_tokens_is_too_much_for_the_ledger(platform: FakePlatform) -> None:
    absurd = Usage(input_tokens=10**40, output_tokens=10**40)
    await ask(platform, external("one", ANSWERED.model_copy(update={"usage": absurd})))
    assert await ledger(platform) == [(Settlement.ANSWERED, MOST_USD)]


async def test_a_caller_that_goes_away_leaves_its_charge_settled_at_its_worst(platform: FakePlatform) -> None:
    asked = asyncio.Event()

    class Slow(FakeAdvisor):
        async def propose(self, ask: Ask, model: str) -> Completion:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

    task = asyncio.create_task(ask(platform, Slow("one", CUT, models=("s", "c"), price=PRICE)))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await ledger(platform) == [(Settlement.UNKNOWN, worst_case(question(), PRICE))]


async def test_what_a_crash_left_open_counts_at_its_worst_from_the_next_start_on(platform: FakePlatform) -> None:
    await reserve(platform.ports, ANN, question(), advisor="one", model="m", price=PRICE)
    assert await settle_interrupted(platform.ports) == 1
    assert await settle_interrupted(platform.ports) == 0
    assert await ledger(platform) == [(Settlement.UNKNOWN, worst_case(question(), PRICE))]


async def test_a_model_that_nobody_knows_the_price_of_is_not_asked(platform: FakePlatform) -> None:
    one = external("one", ANSWERED, price=None)
    proposal = await ask(platform, one)
    assert (one.asked, proposal.by.advisor) == ([], "builtin")
    assert "nobody knows what strong costs" in proposal.tried[0]


async def test_a_spent_budget_leaves_the_built_in_planner(platform: FakePlatform) -> None:
    budget(platform, daily_usd="0.001")
    one = external("one", ANSWERED)
    proposal = await ask(platform, one)
    assert (one.asked, proposal.by.advisor, await ledger(platform)) == ([], "builtin", [])
    assert "the day's AI budget of $0.001 does not suffice" in proposal.tried[0]


@pytest.mark.parametrize("limit", [{"roles": {"developer": "0.001"}}, {"tasks": {"scaling_plan": "0.001"}}])
async def test_roles_and_tasks_have_limits_of_their_own(platform: FakePlatform, limit: dict[str, Any]) -> None:
    budget(platform, **limit)
    assert (await ask(platform, external("one", ANSWERED))).by.advisor == "builtin"
    other = question(task=Task.DEPLOYMENT_PLAN)
    platform.advisors.all = [external("one", ANSWERED), BUILTIN]
    pm = Principal(name="pam", role=Role.PM)
    assert (await advise(platform.ports, pm, other, Draft[ScaleRequest])).by.advisor == "one"


async def test_a_low_budget_asks_the_cheap_model_and_is_noted_once_a_day(platform: FakePlatform) -> None:
    worst = worst_case(question(), PRICE)
    budget(platform, daily_usd=str(worst * 100), warn_ratio=0.015)

    def noted() -> int:
        return sum(entry.action == "budget.low" for entry in platform.ship_log.entries)

    unknown = Completion(text=GOOD, model="m")
    first = await ask(platform, external("one", unknown))
    assert (first.tried, noted()) == ((), 0)
    second, third = external("one", unknown), external("one", unknown)
    await ask(platform, second)
    assert noted() == 1
    await ask(platform, third)
    assert noted() == 1
    charges = await platform.store.read(lambda view: view.charges())
    assert sorted(c.model for c in charges) == ["cheap", "strong", "strong"]
    platform.clock.advance(timedelta(days=1).total_seconds())
    await ask(platform, external("one", unknown))
    await ask(platform, external("one", unknown))
    assert noted() == 2


async def test_what_only_tells_is_asked_of_the_cheap_model(platform: FakePlatform) -> None:
    await ask(platform, external("one", ANSWERED), ask=question(task=Task.SUMMARY))
    (charge,) = await platform.store.read(lambda view: view.charges())
    assert charge.model == "cheap"


async def test_a_request_for_what_does_not_exist_is_corrected_and_any_other_refusal_ends_it(
    platform: FakePlatform,
) -> None:
    refusals = [PlatformError(ErrorCode.NOT_FOUND, "there is no service web", "there are: api")]

    async def check(request: ScaleRequest) -> None:
        if refusals:
            raise refusals.pop()

    one = external("one", ANSWERED)
    await ask(platform, one, check=check)
    assert one.asked[1].correction == "there is no service web (there are: api)"
    refusals.append(PlatformError(ErrorCode.PERMISSION_DENIED, "not you"))
    with pytest.raises(PlatformError, match="not you"):
        await ask(platform, external("one", ANSWERED), check=check)


async def test_a_thousand_callers_at_the_last_dollar_overspend_by_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "platform.db")
    platform = FakePlatform(store=store)  # type: ignore[arg-type]
    budget(platform, daily_usd="1")
    platform.advisors.all = [external("one", Completion(text=GOOD, model="m")), BUILTIN]
    worst = worst_case(question(), PRICE)
    most_at_once = Decimal(0)

    async def watch() -> None:
        nonlocal most_at_once
        while True:
            spent = await store.read(lambda view: view.spent(platform.clock.now().date()))
            most_at_once = max(most_at_once, spent.total_usd)
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    proposals = await asyncio.gather(
        *(advise(platform.ports, ANN, question(), Draft[ScaleRequest]) for _ in range(1000))
    )
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    charges: list[Charge] = list(await store.read(lambda view: view.charges(limit=10_000)))
    await store.close()
    asked = sum(proposal.by.advisor == "one" for proposal in proposals)
    assert asked == len(charges) == int(1 / worst) > 10
    assert sum(c.amount_usd for c in charges) == asked * worst <= 1
    assert most_at_once <= 1


async def test_a_collector_is_told_model_tokens_and_cost_of_a_call_and_nothing_that_was_said() -> None:
    kept = InMemorySpanExporter()
    platform = FakePlatform(traces=OpenTelemetryTraces(SimpleSpanProcessor(kept)))
    asked = question(words="hunter2", prompt="hunter2")
    await ask(platform, external("one", NotBilledError(ErrorCode.UNAVAILABLE, "hunter2")), ask=asked, operation="op-1")
    await ask(platform, external("two", ANSWERED), ask=asked)
    failed, answered = seen(encode_spans(kept.get_finished_spans()))
    assert (failed.attributes["gen_ai.provider.name"], failed.attributes["error.type"]) == ("one", "unavailable")
    assert failed.attributes["santiago.operation"] == "op-1"
    assert failed.failed
    assert (answered.name, answered.kind) == ("chat strong", "client")
    assert answered.attributes["gen_ai.response.model"] == "m"
    assert answered.attributes["gen_ai.usage.input_tokens"] == USED.input_tokens
    assert answered.attributes["gen_ai.usage.output_tokens"] == USED.output_tokens
    assert answered.attributes["santiago.cost_usd"] == pytest.approx(float(COST))
    assert "hunter2" not in failed.text + answered.text
