"""Gates in santiago.yaml: read, and refused with file, line and hint."""

from __future__ import annotations

from pathlib import Path

import pytest

from santiago_platform.adapters.workspace.workspace import FileWorkspace
from santiago_platform.domain.errors import PlatformError

GATES = """\
environments:
  staging: {}
  production:
    gates:
      - {type: tests, names: [unit, e2e], min_tests: 5, required: true}
      - {type: coverage, min_line_ratio: 0.7}
      - {type: scan, max_high: null, max_age_days: 7}
      - {type: signature}
      - {type: incident}
      - {type: error_budget, min_remaining_ratio: 0.1}
      - {type: freeze, name: christmas, start: 2026-12-23T12:00:00, duration: P12D, rule: FREQ=YEARLY,
         timezone: Europe/Berlin}
      - {type: promotion, after: staging, minutes: 30}
      - {type: webhook, url: "https://change.example.com/gate", token_file: .santiago/hook.token}
      - {type: approval, role: pm}
parity:
  allowed: {replicas: production carries the load}
"""


def workspace(folder: Path, text: str) -> FileWorkspace:
    (folder / "santiago.yaml").write_text(text)
    return FileWorkspace(folder)


def test_every_type_is_read_in_its_order(tmp_path: Path) -> None:
    settings = workspace(tmp_path, GATES).settings()
    labels = [gate.label for gate in settings.environments["production"].gates]
    assert labels == [
        "tests",
        "coverage",
        "scan",
        "signature",
        "incident",
        "error_budget",
        "christmas",
        "promotion",
        "webhook",
        "approval",
    ]
    assert (settings.before("production"), settings.before("staging")) == ("staging", None)


@pytest.mark.parametrize(
    ("before", "after", "line", "words", "hint"),
    [
        ("type: signature", "type: signatur", 8, "signatur", ""),
        ("min_tests", "min_test", 5, "unknown key 'min_test'", "did you mean min_tests"),
        ("min_line_ratio: 0.7", "min_line_ratio: 70", 6, "less than or equal to 1", ""),
        ("timezone: Europe/Berlin", "timezone: Berlin", 12, "'Berlin' is no time zone", ""),
        ("rule: FREQ=YEARLY", "rule: FREQ=YEARLY;BYDAY=XX", 11, "is no RRULE of RFC 5545", ""),
        ("after: staging", "after: stagin", 13, "there is no environment stagin", "did you mean staging"),
        ("https://change", "ftp://change", 14, "pattern", ""),
        ("role: pm", "role: boss", 15, "role", ""),
    ],
)
def test_a_mistake_is_told_with_its_line_and_a_hint(
    tmp_path: Path, before: str, after: str, line: int, words: str, hint: str
) -> None:
    assert before in GATES
    with pytest.raises(PlatformError) as raised:
        workspace(tmp_path, GATES.replace(before, after)).settings()
    assert raised.value.message.startswith(f"santiago.yaml:{line}: ")
    assert words in raised.value.message
    assert hint in raised.value.hint
