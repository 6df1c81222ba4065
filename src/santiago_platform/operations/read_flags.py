"""Shows feature flags: what each is in each environment, how far its ramp is, what was changed, and by whom."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

from pydantic import WithJsonSchema

from ..domain.errors import ErrorCode, PlatformError
from ..domain.flag import CODE_DEFAULT, DISABLED, KILLED_AT, Flag, FlagFile, Metadata, answer_text, expired
from ..domain.identity import Principal
from ..domain.operation import Operation
from ..domain.ramp import share_of
from ..domain.value import Value
from ..ports import Ports
from .authority import ALL
from .configure_flag import FlagChange, admit_to_flags, configure_flag, flag_operations
from .operation_view import ProofView, render, view
from .plan_view import Advice, PlanView

LIMIT = 100


class FlagView(Value):
    """environment: where it differs from all others. serves: in words. definition: where one flag was asked for."""

    flag: str
    environment: str = ""
    serves: str
    metadata: Metadata = {}
    definition: dict[str, object] | None = None


class FlagChangeView(Value):
    """state: succeeded means served and read back. before, after: as flags.json says it."""

    id: str
    what: str
    state: str
    by: str
    at: datetime
    reason: str = ""
    before: dict[str, object] | None = None
    after: dict[str, object] | None = None
    proof: ProofView | None = None


class FlagsAnswer(Value):
    """warnings: of flags that expired. url: for providers of OFREP, where one environment was asked for."""

    flags: tuple[FlagView, ...] = ()
    changes: tuple[FlagChangeView, ...] = ()
    warnings: tuple[str, ...] = ()
    url: str = ""
    plan: Annotated[PlanView | None, WithJsonSchema({"type": "object"})] = None


async def read_flags(
    ports: Ports, principal: Principal, flag: str | None, environment: str | None, *, history: bool
) -> FlagsAnswer:
    """Raises PlatformError: PERMISSION_DENIED, NOT_FOUND for a flag that there is not."""
    settings = ports.workspace.last_good_settings()
    admit_to_flags(ports, principal, "read_architecture", settings, environment or ALL)
    if history:
        found = await ports.store.read(lambda view: flag_operations(view, flag, 20))
        return FlagsAnswer(changes=tuple(_change(o, whole=True) for o in found))
    file = await ports.flags.read()
    if flag is not None and flag not in file.flags:
        known = ", ".join(sorted(file.flags)[:20]) or "none"
        raise PlatformError(ErrorCode.NOT_FOUND, f"there is no flag {flag}", f"there are: {known}")
    now = ports.clock.now()
    names = [flag] if flag is not None else list(file.flags)
    shown = [view for name in names for view in _views(file, name, environment, now, whole=flag is not None)]
    return FlagsAnswer(
        flags=tuple(shown[:LIMIT]),
        warnings=tuple(said for _, said in expired(file, now)),
        url=ports.flags.url(environment) if environment is not None and file.flags else "",
    )


async def change_flag(
    ports: Ports, principal: Principal, asked: FlagChange, *, advice: Advice | None = None
) -> FlagsAnswer:
    """Does the change, or lets it wait for somebody, and shows it and the flag. advice: it was planned of words."""
    done = await configure_flag(ports, principal, asked, advice=advice)
    file = await ports.flags.read()
    shown = list(_views(file, asked.flag, None, ports.clock.now(), whole=False)) if asked.flag in file.flags else []
    waits = await ports.store.read(lambda snapshot: view(snapshot, done).plan)
    return FlagsAnswer(flags=tuple(shown), changes=(_change(done, whole=False),), plan=waits)


async def flag_warnings(ports: Ports) -> list[str]:
    """What somebody should look after: flags that expired, and a file that is not served as it stands."""
    try:
        return [said for _, said in expired(await ports.flags.read(), ports.clock.now())]
    except PlatformError as exc:
        return [f"flags go on as they were: {exc.message}"]


def _views(file: FlagFile, key: str, environment: str | None, now: datetime, *, whole: bool) -> Iterator[FlagView]:
    entry = file.entry(key)
    for name in [environment] if environment is not None else [None, *entry.environments]:
        flag = entry.effective(name)
        if flag is not None:
            yield FlagView(
                flag=key,
                environment=name or "",
                serves=serves(flag, now),
                metadata=flag.metadata,
                definition=flag.written() if whole else None,
            )


def serves(flag: Flag, now: datetime) -> str:
    """In words, what users get."""
    if flag.state == DISABLED:
        since = flag.metadata.get(KILLED_AT)
        return f"{CODE_DEFAULT}: killed at {since}" if since else f"{CODE_DEFAULT}: disabled"
    default = flag.default_variant
    rest = answer_text(default, flag.variants[default]) if default else CODE_DEFAULT
    if not flag.targeting:
        return rest
    rules = "what its rules say" if "if" in flag.targeting else ""
    ramp = share_of(flag.targeting)
    if ramp is None:
        return f"what its targeting says, else {rest}"
    share = f"{ramp.variant} to {ramp.percent(now):.0f}%, {ramp.rest} to the rest"
    if ramp.moves(now) and ramp.end is not None:
        share += f"; {ramp.variant} to {ramp.to_percent}% by {ramp.end.isoformat(timespec='seconds')}"
    return f"{rules}, else {share}" if rules else share


def _change(operation: Operation, *, whole: bool) -> FlagChangeView:
    request = operation.request
    return FlagChangeView(
        id=operation.id,
        what=f"{request['action']} {request['flag']}"
        + (f" in {operation.environment}" if operation.environment else ""),
        state=operation.state,
        by=operation.principal.name,
        at=operation.created_at,
        reason=operation.reason,
        before=request["before"] if whole else None,
        after=request["after"] if whole else None,
        proof=render(operation, None).proof,
    )
