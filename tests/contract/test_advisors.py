from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from santiago_platform.adapters.advisors.advisors import WorkspaceAdvisors
from santiago_platform.adapters.advisors.builtin import BuiltinPlanner
from santiago_platform.adapters.advisors.external import TYPES, ExternalAdvisor
from santiago_platform.adapters.advisors.keys import Keys
from santiago_platform.adapters.advisors.price_list import list_price
from santiago_platform.adapters.fake.advisors import FakeAdvisor, FakeAdvisors
from santiago_platform.adapters.fake.clock import ManualClock
from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.advisor import Advisors as AdvisorSettings
from santiago_platform.domain.advisor import AdvisorType, Api, Provider
from santiago_platform.domain.budget import Price, Settlement
from santiago_platform.domain.environment import Settings
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.proposal import Completion, Draft, Task, Usage
from santiago_platform.operations.advise import advise
from santiago_platform.operations.plan_checks import DeploymentPlan
from santiago_platform.ports.advisors import Advisor, NotBilledError
from santiago_platform.testing.advisors import (
    DRAFT,
    KEY,
    AdvisorContract,
    AdvisorsContract,
    ProviderContract,
    StreamedProviderContract,
    ask,
)
from santiago_platform.testing.provider import INPUT_TOKENS, OUTPUT_TOKENS, ProviderDouble, Reply, Wire

FAILED = PlatformError(ErrorCode.UNAVAILABLE, "away")


def provider(kind: AdvisorType = AdvisorType.OPENAI_COMPATIBLE, **fields: object) -> Provider:
    known = {"type": kind, "model": "gpt-5.4", "cheap_model": "gpt-5.4-mini", "base_url": "http://127.0.0.1:1/v1"}
    return Provider.model_validate({**known, **fields})


def advisor(one: Provider) -> ExternalAdvisor:
    return ExternalAdvisor("one", AdvisorSettings(providers={"one": one}), {}, lambda _: KEY)


class _Provider(ProviderContract):
    kind: AdvisorType
    api = Api.CHAT

    @pytest.fixture
    def make(self) -> Callable[[str, float], ExternalAdvisor]:
        return lambda url, seconds: advisor(
            provider(self.kind, base_url=url, timeout_seconds=seconds, api=self.api, stream=self.stream)
        )


class TestOpenAiChat(_Provider):
    kind, wire = AdvisorType.OPENAI, Wire.CHAT


class TestOpenAiResponses(_Provider):
    kind, wire, api = AdvisorType.OPENAI, Wire.RESPONSES, Api.RESPONSES


class TestAnthropic(_Provider):
    kind, wire = AdvisorType.ANTHROPIC, Wire.MESSAGES


class TestCopilot(_Provider):
    kind, wire = AdvisorType.COPILOT, Wire.CHAT


class TestOpenAiCompatible(_Provider):
    kind, wire = AdvisorType.OPENAI_COMPATIBLE, Wire.CHAT


class TestOpenAiChatStreamed(_Provider, StreamedProviderContract):
    kind, wire = AdvisorType.OPENAI, Wire.CHAT


class TestOpenAiResponsesStreamed(_Provider, StreamedProviderContract):
    kind, wire, api = AdvisorType.OPENAI, Wire.RESPONSES, Api.RESPONSES


class TestAnthropicStreamed(_Provider, StreamedProviderContract):
    kind, wire = AdvisorType.ANTHROPIC, Wire.MESSAGES


@pytest.mark.parametrize(
    ("kind", "wire", "api"),
    [
        (AdvisorType.ANTHROPIC, Wire.MESSAGES, Api.CHAT),
        (AdvisorType.OPENAI, Wire.CHAT, Api.CHAT),
        (AdvisorType.OPENAI, Wire.RESPONSES, Api.RESPONSES),
    ],
    ids=list(Wire),
)
@pytest.mark.parametrize(
    ("reply", "settlement"),
    [
        (Reply.DRAFT, Settlement.ANSWERED),
        (Reply.CUT_STREAM, Settlement.UNKNOWN),
        (Reply.HALF_STREAM, Settlement.UNKNOWN),
        (Reply.DRIPPING, Settlement.UNKNOWN),
    ],
)
async def test_a_stream_costs_what_it_counted_once_it_has_ended_and_else_all_that_was_reserved(
    kind: AdvisorType, wire: Wire, api: Api, reply: Reply, settlement: Settlement
) -> None:
    platform, price = FakePlatform(), Price(input_usd=1, output_usd=2)
    async with ProviderDouble(wire, reply, draft=DRAFT) as double:
        one = provider(kind, base_url=double.base_url, api=api, stream=True, timeout_seconds=0.5)
        streamed = ExternalAdvisor("one", AdvisorSettings(providers={"one": one}), {"gpt-5.4": price}, lambda _: KEY)
        platform.advisors.all = [streamed, BuiltinPlanner()]
        ann = Principal(name="ann", role=Role.DEVELOPER)
        proposal = await advise(platform.ports, ann, ask(), Draft[DeploymentPlan])
    (charge,) = await platform.store.read(lambda view: view.charges())
    answered = settlement is Settlement.ANSWERED
    cost = price.of(Usage(input_tokens=INPUT_TOKENS, output_tokens=OUTPUT_TOKENS)) if answered else charge.reserved_usd
    assert (charge.settlement, charge.amount_usd, proposal.cost_usd) == (settlement, cost, cost)
    assert proposal.by.advisor == ("one" if answered else "builtin")


def test_every_type_of_advisor_is_run_against_its_wire() -> None:
    assert {cls.kind for cls in _Provider.__subclasses__()} == set(TYPES) == set(AdvisorType)


class TestFakeAdvisor(AdvisorContract):
    @pytest.fixture
    def advisor(self) -> FakeAdvisor:
        return FakeAdvisor("fake", Completion(text=json.dumps(DRAFT), model=""))


class TestBuiltinPlanner(AdvisorContract):
    @pytest.fixture
    def advisor(self) -> BuiltinPlanner:
        return BuiltinPlanner()


class TestFakeAdvisors(AdvisorsContract):
    @pytest.fixture
    def advisors(self) -> FakeAdvisors:
        return FakeAdvisors(FakeAdvisor("fake", Completion(text="{}", model="")))


class TestWorkspaceAdvisors(AdvisorsContract):
    @pytest.fixture
    def settings(self) -> list[Settings]:
        return [Settings(advisors=AdvisorSettings(providers={"a": provider(), "b": provider()}))]

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def advisors(self, settings: list[Settings], clock: ManualClock) -> WorkspaceAdvisors:
        return WorkspaceAdvisors(lambda: settings[-1], lambda _: KEY, clock)

    def test_after_failures_in_a_row_one_is_left_alone_and_then_tried_once(
        self, advisors: WorkspaceAdvisors, clock: ManualClock
    ) -> None:
        first = advisors.order(Task.SUMMARY)[0]
        for failure in (FAILED, FAILED, None, FAILED, FAILED):
            advisors.report(first, failure)
        assert names(advisors) == ["a", "b", "builtin"]
        advisors.report(first, FAILED)
        assert names(advisors) == ["b", "builtin"]
        assert not advisors.begin(first)
        clock.advance(60)
        assert names(advisors) == ["a", "b", "builtin"] == names(advisors), "who is asked for takes nothing"
        assert advisors.begin(first)
        assert names(advisors) == ["b", "builtin"]
        assert not advisors.begin(first), "one call tries it"
        advisors.report(first, FAILED)
        clock.advance(59)
        assert names(advisors) == ["b", "builtin"]
        clock.advance(1)
        assert advisors.begin(first)
        advisors.report(first, None)
        assert names(advisors) == ["a", "b", "builtin"] == names(advisors)

    def test_a_try_whose_end_nobody_reports_makes_room_for_another_one(
        self, advisors: WorkspaceAdvisors, clock: ManualClock
    ) -> None:
        for _ in range(3):
            advisors.report(advisors.order(Task.SUMMARY)[0], FAILED)
        clock.advance(60)
        assert advisors.begin(advisors.order(Task.SUMMARY)[0])
        clock.advance(59)
        assert names(advisors)[0] == "b"
        clock.advance(1)
        assert advisors.begin(advisors.order(Task.SUMMARY)[0])

    async def test_the_one_try_is_left_to_whoever_needs_it_where_an_earlier_advisor_answers(
        self, settings: list[Settings], clock: ManualClock
    ) -> None:
        platform = FakePlatform(clock=clock)
        advisors = WorkspaceAdvisors(lambda: settings[-1], lambda _: KEY, clock)
        second = advisors.order(Task.SUMMARY)[1]
        for _ in range(3):
            advisors.report(second, FAILED)
        clock.advance(60)
        answers = FakeAdvisor("a", Completion(text=json.dumps(DRAFT), model="m"))
        ports = replace(platform.ports, advisors=_Replaced(advisors, answers))
        for _ in range(3):
            proposal = await advise(ports, Principal(name="ann", role=Role.DEVELOPER), ask(), Draft[DeploymentPlan])
            assert proposal.by.advisor == "a"
        assert names(advisors) == ["a", "b", "builtin"]

    def test_changed_settings_count_from_the_next_call_on(
        self, advisors: WorkspaceAdvisors, settings: list[Settings]
    ) -> None:
        by_task = {Task.SUMMARY: {"order": ["b"], "model": {"b": "another"}}}
        given = {"providers": {"a": provider(), "b": provider()}, "order": ["b", "a"], "tasks": by_task}
        settings.append(Settings(advisors=AdvisorSettings.model_validate(given)))
        assert names(advisors, Task.DIAGNOSIS) == ["b", "a", "builtin"]
        assert names(advisors) == ["b", "builtin"]
        chosen = advisors.order(Task.SUMMARY)[0]
        assert chosen.model(Task.SUMMARY, cheap=False) == "another"
        assert chosen.model(Task.DIAGNOSIS, cheap=True) == "gpt-5.4-mini"

    def test_secrets_are_redacted(self, advisors: WorkspaceAdvisors) -> None:
        secret = "ghp_" + "a1B2" * 9
        assert secret not in advisors.redacted(f"clone with {secret} please")


class _Replaced:
    """Those of a workspace, the first of them another."""

    def __init__(self, advisors: WorkspaceAdvisors, first: FakeAdvisor) -> None:
        self._advisors, self._first = advisors, first

    def order(self, task: Task) -> Sequence[Advisor]:
        return (self._first, *self._advisors.order(task)[1:])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._advisors, name)


def names(advisors: WorkspaceAdvisors, task: Task = Task.SUMMARY) -> list[str]:
    return [one.name for one in advisors.order(task)]


def test_prices_are_those_that_ship_at_their_highest_and_unknown_models_have_none() -> None:
    price = list_price(AdvisorType.OPENAI, "gpt-5.4")
    assert price is not None
    assert price.input_usd > 1, "of the tier for long prompts"
    assert list_price(AdvisorType.ANTHROPIC, "claude-sonnet-5") is not None
    assert list_price(AdvisorType.OPENAI, "nobody-knows-me") is None
    assert list_price(AdvisorType.OPENAI_COMPATIBLE, "gpt-5.4") is None


def test_copilot_has_listed_prices_and_what_is_included_in_its_subscription_has_none_until_it_is_said() -> None:
    listed = list_price(AdvisorType.COPILOT, "claude-sonnet-4.6")
    assert listed is not None
    assert 0 < listed.input_usd < listed.output_usd < 100
    assert list_price(AdvisorType.COPILOT, "gpt-4o") is None
    settings = AdvisorSettings(providers={"pilot": provider(AdvisorType.COPILOT)})
    said, other = Price(input_usd=1, output_usd=2), Price(input_usd=3, output_usd=4)
    mine = ExternalAdvisor("pilot", settings, {"pilot/gpt-4o": said, "gpt-4o": other}, lambda _: KEY)
    assert mine.price("gpt-4o") == said, "a model costs elsewhere what it costs there"
    assert mine.price("claude-sonnet-4.6") == listed
    assert ExternalAdvisor("pilot", settings, {"gpt-4o": other}, lambda _: KEY).price("gpt-4o") == other
    assert ExternalAdvisor("pilot", settings, {}, lambda _: KEY).price("gpt-4o") is None


def test_the_platform_starts_without_the_libraries_of_the_providers() -> None:
    words = (
        "import sys, santiago_platform.entrypoints.daemon, santiago_platform.entrypoints.cli; "
        "print([n for n in ('pydantic_ai', 'openai', 'anthropic', 'genai_prices') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class TestKeys:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "key"
        path.write_text(f"{KEY}\n")
        path.chmod(0o600)
        return path

    def keys(self, tmp_path: Path, **variables: str) -> Keys:
        return Keys(tmp_path, tmp_path / "kept", variables)

    def test_a_key_is_in_the_variable_that_is_named_or_usual(self, tmp_path: Path) -> None:
        keys = self.keys(tmp_path, OPENAI_API_KEY="usual", MINE="mine")
        assert keys(provider(AdvisorType.OPENAI)) == "usual"
        assert keys(provider(key_variable="MINE")) == "mine"
        assert keys(provider()) is None

    def test_a_key_file_is_read_anew_each_time(self, tmp_path: Path, file: Path) -> None:
        keys = self.keys(tmp_path)
        assert keys(provider(key_file="key")) == KEY
        file.write_text("another")
        assert keys(provider(key_file=str(file))) == "another"

    def test_a_file_that_others_can_read_is_refused_without_showing_it(self, tmp_path: Path, file: Path) -> None:
        file.chmod(0o640)
        with pytest.raises(PlatformError, match="can be read by others") as caught:
            self.keys(tmp_path)(provider(key_file="key"))
        assert KEY not in str(caught.value)

    @pytest.mark.parametrize("text", ["", "two words", "two\nlines", "k\u00e9y"])
    def test_what_cannot_be_a_header_is_refused_without_showing_it(self, tmp_path: Path, file: Path, text: str) -> None:
        file.write_text(text)
        with pytest.raises(PlatformError) as caught:
            self.keys(tmp_path)(provider(key_file="key"))
        assert caught.value.code is ErrorCode.FAILED_PRECONDITION
        assert not text or text not in str(caught.value)

    def test_what_up_found_in_its_environment_is_kept_for_the_daemon(self, tmp_path: Path) -> None:
        one = provider(AdvisorType.ANTHROPIC)
        assert self.keys(tmp_path, ANTHROPIC_API_KEY=KEY, OTHER="x").keep({"one": one}) == ["ANTHROPIC_API_KEY"]
        kept = tmp_path / "kept" / "ANTHROPIC_API_KEY"
        assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        assert self.keys(tmp_path)(one) == KEY

    async def test_a_missing_key_costs_nothing(self, tmp_path: Path) -> None:
        keys = self.keys(tmp_path)
        one = ExternalAdvisor("one", AdvisorSettings(providers={"one": provider(AdvisorType.OPENAI)}), {}, keys)
        with pytest.raises(NotBilledError, match="OPENAI_API_KEY is not set"):
            await one.propose(ask(), "m")
