"""How variables reach a program: never as words of a command, which everybody on the machine can list.

A file in the unit's directory (0600) exports their values under names that mean nothing. Whatever comes in front of the
program, with more privileges than it, passes them on and is not moved by them: LD_PRELOAD is then `santiago_3`. Last
comes env, whose -S puts values in place itself: its words have names alone.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

FILE = "environment"


def harmless(environment: Mapping[str, str]) -> dict[str, str]:
    """The values under the names that `clean` takes them from."""
    return {f"santiago_{index}": value for index, (_, value) in enumerate(sorted(environment.items()))}


def exports(environment: Mapping[str, str]) -> str:
    """A script for a shell to read before it becomes what ends in `clean`."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in harmless(environment).items())


def clean(environment: Mapping[str, str], *options: str) -> tuple[str, ...]:
    """Words in front of a program, which then has exactly these variables. options: further ones of env."""
    pairs = [f"{_quoted(name)}=${{santiago_{index}}}" for index, name in enumerate(sorted(environment))]
    return "env", "-S", " ".join([*options, "-i", "--", *pairs])


def _quoted(name: str) -> str:
    """For -S, whose single quotes keep all but backslashes and themselves."""
    return "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"
