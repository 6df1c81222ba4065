"""A gate that a person opens."""

from __future__ import annotations

from typing import Literal

from ..gate import Answer, Facts, Gate, Outcome, Unknown
from ..identity import Role


class ApprovalGate(Gate):
    """Somebody with the role has approved this release for this environment."""

    type: Literal["approval"]
    role: Role

    def answer(self, facts: Facts) -> Answer:
        approval = facts.approvals.get(self.role)
        waits = f"it waits for approval by role {self.role}"
        if approval is None:
            return self.says(Outcome.UNKNOWN, waits, f"ask role {self.role}").model_copy(update={"awaits": self.role})
        if isinstance(approval, Unknown):
            return self.says(Outcome.UNKNOWN, f"{waits}; {approval.reason}", "leave the gate out until they are taken")
        said = f"approved by {approval.by} at {approval.at:%Y-%m-%d %H:%M:%S}Z"
        return self.says(Outcome.PASS, said, "", approval.reason)
