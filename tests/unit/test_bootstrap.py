from __future__ import annotations

from pathlib import Path

import pytest

from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local.rules import PrometheusRules
from santiago_platform.adapters.rules.export import ExportedRules
from santiago_platform.adapters.rules.ruler import RulerRules
from santiago_platform.adapters.workspace.workspace import FileWorkspace
from santiago_platform.bootstrap import _rules
from santiago_platform.domain.errors import ErrorCode, PlatformError


def chosen(root: Path, monitoring: str) -> object:
    (root / "santiago.yaml").write_text(f"monitoring: {monitoring}\n")
    workspace = FileWorkspace(root, service_port=lambda *_: 0, flags_url="", secret=lambda _: None)
    return _rules(Layout(root), workspace, 9090)


@pytest.mark.parametrize(
    ("monitoring", "adapter"),
    [
        ("{}", PrometheusRules),
        ("{rules: ruler, url: 'http://127.0.0.1:9009/prometheus', org_id: harbour}", RulerRules),
        ("{rules: export, directory: rules, format: objects}", ExportedRules),
        ("{rules: ruler}", PrometheusRules),  # refused, and nothing is read of it
    ],
)
def test_the_settings_choose_what_evaluates_rules(tmp_path: Path, monitoring: str, adapter: type) -> None:
    assert isinstance(chosen(tmp_path, monitoring), adapter)


def test_a_token_that_cannot_be_read_is_named_and_not_left_out(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="keys/none") as caught:
        chosen(tmp_path, "{rules: ruler, url: 'http://127.0.0.1:9009', token_file: keys/none}")
    assert caught.value.code is ErrorCode.FAILED_PRECONDITION
