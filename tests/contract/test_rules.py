from __future__ import annotations

import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from santiago_platform.adapters.fake.rules import FakeRules
from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local.prometheus import PrometheusConfig, prometheus_command
from santiago_platform.adapters.local.rules import PrometheusRules
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.testing.rules import GROUP, HIGH, OWNER, WRONG, RulesContract


class TestFakeRules(RulesContract):
    @pytest.fixture
    def rules(self) -> FakeRules:
        fake = FakeRules()
        fake.failing = {WRONG.name}
        return fake

    @pytest.fixture
    def unanswering(self) -> FakeRules:
        fake = FakeRules()
        fake.down = True
        return fake


@pytest.fixture(scope="module")
def prometheus(layout: Layout, binary: Callable[[str], Path], free_port: Callable[[], int]) -> Iterator[int]:
    """The port of a running one that scrapes nothing."""
    PrometheusConfig(layout, {}, free_port(), free_port()).write()
    port = free_port()
    process = subprocess.Popen(prometheus_command(layout, binary("prometheus"), port=port), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 15
    while True:
        try:
            if httpx2.get(f"http://127.0.0.1:{port}/-/ready").status_code == 200:
                break
        except httpx2.HTTPError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield port
    process.kill()
    process.wait()


class TestPrometheusRules(RulesContract):
    @pytest.fixture
    async def rules(
        self, layout: Layout, prometheus: int, binary: Callable[[str], Path]
    ) -> AsyncIterator[PrometheusRules]:
        rules = PrometheusRules(layout.prometheus / "rules", prometheus)
        yield rules
        await rules.close()

    @pytest.fixture
    async def unanswering(self, tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[PrometheusRules]:
        rules = PrometheusRules(tmp_path, free_port())
        yield rules
        await rules.close()

    async def test_what_prometheus_refuses_leaves_the_former_rules_in_force_and_on_disk(
        self, rules: PrometheusRules, layout: Layout
    ) -> None:
        file = layout.prometheus / "rules" / f"{OWNER}.yaml"
        await rules.apply(OWNER, [GROUP])
        before = file.read_text()
        broken = GROUP.model_copy(update={"rules": (HIGH.model_copy(update={"expr": "sum(load"}),)})
        with pytest.raises(PlatformError) as caught:
            await rules.apply(OWNER, [broken])
        assert caught.value.code is ErrorCode.FAILED_PRECONDITION
        assert file.read_text() == before
        assert [group.name for group in await rules.loaded(OWNER)] == ["web/load"]
        with pytest.raises(PlatformError):
            await rules.apply("shop", [broken])
        assert sorted(path.name for path in file.parent.iterdir()) == [file.name]
        await rules.apply(OWNER, [])

    async def test_equal_rules_write_nothing(self, rules: PrometheusRules, layout: Layout) -> None:
        await rules.apply(OWNER, [GROUP])
        file = layout.prometheus / "rules" / f"{OWNER}.yaml"
        before = file.stat()
        await rules.apply(OWNER, [GROUP])
        assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        await rules.apply(OWNER, [])

    async def test_rules_written_while_prometheus_was_down_are_loaded_once_it_answers(
        self, rules: PrometheusRules, unanswering: PrometheusRules, tmp_path: Path
    ) -> None:
        with pytest.raises(PlatformError) as caught:
            await unanswering.apply(OWNER, [GROUP])
        assert caught.value.code is ErrorCode.UNAVAILABLE
        assert (tmp_path / f"{OWNER}.yaml").exists()

    @pytest.mark.parametrize("owner", ["../web", "", "Web", "web.yaml"])
    async def test_an_owner_that_is_no_name_writes_nowhere(self, rules: PrometheusRules, owner: str) -> None:
        with pytest.raises(PlatformError) as caught:
            await rules.apply(owner, [GROUP])
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT

    async def test_a_file_that_somebody_else_changed_or_removed_is_written_again(
        self, rules: PrometheusRules, layout: Layout
    ) -> None:
        await rules.apply(OWNER, [GROUP])
        file = layout.prometheus / "rules" / f"{OWNER}.yaml"
        text = file.read_text()
        for harm in (lambda: file.write_text("groups: []"), file.unlink):
            harm()
            await rules.apply(OWNER, [GROUP])
            assert file.read_text() == text
