from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from santiago_platform.domain.deployment import Version
from santiago_platform.domain.phase import Phase
from santiago_platform.domain.rollout import Rehearsal
from santiago_platform.domain.strategy import Strategy
from santiago_platform.domain.way_back import way_back
from santiago_platform.domain.workload import Port
from santiago_platform.testing.rows import START, rollout, version


def served(release: str) -> Version:
    plain = version(release)
    ports = {"ports": (Port(name="http", target=80),)}
    return plain.model_copy(update={"template": plain.template.model_copy(update=ports)})


OLD, NEW = served("sha256:" + "a" * 64), served("sha256:" + "b" * 64)
DONE = {"phase": Phase.SUCCEEDED, "moved": True, "rehearsal": Rehearsal(at=START, healthy=1)}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"old": None}, "none: nothing was live before"),
        ({"new": None}, "which runs until the end and is kept warm for 600 s; it is rehearsed, and proven, before"),
        ({"rollback_window_seconds": 0.0}, "which runs until the end; it is rehearsed"),
        ({"strategy": Strategy.CANARY}, "kept warm for 600 s; it is rehearsed"),
        ({"strategy": Strategy.ROLLING}, "of which one instance runs until the end; it is rehearsed"),
        (
            {"strategy": Strategy.RECREATE},
            "which is stopped before the new one starts; not rehearsed: the two versions",
        ),
        ({"new": version("sha256:" + "c" * 64)}, "not rehearsed: without ports there is no route"),
        ({"runs_jobs": False}, "not rehearsed: it is a way back itself"),
        ({"moved": True}, "; not rehearsed"),
        (DONE, "which is started first; rehearsed at 2026-01-01 00:00:00Z, when 1 of 2 of its"),
    ],
)
def test_the_way_back_in_words(fields: dict[str, Any], words: str) -> None:
    said = way_back(rollout(**{"old": OLD, "new": NEW, "runs_jobs": True, **fields}))
    assert words in said
    assert said.startswith("none" if "old" in fields else f"to version {OLD.name}, ")


def test_how_long_the_version_before_is_kept_warm_is_what_the_deployment_says() -> None:
    said = way_back(rollout(old=OLD, new=NEW, runs_jobs=True, **DONE), START + timedelta(seconds=900))
    assert f"to version {OLD.name}, kept warm until 2026-01-01 00:15:00Z, and started first after that; " in said


@pytest.mark.parametrize(
    "fields", [{"new": OLD}, {"phase": Phase.ROLLED_BACK}, {"phase": Phase.FAILED}, {**DONE, "stranded": True}]
)
def test_there_is_nothing_to_go_back_from(fields: dict[str, Any]) -> None:
    assert way_back(rollout(**{"old": OLD, "new": NEW, "runs_jobs": True, **fields})) == ""
