"""A gate that another system decides, asked over HTTP."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..gate import Answer, Facts, Gate, Outcome, Unknown


class WebhookGate(Gate):
    """What `url` answers within `timeout_seconds`; anything but a clear answer is unknown.

    token_file: holds the bearer token to send; absolute, or within the workspace.
    """

    type: Literal["webhook"]
    url: Annotated[str, Field(pattern=r"^https?://[^\s@]+$", max_length=2000)]
    timeout_seconds: Annotated[float, Field(gt=0, le=30)] = 5.0
    token_file: Annotated[str, Field(min_length=1)] | None = None

    def answer(self, facts: Facts) -> Answer:
        reply = facts.replies.get(self.url, Unknown(reason="it was not asked"))
        asked = f"asked {self.url}"
        if isinstance(reply, Unknown):
            return self.says(Outcome.UNKNOWN, reply.reason, "see that it answers, then ask again", asked)
        said = reply.reason or ("it says yes" if reply.passed else "it says no")
        outcome = Outcome.PASS if reply.passed else Outcome.FAIL
        return self.says(outcome, said, "whoever runs it knows more", asked)
