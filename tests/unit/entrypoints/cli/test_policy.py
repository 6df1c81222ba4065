from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from santiago_platform.domain.errors import PlatformError
from santiago_platform.entrypoints.cli.policy import _asked

Santiago = Callable[..., Any]


def test_policies_are_checked_without_a_platform_that_runs(santiago: Santiago, tmp_path: Path) -> None:
    (tmp_path / "santiago.yaml").write_text("{}\n")
    (tmp_path / "policies").mkdir()
    own = tmp_path / "policies" / "own.cedar"
    own.write_text('@id("calm")\nforbid (principal, action == Action::"run_job", resource);\n')
    assert santiago("policy", "check", "--json").json["own"] == ["calm"]
    own.write_text("\nforbid (principal, action, resource);\n")
    done = santiago("policy", "check")
    assert done.code == 1
    assert done.err.startswith("error: policies/own.cedar:2: ")


def test_what_is_asked_is_somebody_an_action_and_a_place() -> None:
    whole = ["bot", "deploy_service", "web/production"]
    assert _asked(whole, by_role=False) == {
        "principal": "bot",
        "action": "deploy_service",
        "service": "web",
        "environment": "production",
    }
    assert _asked(["issue_token"], by_role=True) == {"action": "issue_token"}
    assert _asked(["configure_flag.set", "/*"], by_role=True) == {"action": "configure_flag.set", "environment": "*"}
    with pytest.raises(PlatformError, match="too many words"):
        _asked([*whole, "now"], by_role=False)
