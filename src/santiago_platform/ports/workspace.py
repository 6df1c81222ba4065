from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ..domain.environment import Settings
from ..domain.slo import Slo
from ..domain.workload import Template


class Workspace(Protocol):
    """Reads what the user keeps in git. Read anew at each call; nothing is cached that a person may edit.

    Every error is a PlatformError(INVALID_ARGUMENT) whose message begins `FILE:LINE: `.
    """

    @property
    def root(self) -> Path: ...

    def settings(self) -> Settings:
        """santiago.yaml."""

    def last_good_settings(self) -> Settings:
        """santiago.yaml, or what it last said in this process before it was made invalid.

        For what must work while somebody mends the file: reads, and the way back.
        """

    def services(self) -> list[str]:
        """Names of the folders under services/ that hold a score.yaml."""

    def template(self, score: str, *, release: str, environment: str, where: str) -> Template:
        """The workload `score` (the text of a score.yaml) resolved for a release and an environment.

        where: names the text in errors. Raises INVALID_ARGUMENT for a file that is not Score v1b1, NOT_FOUND for
        an environment that santiago.yaml does not have, UNSUPPORTED for what this platform cannot run.
        """

    def score(self, service: str) -> str:
        """The text of services/NAME/score.yaml in the working tree. Raises NOT_FOUND."""

    def slos(self, service: str, text: str | None = None) -> tuple[Slo, ...]:
        """The objectives in services/NAME/slo.yaml, or in `text` in its place; each once for every environment in which
        it holds. Of domain.slo.PLATFORM: the platform's own, in slo.yaml. Empty where there is no such file.
        """

    def role_card(self) -> str:
        """Who an advisor is and how it answers: the file that santiago.yaml names, else what ships."""

    def schema(self, file: str) -> str:
        """The JSON schema of one of its files: santiago, score, build or flags. Raises NOT_FOUND."""

    def documents(self) -> list[tuple[str, str]]:
        """(path, text) of docs/architecture/*.md, sorted by path."""
