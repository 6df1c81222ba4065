from __future__ import annotations

import subprocess
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from santiago_platform.adapters.local.environment import clean, exports, harmless

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
NAME = st.text(st.characters(exclude_characters="\0=", exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(NAME, TEXT, max_size=4))
def test_a_program_gets_exactly_these_variables_whatever_they_hold(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "exports").write_text(exports(environment), newline="")
    script = '. ./exports && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *clean(environment), "/usr/bin/env", "-0"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert set(done.stdout.split(b"\0")) - {b""} == {f"{k}={v}".encode() for k, v in environment.items()}


def test_no_value_is_a_word_of_the_command() -> None:
    words = clean({"PASSWORD": "hunter2", "PATH": "/bin"}, "--default-signal=INT")
    assert words == ("env", "-S", "--default-signal=INT -i -- 'PASSWORD'=${santiago_0} 'PATH'=${santiago_1}")


def test_what_comes_in_front_of_the_program_is_moved_by_no_variable() -> None:
    assert harmless({"LD_PRELOAD": "evil.so", "PATH": "/evil"}) == {"santiago_0": "evil.so", "santiago_1": "/evil"}
