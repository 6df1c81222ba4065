"""The secrets that a workload refers to: by a resource of type `secret`, or by `${secrets.NAME}` in santiago.yaml."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from ...domain.errors import ErrorCode, PlatformError
from ...domain.secret import SecretRef
from .placeholder import PlaceholderError
from .score import is_name
from .yaml_document import NAME_RULE

_SETTING = re.compile(r"(?P<escaped>\$?)\$\{secrets\.(?P<name>[^}]*)\}")  # the one placeholder of santiago.yaml


@dataclass(frozen=True)
class References:
    """newest: of the secret that the service has under a name. found: all that were asked for, by their text."""

    service: str
    environment: str
    newest: Callable[[str], SecretRef | None]
    found: dict[str, SecretRef] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """What stands for the newest version. Raises PlaceholderError."""
        if not is_name(name):
            raise PlaceholderError(f"{name!r:.60} cannot name a secret", NAME_RULE)
        ref = self.newest(name)
        if ref is None:  # what to do is part of the problem: a rollout that ends with it keeps no hint
            raise PlaceholderError(
                f"{self.service} has no secret {name} in {self.environment}: "
                f"`santiago secret set {name} --env {self.environment}` makes it",
                "`santiago secret list` shows those that there are",
            )
        self.found[str(ref)] = ref
        return str(ref)

    def in_setting(self, variable: str, value: str) -> str:
        """A variable of santiago.yaml, in which all other text is as it is. Raises PlatformError."""

        def replace(match: re.Match[str]) -> str:
            return match[0][1:] if match["escaped"] else self.text(match["name"])

        try:
            return _SETTING.sub(replace, value)
        except PlaceholderError as exc:
            where = f"santiago.yaml:1: variables.{variable} of {self.service} in {self.environment}"
            raise PlatformError(ErrorCode.FAILED_PRECONDITION, f"{where}: {exc.problem}", exc.hint) from exc

    def all(self) -> tuple[SecretRef, ...]:
        return tuple(self.found[text] for text in sorted(self.found))
