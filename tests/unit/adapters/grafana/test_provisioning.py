from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from santiago_platform.adapters.grafana.provisioning import DASHBOARDS, dashboard_json, export_dashboards
from santiago_platform.adapters.local.binaries import find
from santiago_platform.domain.errors import ErrorCode, PlatformError

VARIABLES = {"$__rate_interval": "1m", "$service": "web", "$environment": "production", "$Hostname": ".+"}
OWN_KEYS = {"titleFormat", "step"}  # of annotations: Grafana reads them, and the SDK does not know them


def parsed(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(dashboard_json(name))
    return found


def values(tree: Any, key: str) -> Iterator[str]:
    if isinstance(tree, dict):
        yield from (value for name, value in tree.items() if name == key and isinstance(value, str))
        for value in tree.values():
            yield from values(value, key)
    elif isinstance(tree, list):
        for value in tree:
            yield from values(value, key)


def without(tree: Any, keys: set[str]) -> Any:
    if isinstance(tree, dict):
        return {name: without(value, keys) for name, value in tree.items() if name not in keys}
    return [without(value, keys) for value in tree] if isinstance(tree, list) else tree


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_decodes_by_the_schema_to_what_it_was(name: str) -> None:
    register_default_plugins()
    again = json.loads(json.dumps(Dashboard.from_json(parsed(name)), cls=JSONEncoder))
    assert again == without(parsed(name), OWN_KEYS)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_two_panels_overlap_and_none_leaves_the_grid(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in parsed(name)["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_panel_has_a_title_a_unit_and_asks_the_chosen_prometheus(name: str) -> None:
    for panel in parsed(name)["panels"]:
        assert panel["title"]
        if panel["type"] != "row":
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["targets"]
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}


def test_a_service_has_its_versions_as_annotations() -> None:
    marks = parsed("service")["annotations"]["list"]
    assert [(m["name"], m["titleFormat"]) for m in marks] == [
        ("Version comes", "version {{version}} comes"),
        ("Version goes", "version {{version}} goes"),
    ]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_only_variables_that_the_dashboard_has_are_used(name: str) -> None:
    dashboard = parsed(name)
    own = {f"${v['name']}" for v in dashboard["templating"]["list"]} | {"$__rate_interval"}
    used = {u for e in values(dashboard, "expr") for u in re.findall(r"\$\w+", e)}
    assert used <= own


def test_every_expression_is_promql(tmp_path: Path) -> None:
    promtool = find("promtool")
    if promtool is None:
        pytest.skip("promtool is not fetched")
    rules = []
    for name in DASHBOARDS:
        for expression in values(parsed(name), "expr"):
            for variable, value in VARIABLES.items():
                expression = expression.replace(variable, value)
            rules.append({"record": f"{name}:{len(rules)}", "expr": expression})
    assert len(rules) > 50
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    done = subprocess.run([promtool.path, "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_export_has_what_grafana_needs_and_is_the_same_each_time(tmp_path: Path) -> None:
    files = export_dashboards(tmp_path / "out", "http://127.0.0.1:9090")
    texts = {file: file.read_text() for file in files}
    assert export_dashboards(tmp_path / "out", "http://127.0.0.1:9090") == files
    assert {file: file.read_text() for file in files} == texts
    source = yaml.safe_load((tmp_path / "out/provisioning/datasources/santiago.yaml").read_text())
    assert source["datasources"][0]["url"] == "http://127.0.0.1:9090"
    provider = yaml.safe_load((tmp_path / "out/provisioning/dashboards/santiago.yaml").read_text())
    folder = Path(provider["providers"][0]["options"]["path"])
    assert {file.name for file in folder.iterdir()} == {f"{name}.json" for name in DASHBOARDS}


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(PlatformError) as caught:
        export_dashboards(tmp_path / "out", "http://127.0.0.1:9090")
    assert caught.value.code is ErrorCode.FAILED_PRECONDITION
