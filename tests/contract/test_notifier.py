from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from santiago_platform.adapters.fake.notifier import FakeNotifier
from santiago_platform.adapters.notifiers.apprise import AppriseNotifier
from santiago_platform.domain.delivery import Receiver
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.testing.notifier import HELLO, NotifierContract
from santiago_platform.testing.webhook_double import WebhookDouble, webhook_double

SECRET = "kept-to-ourselves"
Received = Callable[[], list[tuple[str, str]]]


class TestFakeNotifier(NotifierContract):
    @pytest.fixture
    def notifier(self) -> FakeNotifier:
        notifier = FakeNotifier()
        notifier.failing["deaf"] = PlatformError(ErrorCode.UNAVAILABLE, "no")
        notifier.failing["lost"] = PlatformError(ErrorCode.FAILED_PRECONDITION, "no")
        return notifier

    @pytest.fixture
    def received(self, notifier: FakeNotifier) -> Received:
        return lambda: [(sent.title, sent.text) for _, sent in notifier.sent]

    @pytest.fixture
    def receiver(self) -> Receiver:
        return Receiver(url_file="chat")

    @pytest.fixture
    def deaf(self) -> Receiver:
        return Receiver(url_file="deaf")

    @pytest.fixture
    def lost(self) -> Receiver:
        return Receiver(url_file="lost")

    @pytest.fixture
    def secret(self) -> str:
        return SECRET


class TestAppriseNotifier(NotifierContract):
    @pytest.fixture
    def double(self) -> Iterator[WebhookDouble]:
        with webhook_double() as double:
            yield double

    @pytest.fixture
    def notifier(self, tmp_path: Path, double: WebhookDouble) -> AppriseNotifier:
        (tmp_path / "chat.url").write_text(double.url(SECRET) + "\n")
        (tmp_path / "deaf.url").write_text(f"json://user:{SECRET}@127.0.0.1:1/{SECRET}")
        return AppriseNotifier(tmp_path, {"CHAT": double.url(SECRET), "STRANGE": f"nothing://{SECRET}"})

    @pytest.fixture
    def received(self, double: WebhookDouble) -> Received:
        return lambda: [(body["title"], body["message"]) for body in double.bodies]

    @pytest.fixture
    def receiver(self) -> Receiver:
        return Receiver(url_file="chat.url")

    @pytest.fixture
    def deaf(self) -> Receiver:
        return Receiver(url_file="deaf.url")

    @pytest.fixture
    def lost(self) -> Receiver:
        return Receiver(url_variable="STRANGE")

    @pytest.fixture
    def secret(self) -> str:
        return SECRET

    async def test_an_address_may_be_in_a_variable_and_a_refusal_is_unavailable(
        self, notifier: AppriseNotifier, double: WebhookDouble
    ) -> None:
        await notifier.notify(Receiver(url_variable="CHAT"), HELLO)
        assert double.bodies[0]["type"] == "warning"
        double.status = 500
        with pytest.raises(PlatformError) as refused:
            await notifier.notify(Receiver(url_variable="CHAT"), HELLO)
        assert refused.value.code is ErrorCode.UNAVAILABLE

    @pytest.mark.parametrize("receiver", [Receiver(url_file="gone"), Receiver(url_variable="GONE")])
    async def test_an_address_that_is_not_there_is_named(self, notifier: AppriseNotifier, receiver: Receiver) -> None:
        with pytest.raises(PlatformError, match=r"gone|GONE") as refused:
            await notifier.notify(receiver, HELLO)
        assert refused.value.code is ErrorCode.FAILED_PRECONDITION


def test_apprise_is_not_imported_before_it_is_needed() -> None:
    imports = "import sys, santiago_platform.bootstrap, santiago_platform.entrypoints.http"
    program = f"{imports}; print(sorted({{'apprise', 'a2a', 'requests'}} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout == "[]\n"
