"""What everything that knows approvals keeps to."""

from __future__ import annotations

from ..ports.approvals import Approvals

RELEASE = "sha256:" + "a" * 64


class ApprovalsContract:
    """Subclasses give the fixture `approvals`, in which nobody has approved anything."""

    async def test_what_nobody_approved_is_not_approved(self, approvals: Approvals) -> None:
        assert await approvals.of(RELEASE, "production", "pm") is None
