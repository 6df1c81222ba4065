"""Where a provider's key comes from: a variable of the environment, or a file that is its owner's alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from ...domain.advisor import Provider
from ...domain.errors import ErrorCode, PlatformError

KEY_BYTES = 10_000


class Keys:
    """kept: a directory of 0700 for keys that `up` found in its environment: the daemon does not get all of that, and
    a key has no place in the words that start a process, where everybody reads it."""

    def __init__(self, root: Path, kept: Path, variables: Mapping[str, str] = os.environ) -> None:
        self._root = root
        self._kept = kept
        self._variables = variables

    def __call__(self, provider: Provider) -> str | None:
        """None where it needs none. Raises FAILED_PRECONDITION where it is missing, or others can read it."""
        if provider.key_file is not None:
            return self._read(self._root / Path(provider.key_file).expanduser(), f"the key file {provider.key_file}")
        variable = provider.variable
        if variable is None:
            return None
        if value := self._variables.get(variable, "").strip():
            return _header(value, f"the variable {variable}")
        kept = self._kept / variable
        if kept.exists():
            return self._read(kept, f"the key that was kept of {variable}")
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"there is no key: {variable} is not set",
            "set it for `santiago up`, which keeps it in .santiago/keys; or name a key_file",
        )

    def keep(self, providers: Mapping[str, Provider]) -> list[str]:
        """Keeps those that the environment has, each in a file of 0600. Returns the names of the variables."""
        found = sorted({v for p in providers.values() if (v := p.variable) and self._variables.get(v, "").strip()})
        for variable in found:
            self._kept.mkdir(mode=0o700, parents=True, exist_ok=True)
            partial = self._kept / f"{variable}.new"
            partial.unlink(missing_ok=True)
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(self._variables[variable].strip())
            partial.rename(self._kept / variable)
        return found

    def _read(self, path: Path, what: str) -> str:
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(KEY_BYTES).decode().strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION, f"{what} cannot be read", "is it there, and the daemon's to read?"
            ) from exc
        if not stat.S_ISREG(mode) or mode & 0o077:
            raise PlatformError(ErrorCode.FAILED_PRECONDITION, f"{what} can be read by others", f"chmod 600 {path}")
        return _header(text, what)


def _header(key: str, what: str) -> str:
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise PlatformError(ErrorCode.FAILED_PRECONDITION, f"{what} holds no key", "one line, as the provider gave it")
    return key
