from __future__ import annotations

import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx2
import pytest
import yaml

from santiago_platform.adapters.fake.rules import FakeRules
from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local.prometheus import PrometheusConfig, prometheus_command
from santiago_platform.adapters.local.rules import PrometheusRules
from santiago_platform.adapters.rules.export import ExportedRules
from santiago_platform.adapters.rules.ruler import RulerRules
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.rules import RuleGroup, RulesFormat
from santiago_platform.ports.rules import Rules
from santiago_platform.testing.ruler_double import RulerDouble, ruler_double
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
        await rules.apply(OWNER, [])


class TestRulerRules(RulesContract):
    @pytest.fixture
    def ruler(self, binary: Callable[[str], Path]) -> Iterator[RulerDouble]:
        binary("promtool")
        with ruler_double() as ruler:
            yield ruler

    @pytest.fixture
    async def rules(self, ruler: RulerDouble) -> AsyncIterator[RulerRules]:
        rules = RulerRules(ruler.url, {"x-scope-orgid": "harbour"})
        yield rules
        await rules.close()

    @pytest.fixture
    async def unanswering(self, free_port: Callable[[], int]) -> AsyncIterator[RulerRules]:
        rules = RulerRules(f"http://127.0.0.1:{free_port()}/prometheus")
        yield rules
        await rules.close()

    async def test_equal_rules_write_nothing_and_what_somebody_removed_is_set_again(
        self, rules: RulerRules, ruler: RulerDouble
    ) -> None:
        for _ in range(2):
            await rules.apply(OWNER, [GROUP])
        assert ruler.writes == ["set web/load"]
        ruler.groups.clear()
        await rules.apply(OWNER, [GROUP])
        assert ruler.writes == ["set web/load"] * 2
        assert ruler.orgs == {"harbour"}

    async def test_what_it_refuses_leaves_the_former_rules_and_those_of_others(
        self, rules: RulerRules, ruler: RulerDouble
    ) -> None:
        others = {"name": "theirs", "interval": "60000ms", "rules": [{"record": "a", "expr": "b"}]}
        ruler.set("theirs", others)
        await rules.apply(OWNER, [GROUP])
        changed = GROUP.model_copy(update={"interval_seconds": 15.0})
        fresh = GROUP.model_copy(update={"name": "web/fresh"})
        broken = RuleGroup(name="web/broken", rules=(HIGH.model_copy(update={"expr": "sum(load"}),))
        with pytest.raises(PlatformError) as caught:
            await rules.apply(OWNER, [changed, fresh, broken])
        assert caught.value.code is ErrorCode.FAILED_PRECONDITION
        assert [(g.name, g.interval_seconds) for g in await rules.loaded(OWNER)] == [("web/load", 30)]
        assert ruler.groups["theirs"] == {"theirs": others}

    async def test_durations_as_a_ruler_writes_them_are_the_same_durations(
        self, rules: RulerRules, ruler: RulerDouble
    ) -> None:
        await rules.apply(OWNER, [GROUP.model_copy(update={"interval_seconds": 90.0})])
        ruler.groups["santiago-web"]["web/load"]["interval"] = "1m30s"
        before = list(ruler.writes)
        await rules.apply(OWNER, [GROUP.model_copy(update={"interval_seconds": 90.0})])
        assert ruler.writes == before


class TestExportedRules(RulesContract):
    """Written where a Prometheus finds them, which somebody else reloads."""

    @pytest.fixture
    async def rules(
        self, layout: Layout, prometheus: int, binary: Callable[[str], Path]
    ) -> AsyncIterator[ExportedRules]:
        self.port = prometheus
        rules = ExportedRules(layout.prometheus / "rules", url=f"http://127.0.0.1:{prometheus}")
        yield rules
        await rules.close()

    @pytest.fixture
    async def unanswering(self, tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[ExportedRules]:
        rules = ExportedRules(tmp_path, url=f"http://127.0.0.1:{free_port()}")
        yield rules
        await rules.close()

    async def load(self, rules: Rules) -> None:
        async with httpx2.AsyncClient() as client:
            assert (await client.post(f"http://127.0.0.1:{self.port}/-/reload")).status_code == 200

    async def test_where_nobody_can_be_asked_that_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(PlatformError) as caught:
            await ExportedRules(tmp_path).loaded(OWNER)
        assert caught.value.code is ErrorCode.UNSUPPORTED

    async def test_objects_of_the_operator_have_the_groups_as_rule_files_have_them(self, tmp_path: Path) -> None:
        await ExportedRules(tmp_path / "files").apply("_alerts", [GROUP])
        objects = ExportedRules(tmp_path / "objects", RulesFormat.OBJECTS)
        await objects.apply("_alerts", [GROUP])
        found = yaml.safe_load((tmp_path / "objects" / "_alerts.yaml").read_text())
        assert (found["apiVersion"], found["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
        assert found["metadata"]["name"] == "santiago-alerts"
        assert found["spec"] == yaml.safe_load((tmp_path / "files" / "_alerts.yaml").read_text())
        await objects.apply("_alerts", [])
        assert list((tmp_path / "objects").iterdir()) == []

    async def test_what_the_operator_loads_is_found_by_the_name_of_its_object(self, tmp_path: Path) -> None:
        uid = "0f0e1d2c-0000-4a4b-8c8d-0123456789ab"
        with ruler_double() as double:
            for name in ("web", "web-shop"):
                namespace = f"/etc/prometheus/rules/monitoring-santiago-{name}-{uid}.yaml"
                double.set(namespace, {"name": f"of {name}", "interval": "30000ms", "rules": []})
            rules = ExportedRules(tmp_path, RulesFormat.OBJECTS, double.url)
            assert [group.name for group in await rules.loaded(OWNER)] == ["of web"]
            await rules.close()
