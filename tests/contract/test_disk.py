from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from santiago_platform.adapters.fake.disk import FakeDisk
from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local.disk import LocalDisk
from santiago_platform.testing.disk import DiskContract

DAY = 86400.0


class TestFakeDisk(DiskContract):
    @pytest.fixture
    def disk(self) -> FakeDisk:
        return FakeDisk()

    @pytest.fixture
    def leave(self, disk: FakeDisk) -> Callable[[str], None]:
        return disk.left_over.append


class TestLocalDisk(DiskContract):
    @pytest.fixture
    def layout(self, tmp_path: Path) -> Layout:
        return Layout.of(tmp_path)

    @pytest.fixture
    def disk(self, layout: Layout) -> LocalDisk:
        return LocalDisk(layout, now=lambda: time.time() + DAY)

    @pytest.fixture
    def leave(self, layout: Layout) -> Callable[[str], None]:
        def leave(name: str) -> None:
            (layout.logs / name).mkdir(parents=True)
            (layout.logs / name / "current").write_text("a line\n")

        return leave
