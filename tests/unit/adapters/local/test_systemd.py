from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local.systemd import SystemdUnit, systemd_unit
from santiago_platform.domain.errors import ErrorCode, PlatformError

UP = ("/bin/sh", "-m", "santiago_platform")


def unit(root: str = "/srv/harbour", *, uid: int = 0, **variables: str) -> SystemdUnit:
    return systemd_unit(Layout(Path(root)), (*UP, "--workspace", root, "up"), variables, uid=uid)


def test_root_gets_a_unit_of_the_system_and_others_one_of_their_own() -> None:
    system = unit()
    assert system.path.parent == Path("/etc/systemd/system")
    assert "User=root\n" in system.text
    assert "WantedBy=multi-user.target" in system.text
    own = unit(uid=1, XDG_CONFIG_HOME="/home/somebody/.config")
    assert own.path.parent == Path("/home/somebody/.config/systemd/user")
    assert "User=" not in own.text
    assert "WantedBy=default.target" in own.text
    assert "loginctl enable-linger" in own.text
    assert "systemctl --user enable --now" in own.text


def test_two_workspaces_of_one_name_have_units_of_different_names() -> None:
    assert unit("/srv/a/harbour").name != unit("/srv/b/harbour").name
    assert unit().name.startswith("santiago-harbour-")


def test_it_has_the_variables_that_matter_and_no_secret() -> None:
    text = unit(PATH="/usr/bin", SANTIAGO_PORT="9000", SANTIAGO_TOKEN="secret", HISTFILE="x").text
    assert 'Environment="PATH=/usr/bin"\nEnvironment="SANTIAGO_PORT=9000"\n' in text
    assert "secret" not in text
    assert "HISTFILE" not in text


def test_odd_paths_stay_one_word() -> None:
    text = unit('/srv/100% "my" $harbour\\').text
    assert r'"--workspace" "/srv/100%% \"my\" $$harbour\\" "up"' in text
    assert 'WorkingDirectory=/srv/100%% "my" $harbour\\\n' in text


@pytest.mark.parametrize("root", ["/srv/a\nExecStartPre=/bin/evil", "/srv/a\x1b[0m"])
def test_a_path_that_would_be_another_line_is_refused(root: str) -> None:
    with pytest.raises(PlatformError) as refused:
        unit(root)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd-analyze")
@pytest.mark.parametrize("uid", [0, 1])
def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path, uid: int) -> None:
    root = tmp_path / "my 100% har$bour"
    root.mkdir()
    made = unit(str(root), uid=uid, PATH="/usr/bin:/bin")
    (tmp_path / made.name).write_text(made.text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *([] if uid == 0 else ["--user"]), str(tmp_path / made.name)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
