"""Notifications by Apprise, which knows a hundred services by their URLs. It is imported when the first one is sent."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from ...domain.delivery import Notification, Receiver
from ...domain.errors import ErrorCode, PlatformError
from ...domain.mailbox import Severity

TIMEOUT_SECONDS = 20.0
TYPES = {Severity.INFO: "info", Severity.WARNING: "warning", Severity.CRITICAL: "failure"}


class AppriseNotifier:
    """Implements ports.notifier.Notifier. root: of the workspace, which relative paths are within."""

    def __init__(self, root: Path, variables: Mapping[str, str] = os.environ) -> None:
        self._root = root
        self._variables = variables

    async def notify(self, receiver: Receiver, notification: Notification) -> None:
        url = self._url(receiver)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                refusal = await asyncio.to_thread(_send, url, notification)
        except TimeoutError as exc:
            words = f"the receiver did not answer within {TIMEOUT_SECONDS:g} s"
            raise PlatformError(ErrorCode.DEADLINE_EXCEEDED, words) from exc
        if refusal is not None:
            raise refusal

    def _url(self, receiver: Receiver) -> str:
        if receiver.url_variable is not None:
            url = self._variables.get(receiver.url_variable, "").strip()
            if not url:
                raise _no_address(f"the environment variable {receiver.url_variable} is not set")
            return url
        try:
            return (self._root / (receiver.url_file or "")).read_text().strip()  # an absolute path stays what it is
        except (OSError, UnicodeDecodeError) as exc:
            raise _no_address(f"{receiver.url_file} cannot be read: {type(exc).__name__}") from exc


def _send(url: str, notification: Notification) -> PlatformError | None:
    """In a thread: Apprise waits. Its errors have the address in them, so of those nothing but the type is told."""
    import apprise

    for name in ("apprise", "urllib3", "requests"):  # they would write addresses into the daemon's log
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    asset = apprise.AppriseAsset(async_mode=False, app_id="Santiago", http_redirects=False)
    sender = apprise.Apprise(asset=asset)
    try:
        if not sender.add(url):
            return _no_address("the address is none that Apprise knows")
        taken = sender.notify(
            body=notification.text,
            title=notification.title,
            notify_type=TYPES[notification.severity],
            body_format="text",
            interpret_escapes=False,
        )
    except Exception as exc:  # noqa: BLE001 - a hundred plug-ins raise what they like
        return PlatformError(ErrorCode.UNAVAILABLE, f"the receiver could not be told: {type(exc).__name__}")
    return None if taken else PlatformError(ErrorCode.UNAVAILABLE, "the receiver did not take it")


def _no_address(words: str) -> PlatformError:
    return PlatformError(
        ErrorCode.FAILED_PRECONDITION, words, "notify in santiago.yaml names a file or a variable with one Apprise URL"
    )
