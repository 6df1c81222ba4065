"""The target of a service's objectives, as far as judging a canary needs it: OpenSLO v1, documents of kind SLO."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from ...domain.errors import ErrorCode, PlatformError


def tightest_target(text: str, where: str) -> float | None:
    """In (0, 1): the largest of all objectives; None where there is none. where: the file, for an error.

    Raises PlatformError(INVALID_ARGUMENT) for what is no YAML.
    """
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as exc:
        line = exc.problem_mark.line + 1 if isinstance(exc, yaml.MarkedYAMLError) and exc.problem_mark else 1
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT, f"{where}:{line}: it is not valid YAML", "OpenSLO v1 has the form"
        ) from exc
    return max((target for document in documents for target in _targets(document)), default=None)


def _targets(document: Any) -> Iterator[float]:
    if not isinstance(document, dict) or document.get("kind") != "SLO":
        return
    spec = document.get("spec")
    objectives = spec.get("objectives") if isinstance(spec, dict) else None
    for objective in objectives if isinstance(objectives, list) else ():
        if not isinstance(objective, dict):
            continue
        for name, whole in (("target", 1), ("targetPercent", 100)):
            said = objective.get(name)
            if isinstance(said, int | float) and not isinstance(said, bool) and 0 < said / whole < 1:
                yield said / whole
