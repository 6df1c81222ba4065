from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from ...domain.errors import ErrorCode, PlatformError
from ...domain.identity import Role
from ...domain.policy import ATTEST_ACTIONS, CHANGE_ACTIONS, Decision, Question, Verdict
from ..workspace.text_file import read_within
from .policy_set import PolicySet, compile_policies

FOLDER = "policies"
FILES = 100
DECISIONS_KEPT = 4096
BROKEN = "broken-policies"  # the rule that answers where the workspace's policies were never valid

_Stamp = tuple[tuple[str, int, int, int], ...]


class CedarPolicy:
    """Implements ports.policy.Policy by Cedar: the default policies and those of WORKSPACE/policies/*.cedar.

    root: of the workspace, resolved; None: the default policies alone.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = root
        self._stamp: _Stamp | None = None
        self._problem = ""
        self._decide: Callable[[Question], Decision] | None = None
        self._version = BROKEN

    def decide(self, question: Question) -> Decision:
        self._look()
        if self._decide is not None:
            return self._decide(question)
        owner = question.principal.role is Role.OWNER
        if owner and question.action not in CHANGE_ACTIONS | ATTEST_ACTIONS:
            return compile_policies(()).decide(question)
        return Decision(verdict=Verdict.DENY, rules=(BROKEN,))

    def version(self) -> str:
        self._look()
        return self._version

    def problems(self) -> list[str]:
        self._look()
        return [self._problem] if self._problem else []

    def _look(self) -> None:
        """Reads the files again where one has changed."""
        stamp = _stamped(self._root)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            policies = read_policies(self._root)
        except PlatformError as exc:
            self._problem = exc.message
            return
        self._problem, self._version = "", policies.version
        self._decide = lru_cache(maxsize=DECISIONS_KEPT)(policies.decide)


def read_policies(root: Path | None) -> PolicySet:
    """As they stand now. Raises PlatformError(INVALID_ARGUMENT) that begins `FILE:LINE: `."""
    paths = [f"{FOLDER}/{name}" for name, *_ in _stamped(root)]
    if len(paths) > FILES:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT, f"{FOLDER}:1: more than {FILES} files", "put several policies into one"
        )
    return compile_policies([(path, _read(root, path)) for path in paths if root is not None])


def _read(root: Path, path: str) -> str:
    """A rule that cannot be read may be one that forbids: that is an error, never a rule less."""
    text = read_within(root, path)
    if text is None:
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"{path}:1: leads to no file", "remove it, or mend the link")
    return text


def _stamped(root: Path | None) -> _Stamp:
    """The files by name, with what shows that one was written."""
    if root is None:
        return ()
    try:
        entries = [entry for entry in os.scandir(root / FOLDER) if entry.name.endswith(".cedar")]
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as exc:
        return ((f"({exc.strerror})", 0, 0, 0),)  # reading says what is wrong
    return tuple(sorted((entry.name, *_signs(entry)) for entry in entries))


def _signs(entry: os.DirEntry[str]) -> tuple[int, int, int]:
    try:
        found = entry.stat()
    except OSError:
        return (0, 0, 0)
    return found.st_ino, found.st_mtime_ns, found.st_size
