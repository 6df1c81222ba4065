from __future__ import annotations

import shutil
import socket
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from santiago_platform.adapters.local import doctor
from santiago_platform.adapters.local.doctor import Finding, Health, examine
from santiago_platform.adapters.local.port_registry import PortRegistry

Found = Callable[[], dict[str, Finding]]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))
    root = tmp_path / "workspace"
    (root / ".santiago").mkdir(parents=True)
    registry = PortRegistry(root)
    server, ingress = registry.claim("server"), registry.claim("ingress")
    (root / "santiago.yaml").write_text(f"addresses: {{server_port: {server}, ingress_port: {ingress}}}\n")
    return root


@pytest.fixture
def found(workspace: Path) -> Found:
    return lambda: {finding.subject: finding for finding in examine(workspace)}


def ports(workspace: Path) -> dict[str, int]:
    return PortRegistry(workspace).mine()


def test_everything_that_is_wrong_says_how_to_mend_it(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(workspace))
    monkeypatch.setenv("XDG_CACHE_HOME", str(workspace / "cache"))
    wrong = {f.subject: f for f in examine(None) if f.health is not Health.OK}
    assert {"s6-svscan", "prometheus", "alertmanager", "git", "flock"} <= set(wrong)
    assert all(finding.mend for finding in wrong.values())
    assert wrong["git"].health is Health.PROBLEM


def test_a_machine_is_examined_without_a_workspace() -> None:
    subjects = {finding.subject for finding in examine(None)}
    assert {"disk", "cgroups", "envoy"} <= subjects
    assert "santiago.yaml" not in subjects


def test_a_sound_workspace_has_free_ports_and_is_not_running(workspace: Path, found: Found) -> None:
    findings = found()
    server = ports(workspace)["server"]
    assert findings["santiago.yaml"].health is Health.OK
    assert findings["platform"].said == "not running"
    assert findings[f"server port {server}"].said == "free"


def test_a_mistake_in_the_settings_is_told_with_its_place(workspace: Path, found: Found) -> None:
    (workspace / "santiago.yaml").write_text("version: 1\nadresses: {}\n")
    finding = found()["santiago.yaml"]
    assert finding.health is Health.PROBLEM
    assert finding.said.startswith("santiago.yaml:2: ")
    assert "addresses" in finding.mend


def test_a_mistake_in_a_service_is_told_and_the_others_are_looked_at(workspace: Path, found: Found) -> None:
    (workspace / "services" / "shop").mkdir(parents=True)
    (workspace / "services" / "shop" / "score.yaml").write_text("apiVersion: score.dev/v1b1\nmetadata: {name: 5}\n")
    findings = found()
    assert findings["service shop"].health is Health.PROBLEM
    assert "services/shop/score.yaml:" in findings["service shop"].said
    assert findings["platform"].health is Health.OK


def test_a_port_that_another_program_listens_on_is_a_problem(workspace: Path, found: Found) -> None:
    port = ports(workspace)["ingress"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        finding = found()[f"ingress port {port}"]
    assert (finding.health, finding.said) == (Health.PROBLEM, "another program listens on it")
    assert "santiago.yaml" in finding.mend


def test_a_port_of_another_workspace_names_it(workspace: Path, found: Found, tmp_path: Path) -> None:
    port = ports(workspace)["ingress"]
    PortRegistry(workspace).release("ingress")
    (tmp_path / "other" / ".santiago").mkdir(parents=True)
    PortRegistry(tmp_path / "other").claim("ingress", port=port)
    finding = found()[f"ingress port {port}"]
    assert (finding.health, finding.said) == (Health.PROBLEM, f"belongs to the workspace {tmp_path / 'other'}")


def test_a_full_disk_is_a_warning(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(1 << 40, (1 << 40) - 5, 5))
    assert found()["disk"].health is Health.WARNING


def test_control_groups_that_cannot_be_written_are_a_warning(
    found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "CGROUPS", tmp_path / "none")
    assert found()["cgroups"].health is Health.WARNING
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "cgroup.controllers").touch()
    assert (found()["cgroups"].health, found()["cgroups"].said) == (Health.OK, "version 2, writable")
