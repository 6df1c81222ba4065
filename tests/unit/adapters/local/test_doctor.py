from __future__ import annotations

import os
import shutil
import socket
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from santiago_platform.adapters.local import doctor
from santiago_platform.adapters.local.control_group import ControlGroups
from santiago_platform.adapters.local.doctor import Finding, Health, examine
from santiago_platform.adapters.local.mounts import Namespace
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


@pytest.mark.parametrize(("free_mib", "health"), [(5, Health.PROBLEM), (700, Health.WARNING), (1500, Health.OK)])
def test_a_disk_is_judged_by_the_limits_of_the_workspace(
    workspace: Path, found: Found, monkeypatch: pytest.MonkeyPatch, free_mib: int, health: Health
) -> None:
    usage = namedtuple("usage", "total used free")
    free = free_mib << 20
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(1 << 40, (1 << 40) - free, free))
    assert found()["disk"].health is health
    (workspace / "santiago.yaml").write_text("disk: {warn_bytes: 0, stop_bytes: 0}\n")
    assert found()["disk"].health is Health.OK


def test_limits_that_the_kernel_does_not_enforce_are_a_warning(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ControlGroups", lambda name: ControlGroups(name, mounts=Path("/dev/null")))
    assert found()["cgroups"].health is Health.WARNING
    assert "not kernel-enforced" in found()["cgroups"].said
    assert "not enforced" in found()["cgroups"].said


def test_tenants_that_cannot_be_kept_apart_are_a_problem(
    workspace: Path, found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = workspace / "santiago.yaml"
    settings.write_text(settings.read_text() + "tenants: {shop: {services: [till]}}\n")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert found()["tenant shop"].health is Health.PROBLEM
    assert "does not run as root" in found()["tenant shop"].said


def test_a_machine_that_gives_no_namespaces_is_a_warning_with_the_way_to_mend_it(
    found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "namespace", lambda: Namespace(problem="unshare failed: Operation not permitted"))
    assert found()["namespaces"].health is Health.WARNING
    assert "Operation not permitted" in found()["namespaces"].said
    assert "as root" in found()["namespaces"].mend
