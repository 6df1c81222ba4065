"""The contracts of ports.advisors: of a workspace's advisors, of any advisor, and of one that is asked over a wire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ..domain.errors import ErrorCode, PlatformError
from ..domain.proposal import Ask, Draft, Task, Usage
from ..operations.plan_checks import DeploymentPlan
from ..ports.advisors import Advisor, Advisors, AnswerError, NotBilledError
from .provider import INPUT_TOKENS, MODEL, OUTPUT_TOKENS, ProviderDouble, Reply, Wire

DEPLOY = {"service": "web", "environment": "staging", "git_ref": "HEAD"}
DRAFT: dict[str, Any] = {"request": {"deploy": DEPLOY}, "rationale": "as asked"}
KEY = "planted-key-0123456789abcdef"


def ask(**fields: Any) -> Ask:
    known: dict[str, Any] = {
        "task": Task.DEPLOYMENT_PLAN,
        "words": "deploy web HEAD to staging",
        "system": "You propose.",
        "prompt": "deploy web HEAD to staging",
        "answer": Draft[DeploymentPlan].model_json_schema(),
        "known": {"services": ("web",), "environments": ("production", "staging")},
    }
    return Ask(**{**known, **fields})


class AdvisorsContract:
    """A subclass supplies the fixture `advisors`."""

    def test_the_last_one_needs_no_model_and_all_have_names_of_their_own(self, advisors: Advisors) -> None:
        for task in Task:
            order = advisors.order(task)
            assert order[-1].model(task, cheap=False) == order[-1].model(task, cheap=True) == ""
            assert len({advisor.name for advisor in order}) == len(order)

    def test_the_end_of_a_call_can_be_reported_at_any_time(self, advisors: Advisors) -> None:
        for advisor in advisors.order(Task.SUMMARY):
            advisors.report(advisor, PlatformError(ErrorCode.UNAVAILABLE, "away"))
            advisors.report(advisor, None)
            assert advisors.begin(advisor)
            advisors.report(advisor, None)
        assert advisors.order(Task.SUMMARY)

    def test_plain_text_is_left_as_it_is_by_redaction(self, advisors: Advisors) -> None:
        assert advisors.redacted("web is slow since version 2") == "web is slow since version 2"


class AdvisorContract:
    """A subclass supplies the fixture `advisor`, which proposes DRAFT's request when it gets `ask()`."""

    async def test_a_draft_of_the_wanted_schema_comes_back(self, advisor: Advisor) -> None:
        completion = await advisor.propose(ask(), advisor.model(Task.DEPLOYMENT_PLAN, cheap=False))
        draft = Draft[DeploymentPlan].model_validate_json(completion.text)
        assert draft.request.deploy is not None
        assert draft.request.deploy.model_dump(mode="json", exclude_defaults=True) == DEPLOY

    async def test_several_calls_at_once_do_not_disturb_each_other(self, advisor: Advisor) -> None:
        model = advisor.model(Task.DEPLOYMENT_PLAN, cheap=False)
        answers = await asyncio.gather(*(advisor.propose(ask(), model) for _ in range(5)))
        assert len({answer.text for answer in answers}) == 1


NOT_BILLED = (Reply.BAD_REQUEST, Reply.UNAUTHORISED, Reply.TOO_MANY)
COUNTED = (Reply.LYING_DONE, Reply.REFUSAL, Reply.CUT_AT_LIMIT, Reply.OTHER_TOOL)
UNKNOWN = (
    Reply.REQUEST_TIMEOUT,
    Reply.SERVER_ERROR,
    Reply.OVERLOADED,
    Reply.REDIRECT,
    Reply.CUT_STREAM,
    Reply.NOT_JSON,
    Reply.ENDLESS,
    Reply.COMPRESSED,
)


class ProviderContract(AdvisorContract):
    """A subclass supplies `wire` and the fixture `make`: an advisor with KEY that asks the double at a URL, within so
    many seconds. stream: whether it has its answers streamed."""

    wire: Wire
    stream = False

    @pytest.fixture
    async def double(self) -> Any:
        async with ProviderDouble(self.wire, draft=DRAFT) as double:
            yield double

    @pytest.fixture
    def advisor(self, make: Callable[[str, float], Advisor], double: ProviderDouble) -> Advisor:
        return make(double.base_url, 30)

    async def test_it_says_which_model_answered_and_what_it_counted(self, advisor: Advisor) -> None:
        completion = await advisor.propose(ask(), advisor.model(Task.SUMMARY, cheap=True))
        assert completion.model == MODEL
        assert completion.usage == Usage(input_tokens=INPUT_TOKENS, output_tokens=OUTPUT_TOKENS)

    async def test_the_request_has_the_key_the_words_the_schema_and_the_limit(
        self, advisor: Advisor, double: ProviderDouble
    ) -> None:
        await advisor.propose(ask(correction="request: not this way", max_answer_tokens=777), "a-model")
        headers, body = double.headers[0], double.requests[0]
        assert bool(body.get("stream")) is self.stream
        assert KEY in (headers.get("authorization", "") + headers.get("x-api-key", ""))
        assert body["model"] == "a-model"
        limits = {body.get(name) for name in ("max_tokens", "max_completion_tokens", "max_output_tokens")}
        assert 777 in limits
        said = str(body)
        for part in ("You propose.", "deploy web HEAD to staging", "request: not this way", "propose", "git_ref"):
            assert part in said
        assert KEY not in said

    async def test_without_tokens_of_both_kinds_the_usage_is_unknown(
        self, advisor: Advisor, double: ProviderDouble
    ) -> None:
        double.replies = [Reply.NO_USAGE]
        assert (await advisor.propose(ask(), "m")).usage is None

    @pytest.mark.parametrize("reply", [Reply.JSON_IN_PROSE, Reply.INVALID_JSON])
    async def test_json_comes_back_as_it_was_said_for_whoever_checks_it(
        self, advisor: Advisor, double: ProviderDouble, reply: Reply
    ) -> None:
        double.replies = [reply]
        assert (await advisor.propose(ask(), "m")).text.startswith("{")

    @pytest.mark.parametrize("reply", NOT_BILLED)
    async def test_what_is_refused_unread_is_not_billed(
        self, advisor: Advisor, double: ProviderDouble, reply: Reply
    ) -> None:
        assert isinstance(await self._failure(advisor, double, reply), NotBilledError)

    @pytest.mark.parametrize("reply", COUNTED)
    async def test_an_answer_that_is_no_draft_is_billed_as_counted(
        self, advisor: Advisor, double: ProviderDouble, reply: Reply
    ) -> None:
        failure = await self._failure(advisor, double, reply)
        assert isinstance(failure, AnswerError)
        assert failure.usage == Usage(input_tokens=INPUT_TOKENS, output_tokens=OUTPUT_TOKENS)

    @pytest.mark.parametrize("reply", UNKNOWN)
    async def test_after_any_other_failure_it_may_have_cost_anything(
        self, advisor: Advisor, double: ProviderDouble, reply: Reply
    ) -> None:
        failure = await self._failure(advisor, double, reply)
        assert not isinstance(failure, NotBilledError | AnswerError)
        assert failure.code is ErrorCode.UNAVAILABLE

    @pytest.mark.parametrize("reply", [Reply.SILENT, Reply.DRIPPING])
    async def test_who_does_not_end_its_answer_in_time_is_left_and_may_have_cost_anything(
        self, make: Callable[[str, float], Advisor], double: ProviderDouble, reply: Reply
    ) -> None:
        failure = await self._failure(make(double.base_url, 0.5), double, reply)
        assert not isinstance(failure, NotBilledError | AnswerError)
        assert failure.code is ErrorCode.DEADLINE_EXCEEDED

    async def test_where_nobody_listens_nothing_was_sent(
        self, make: Callable[[str, float], Advisor], double: ProviderDouble
    ) -> None:
        url = double.base_url
        await double.__aexit__()
        with pytest.raises(NotBilledError) as caught:
            await make(url, 30).propose(ask(), "m")
        assert caught.value.code is ErrorCode.UNAVAILABLE

    async def test_a_redirect_is_not_followed_so_that_the_key_goes_nowhere_else(
        self, advisor: Advisor, double: ProviderDouble
    ) -> None:
        async with ProviderDouble(self.wire, draft=DRAFT) as elsewhere:
            double.elsewhere = elsewhere.base_url + double.wire
            await self._failure(advisor, double, Reply.REDIRECT)
            assert elsewhere.requests == []

    async def _failure(self, advisor: Advisor, double: ProviderDouble, reply: Reply) -> PlatformError:
        """After exactly one request. The key, which the double repeats in its errors, is in none of ours."""
        double.replies = [reply]
        with pytest.raises(PlatformError) as caught:
            await advisor.propose(ask(), "m")
        assert len(double.requests) == 1
        failure = caught.value
        assert KEY not in f"{failure} {failure.internal} {failure.__cause__}"
        return failure


class StreamedProviderContract(ProviderContract):
    """Of one that has its answers streamed."""

    stream = True

    @pytest.mark.parametrize("reply", [Reply.HALF_STREAM, Reply.ERROR_IN_STREAM])
    async def test_half_of_an_answer_is_none_and_may_have_cost_all_of_it(
        self, advisor: Advisor, double: ProviderDouble, reply: Reply
    ) -> None:
        failure = await self._failure(advisor, double, reply)
        assert not isinstance(failure, NotBilledError | AnswerError)
        assert failure.code is ErrorCode.UNAVAILABLE
