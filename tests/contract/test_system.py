from __future__ import annotations

import pytest

from santiago_platform.adapters.fake.clock import ManualClock
from santiago_platform.adapters.system import LoopActivation, SystemClock
from santiago_platform.testing.activation import ActivationContract
from santiago_platform.testing.clock import ClockContract


class TestManualClock(ClockContract):
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()


class TestSystemClock(ClockContract):
    @pytest.fixture
    def clock(self) -> SystemClock:
        return SystemClock()


class TestLoopActivation(ActivationContract):
    @pytest.fixture
    def activation(self) -> LoopActivation:
        return LoopActivation()
