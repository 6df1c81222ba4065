"""Policy decisions: new ones, and those that were asked before."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

from santiago_platform.adapters.policies.cedar import CedarPolicy
from santiago_platform.domain.policy import Question
from santiago_platform.testing.policy import every_question

from .figure import Figure
from .stage import Stage

DECISION_MS = 1.0
ASKED = 2000


async def policy(stage: Stage) -> list[Figure]:
    """Every seventh question of the contract, by the policies that ship and one of the workspace."""
    with tempfile.TemporaryDirectory(prefix="santiago-bench-") as name:
        (Path(name) / "policies").mkdir()
        (Path(name) / "policies" / "own.cedar").write_text(
            '@id("own")\nforbid (principal, action, resource) when { resource.service == "vault" };\n'
        )
        asked = CedarPolicy(Path(name))
        questions = every_question()[::7][:ASKED]
        asked.decide(questions[-1])  # reads the files
        new, again = _times(asked, questions[:-1]), _times(asked, questions[:-1])
    stage.tell(f"decisions: {median(new):.3f} ms, again {median(again):.4f} ms")
    return [
        Figure(
            "a policy decision",
            median(new),
            "ms",
            f"p50 of {len(new):,} new questions; p99 {_p99(new):.3f} ms",
            at_most=DECISION_MS,
        ),
        Figure(
            "a policy decision that was made before",
            median(again),
            "ms",
            f"p50, with the look at the files; p99 {_p99(again):.4f} ms",
            at_most=DECISION_MS,
        ),
    ]


def _times(policy: CedarPolicy, questions: list[Question]) -> list[float]:
    found = []
    for question in questions:
        began = time.perf_counter()
        policy.decide(question)
        found.append((time.perf_counter() - began) * 1000)
    return found


def _p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]
