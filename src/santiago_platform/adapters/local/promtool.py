"""Rules as Prometheus' files have them, and what promtool says of them before they are loaded."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ...domain.errors import ErrorCode, PlatformError
from ...domain.rules import Rule, RuleGroup, RuleTest
from . import binaries

CHECK_SECONDS = 60.0
SHOWN_CHARACTERS = 2_000
_RULES, _TESTS = "rules.yaml", "tests.yaml"


def render_rules(groups: Sequence[RuleGroup], *, annotations: bool = True) -> str:
    """The text of a rule file. Durations are written in milliseconds, which every version reads."""
    return _dump(
        {
            "groups": [group_document(group, annotations=annotations) for group in groups],
        }
    )


def group_document(group: RuleGroup, *, annotations: bool = True) -> dict[str, Any]:
    """As rule files, rulers and the operator take it."""
    return {
        "name": group.name,
        "interval": _duration(group.interval_seconds),
        "rules": [_rule(rule, annotations=annotations) for rule in group.rules],
    }


def render_tests(groups: Sequence[RuleGroup], tests: Sequence[RuleTest]) -> str:
    """The text of a test file for the rules beside it, which have no annotations: promtool compares them exactly, and
    words are not what is tested. All groups are evaluated as often as the shortest."""
    return _dump(
        {
            "rule_files": [_RULES],
            "evaluation_interval": _duration(min((group.interval_seconds for group in groups), default=60)),
            "group_eval_order": [group.name for group in groups],
            "tests": [_test(test) for test in tests],
        }
    )


async def check_rules(groups: Sequence[RuleGroup], tests: Sequence[RuleTest] = ()) -> None:
    """Raises PlatformError: INVALID_ARGUMENT with promtool's words for rules that do not parse or that fail their
    tests, UNSUPPORTED where there is no promtool. A cancellation ends promtool."""
    found = binaries.find("promtool")
    if found is None:
        raise PlatformError(
            ErrorCode.UNSUPPORTED, "the program promtool is missing", "`santiago doctor --fetch` fetches it"
        )
    with tempfile.TemporaryDirectory(prefix="promtool-") as scratch:
        folder = Path(scratch)
        (folder / _RULES).write_text(render_rules(groups))
        await _run(found.path, folder, "check", "rules", _RULES)
        if tests:
            (folder / _RULES).write_text(render_rules(groups, annotations=False))
            (folder / _TESTS).write_text(render_tests(groups, tests))
            await _run(found.path, folder, "test", "rules", _TESTS)


def _rule(rule: Rule, *, annotations: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"record": rule.record} if rule.record else {"alert": rule.alert}
    shown["expr"] = rule.expr
    if rule.for_seconds:
        shown["for"] = _duration(rule.for_seconds)
    if rule.labels:
        shown["labels"] = rule.labels
    if rule.annotations and annotations:
        shown["annotations"] = rule.annotations
    return shown


def _test(test: RuleTest) -> dict[str, Any]:
    return {
        "name": test.name,
        "interval": _duration(test.interval_seconds),
        "input_series": [{"series": selector, "values": values} for selector, values in test.series.items()],
        "alert_rule_test": [
            {
                "eval_time": _duration(at),
                "alertname": name,
                "exp_alerts": [{"exp_labels": labels} for labels in expected],
            }
            for name, at, expected in test.alerts
        ],
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": _duration(at),
                "exp_samples": [{"labels": labels, "value": value} for labels, value in expected.items()],
            }
            for expression, at, expected in test.values
        ],
    }


async def _run(promtool: Path, folder: Path, *words: str) -> None:
    process = await asyncio.create_subprocess_exec(
        promtool,
        *words,
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},  # it keeps the series of a test there
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError as exc:
        raise PlatformError(
            ErrorCode.DEADLINE_EXCEEDED,
            f"promtool had not ended after {CHECK_SECONDS:g} s",
            "check fewer rules at once",
        ) from exc
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        text = said.decode(errors="replace").strip()
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            f"promtool refuses the rules: {text[:SHOWN_CHARACTERS]}",
            "mend the expressions that it names",
        )


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def _dump(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, width=10_000, allow_unicode=True)
