"""`santiago`: the command line. Commands parse, ask the daemon and print; they decide nothing."""

from __future__ import annotations

import sys

from ...domain.errors import ErrorCode, PlatformError
from . import (
    alert,
    audit,
    backup,
    dashboards,
    flag,
    gates,
    incident,
    jobs,
    life,
    mail,
    monitoring,
    policy,
    report,
    secret,
    service,
    session,
)
from .app import app, console

for module in (
    life,
    service,
    jobs,
    gates,
    flag,
    alert,
    monitoring,
    incident,
    secret,
    mail,
    report,
    dashboards,
    backup,
    policy,
    session,
    audit,
):
    module.register(app)


def main() -> None:
    """Runs the command; an error is told in words, with what to do next, and exit status 1."""
    try:
        app()
    except PlatformError as exc:
        console.failed(exc)
        sys.exit(1)
    except OSError as exc:
        what = f"{exc.filename or 'the system'}: {exc.strerror or exc}"
        console.failed(PlatformError(ErrorCode.UNAVAILABLE, what, "`santiago doctor` looks at this machine"))
        sys.exit(1)
