"""Who may do what, by Cedar and as said once more in Python."""

from __future__ import annotations

import pytest

from santiago_platform.adapters.fake.policy import FakePolicy
from santiago_platform.adapters.policies.cedar import CedarPolicy
from santiago_platform.testing.policy import PolicyContract, every_question

CEDAR = CedarPolicy()  # once: it keeps what it has decided


class TestFakePolicy(PolicyContract):
    @pytest.fixture
    def policy(self) -> FakePolicy:
        return FakePolicy()


class TestCedarPolicy(PolicyContract):
    @pytest.fixture
    def policy(self) -> CedarPolicy:
        return CEDAR


def test_the_default_policies_and_their_restatement_agree_on_every_question() -> None:
    said, restated = CEDAR, FakePolicy()
    different = [q for q in every_question() if said.decide(q).verdict is not restated.decide(q).verdict]
    assert different == []
