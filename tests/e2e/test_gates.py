"""Gates on a real platform: held up without evidence, let through with it, and never asked on the way back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from santiago_platform.testing.running_platform import RunningPlatform

pytestmark = pytest.mark.e2e

GATES = """\
  production:
    gates:
      - {type: tests, min_tests: 2}
      - {type: coverage, min_line_ratio: 0.8}
      - {type: scan}
      - {type: signature}
      - {type: promotion, minutes: 0}
      - {type: error_budget}
"""
FREEZE = (
    '      - {type: freeze, start: "2020-01-01T00:00:00", duration: P1D, rule: "FREQ=DAILY", timezone: Europe/Berlin}\n'
)
JUNIT = '<testsuite><testcase name="a"/><testcase name="b"/></testsuite>'
COVERAGE = '<coverage line-rate="0.91" branch-rate="0.8"/>'
SARIF = json.dumps({"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "scanner"}}, "results": []}]})


@pytest.fixture(scope="module")
def gated(platform: RunningPlatform) -> RunningPlatform:
    (platform.root / "services/hello/slo.yaml").unlink()  # the gate is asked of a service without an SLO
    platform.replace("santiago.yaml", "  production:\n", GATES)
    platform.commit("Gates")
    return platform


class Caller:
    """The command line with a token of a role."""

    def __init__(self, platform: RunningPlatform, role: str) -> None:
        issued = platform.json("token", "issue", "--role", role, "--name", f"the-{role}")
        self._platform = platform
        self._environment = {**os.environ, "SANTIAGO_TOKEN": issued["token"]}

    def __call__(self, *words: str) -> tuple[int, Any]:
        command = [sys.executable, "-m", "santiago_platform", "--workspace", str(self._platform.root), *words, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=self._environment)
        return done.returncode, json.loads(done.stdout)


def attest(platform: RunningPlatform, release: str, folder: Path) -> None:
    pipeline = Caller(platform, "pipeline")
    for name, text in (("junit.xml", JUNIT), ("coverage.xml", COVERAGE), ("scan.sarif", SARIF)):
        (folder / name).write_text(text)
        code, made = pipeline("evidence", "add", release, str(folder / name))
        assert code == 0, made
        assert made["counts"]


def outcomes(found: dict[str, Any]) -> dict[str, str]:
    return {answer["gate"]: answer["outcome"] for answer in found["answers"]}


def test_a_deploy_is_held_up_without_evidence_and_let_through_with_it(gated: RunningPlatform, tmp_path: Path) -> None:
    release = gated.json("release", "hello")["digest"]
    asked = ("deploy", "hello", "--env", "production", "--release", release)
    refused = gated.json(*asked, "--wait", check=False)["error"]
    assert refused["code"] == "failed_precondition"
    assert "4 gates do not pass" in refused["message"]
    assert "santiago evidence add" in refused["hint"]

    gated.santiago("deploy", "hello", "--env", "staging", "--release", release, "--wait")
    attest(gated, release, tmp_path)
    expected = [
        "pass tests",
        "pass coverage",
        "pass scan",
        "pass signature",
        "pass promotion",
        "not_applicable error_budget",
    ]
    planned = gated.json(*asked, "--dry-run")
    assert [line.split(":")[0] for line in planned["gates"]] == expected
    deployed = gated.json(*asked, "--wait")
    assert deployed["state"] == "succeeded", deployed
    assert [line.split(":")[0] for line in deployed["gates"]] == expected


def test_the_owner_may_not_attest(gated: RunningPlatform, tmp_path: Path) -> None:
    release = gated.json("release", "hello")["digest"]
    (tmp_path / "junit.xml").write_text(JUNIT)
    refused = gated.json("evidence", "add", release, str(tmp_path / "junit.xml"), check=False)["error"]
    assert refused["code"] == "permission_denied"


def test_a_release_from_a_commit_is_held_up_once_it_is_built(gated: RunningPlatform) -> None:
    gated.set_version("not attested")
    ended = gated.json("deploy", "hello", "--env", "production", "--wait", check=False)
    assert ended["state"] == "failed", ended
    assert "gates do not pass: fail tests: no evidence of tests" in ended["reason"]
    assert "santiago evidence add" in ended["reason"]


def test_evidence_that_was_changed_on_disk_does_not_count(gated: RunningPlatform, tmp_path: Path) -> None:
    release = gated.json("release", "hello")["digest"]
    attest(gated, release, tmp_path)
    listed = gated.json("evidence", "list", release)
    assert all(one["counts"] for one in listed)
    tests = next(one for one in listed if one["kind"] == "junit")
    file = gated.layout.evidence / release.removeprefix("sha256:") / tests["sha256"]
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text(JUNIT.replace('"b"', '"c"'))
    found = gated.json("gates", "hello", "--env", "production", "--release", release, check=False)
    assert not found["passes"]
    assert outcomes(found) | {"tests": "fail", "coverage": "pass"} == outcomes(found)
    assert "changed since it was attested" in json.dumps(found["answers"])
    attest(gated, release, tmp_path)
    assert outcomes(gated.json("gates", "hello", "--env", "production", check=False))["tests"] == "pass"


def test_a_rollback_passes_in_a_freeze_that_holds_up_a_deploy(gated: RunningPlatform) -> None:
    release = gated.json("release", "hello")["digest"]
    gated.santiago("deploy", "hello", "--env", "staging", "--release", release, "--wait")
    gated.santiago("deploy", "hello", "--env", "production", "--release", release, "--wait")
    gated.replace("santiago.yaml", "      - {type: error_budget}\n", "      - {type: error_budget}\n" + FREEZE)
    gated.set_version("frozen")
    refused = gated.json("deploy", "hello", "--env", "production", "--wait", check=False)["error"]
    assert "fail freeze: frozen from" in refused["message"]
    back = gated.json("rollback", "hello", "--env", "production", "--wait")
    assert back["state"] == "succeeded", back


def test_every_attestation_is_in_the_ships_log(gated: RunningPlatform) -> None:
    text = "".join(path.read_text() for path in sorted(gated.layout.ship_log.glob("*.jsonl")))
    entries = [json.loads(line) for line in text.splitlines()]
    attested = [e for e in entries if e.get("action") == "add_evidence" and e.get("outcome") == "attested"]
    denied = [e for e in entries if e.get("action") == "add_evidence" and e.get("outcome") == "denied"]
    assert len(attested) == 9
    assert len(denied) == 1
    assert all(len(entry["body"]["sha256"]) == 64 for entry in attested)
    assert gated.json("log", "verify")["intact"]
