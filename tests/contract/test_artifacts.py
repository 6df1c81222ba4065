from __future__ import annotations

from pathlib import Path

import pytest

from santiago_platform.adapters.fake.workspace import FakeArtifacts
from santiago_platform.adapters.local.artifacts import LocalArtifacts
from santiago_platform.adapters.local.layout import Layout
from santiago_platform.adapters.system import SystemClock
from santiago_platform.testing.artifacts import ArtifactsContract
from santiago_platform.testing.workspace import GitWorkspace

takes_anything = pytest.mark.xfail(strict=True, reason="the fake takes any ref and any beginning of a digest")


class TestFakeArtifacts(ArtifactsContract):
    @pytest.fixture
    def artifacts(self) -> FakeArtifacts:
        return FakeArtifacts()

    @takes_anything
    @pytest.mark.parametrize("ref", ["-x"])
    async def test_a_ref_that_looks_like_an_option_is_refused(self, artifacts: FakeArtifacts, ref: str) -> None:
        await super().test_a_ref_that_looks_like_an_option_is_refused(artifacts, ref)

    @takes_anything
    async def test_fewer_than_12_digits_name_no_release(self, artifacts: FakeArtifacts) -> None:
        await super().test_fewer_than_12_digits_name_no_release(artifacts)


class TestLocalArtifacts(ArtifactsContract):
    @pytest.fixture
    def artifacts(self, tmp_path: Path) -> LocalArtifacts:
        workspace = GitWorkspace(tmp_path / "workspace")
        workspace.write("services/web/run", "#!/bin/sh\necho serving better\n", executable=True)
        workspace.commit(at=1_700_000_060)
        return LocalArtifacts(Layout.of(workspace.root), SystemClock())
