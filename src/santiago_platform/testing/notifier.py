"""What every notifier keeps to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ..domain.delivery import Notification, Receiver
from ..domain.errors import ErrorCode, PlatformError
from ..domain.mailbox import Severity
from ..ports.notifier import Notifier

HELLO = Notification(id="dl-1", severity=Severity.WARNING, title="hello", text="<b>*bold*</b> \\n {{x}}\ndelivery dl-1")


class NotifierContract:
    """Subclasses give the fixtures `notifier`, `receiver`, whose notifications `received` lists as (title, text),
    `deaf`, a receiver that takes none, `lost`, one without an address, and `secret`, a part of all addresses."""

    async def test_a_notification_arrives_as_it_was_written(
        self, notifier: Notifier, receiver: Receiver, received: Callable[[], list[tuple[str, str]]]
    ) -> None:
        await notifier.notify(receiver, HELLO)
        assert received() == [(HELLO.title, HELLO.text)]

    @pytest.mark.parametrize(("to", "code"), [("deaf", ErrorCode.UNAVAILABLE), ("lost", ErrorCode.FAILED_PRECONDITION)])
    async def test_a_failure_has_its_code_and_never_the_address(
        self,
        notifier: Notifier,
        to: str,
        code: ErrorCode,
        secret: str,
        request: pytest.FixtureRequest,
        caplog: Any,
        capfd: Any,
    ) -> None:
        with pytest.raises(PlatformError) as raised:
            await notifier.notify(request.getfixturevalue(to), HELLO)
        assert raised.value.code is code
        told = [raised.value.message, raised.value.hint, raised.value.internal, caplog.text, *capfd.readouterr()]
        assert secret not in " ".join(told)
