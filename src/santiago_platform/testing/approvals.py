"""What everything that knows approvals keeps to."""

from __future__ import annotations

from ..domain.errors import ErrorCode, PlatformError
from ..ports.approvals import Approvals

RELEASE = "sha256:" + "a" * 64


class ApprovalsContract:
    """Subclasses give the fixture `approvals`, in which nobody has approved anything."""

    async def test_what_nobody_approved_is_not_approved(self, approvals: Approvals) -> None:
        try:
            found, code = await approvals.of(RELEASE, "production", "pm"), None
        except PlatformError as exc:
            found, code = None, exc.code
        assert found is None
        assert code in (None, ErrorCode.UNSUPPORTED)
