"""Anchors of the ship's log in git: each commit of the workspace carries the signed head of its moment.

Whoever cuts the log, or writes it anew and signs it with another key, would have to rewrite the history of git too,
also where others have fetched it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

from ...domain.errors import ErrorCode, PlatformError
from ...domain.ship_log import Anchor

TRAILER = "Ships-Log"
COMMIT_LIMIT = 10_000
TIMEOUT_SECONDS = 30

_HOOK = "prepare-commit-msg"
_CHAINED = f"{_HOOK}.before-ships-log"
_MARK = "# Anchors the ship's log"
_TRAILER = re.compile(r"([0-9a-f]{40,64}) (\d{1,18}) ([0-9a-f]{64}) ([0-9a-f]{128}) ([0-9a-f]{64})")


def install_anchor(root: Path, head_file: Path) -> Path:
    """Makes git write the signed head into each commit of the repository at `root`. Returns the hook's path.

    head_file: the log's head.json, below the top of the work tree. A hook that is there already is kept and runs
    first. Called again, it changes nothing. Raises PlatformError: FAILED_PRECONDITION where `root` is no repository or
    its hooks lie outside of it, CONFLICT where there is a hook to keep and one that is kept already.
    """
    top, common, hooks = (
        Path(os.path.realpath(root / line))
        for line in _git(root, "rev-parse", "--show-toplevel", "--git-common-dir", "--git-path", "hooks").splitlines()
    )
    if not (hooks.is_relative_to(common) or hooks.is_relative_to(top)):
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"the git hooks of {root} lie in {hooks}, outside of the repository, where others share them",
            "set core.hooksPath of this repository: `git config core.hooksPath .git/hooks`",
        )
    script = _script(Path(os.path.realpath(head_file)).relative_to(top))
    hooks.mkdir(parents=True, exist_ok=True)
    hook, chained = hooks / _HOOK, hooks / _CHAINED
    if os.path.lexists(hook):
        content = hook.read_bytes() if hook.is_file() else b""
        if content == script:
            return hook
        if _MARK.encode() not in content:
            if os.path.lexists(chained):
                raise PlatformError(
                    ErrorCode.CONFLICT,
                    f"{hook} is not the hook of the ship's log, and {chained} is kept from an earlier one",
                    f"join the two into {chained.name} and remove {hook.name}",
                )
            hook.rename(chained)
    fresh = hooks / f".{_HOOK}.new"
    fresh.write_bytes(script)
    fresh.chmod(0o755)
    fresh.replace(hook)
    return hook


def anchors(root: Path) -> list[Anchor]:
    """The anchors in the newest 10,000 commits of the current branch, newest first.

    Commits are others' text: a trailer of another form is passed over, a false one does not hold when it is verified.
    Raises PlatformError(FAILED_PRECONDITION) where `root` is no repository.
    """
    if not _git(root, "rev-list", "--all", "--max-count=1"):
        return []
    log = _git(
        root,
        "log",
        f"--max-count={COMMIT_LIMIT}",
        f"--format=%H %(trailers:key={TRAILER},valueonly,separator=%x20)",
        "HEAD",
        "--",
    )
    found = (_TRAILER.fullmatch(line.rstrip()) for line in log.splitlines())
    return [
        Anchor(where=f"commit {commit[:12]}", seq=int(seq), hash=hash, signature=signature, key=key)
        for commit, seq, hash, signature, key in (match.groups() for match in found if match)
    ]


def _script(head_file: Path) -> bytes:
    """The hook. git runs it at the top of the work tree; it never keeps a commit from being made."""
    hexadecimal = r'"\([0-9a-f]*\)"'
    head = rf'"seq":\([0-9]*\),"hash":{hexadecimal}.*"key":{hexadecimal},"signature":{hexadecimal}'
    return f"""\
#!/bin/sh
{_MARK}: the chain's signed end goes into the message of each commit.
# A hook that was here before is {_CHAINED}, and runs first.
before="$(dirname "$0")/{_CHAINED}"
if [ -x "$before" ]; then
    "$before" "$@" || exit $?
fi
head=$(sed -n 's/.*{head}.*/\\1 \\2 \\4 \\3/p' {shlex.quote("./" + str(head_file))} 2>/dev/null)
if [ -n "$head" ]; then
    git interpret-trailers --in-place --if-exists replace --trailer "{TRAILER}: $head" "$1" || :
fi
exit 0
""".encode()


def _git(root: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "--no-pager", *arguments],
            env=environment | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=True,
        )
    except FileNotFoundError as exc:
        raise PlatformError(ErrorCode.FAILED_PRECONDITION, "git is missing", "install git") from exc
    except subprocess.TimeoutExpired as exc:
        raise PlatformError(
            ErrorCode.DEADLINE_EXCEEDED, f"git {arguments[0]} in {root} took more than {TIMEOUT_SECONDS} s", "try again"
        ) from exc
    except subprocess.CalledProcessError as exc:
        words = exc.stderr.decode(errors="replace").strip()
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"git {arguments[0]} failed in {root}: {words[:300]}",
            "the workspace must be a git repository that this user owns: `git init`",
            internal=words,
        ) from exc
    return done.stdout.decode(errors="replace")
