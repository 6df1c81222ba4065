"""The tool for feature flags."""

from __future__ import annotations

from typing import Literal

from ..domain.errors import ErrorCode, PlatformError
from ..domain.flag import FlagKey
from ..domain.identity import Principal
from ..operations.configure_flag import FlagChange, FlagFields
from ..operations.context import Scope
from ..operations.manage_operation import Report
from ..operations.plan_checks import FLAG_CHANGE_FROM_WORDS
from ..operations.plan_from_words import Words, plan_from_words
from ..operations.plan_operation import only_words
from ..operations.read_flags import FlagsAnswer, change_flag, read_flags
from ..ports import Ports
from .tool import Tool


class FlagCall(FlagFields):
    """list and history change nothing; of one flag, or of all where it is null. request: in place of an action."""

    action: Literal["list", "history", "set", "ramp", "kill", "restore", "delete", "rollback"] | None = None
    flag: FlagKey | None = None
    request: Words | None = None


async def _configure(ports: Ports, who: Principal, call: FlagCall, _: Report | None) -> FlagsAnswer:
    if call.request is not None:
        return await _planned(ports, who, call, call.request)
    if call.action is None:
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, "argument action is missing", "or say it in words, as request")
    if call.action in ("list", "history"):
        return await read_flags(ports, who, call.flag, call.environment, history=call.action == "history")
    if call.flag is None:
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"say which flag to {call.action}", "action list names them")
    return await change_flag(ports, who, FlagChange.model_validate(call.model_dump(exclude={"request"})))


async def _planned(ports: Ports, who: Principal, call: FlagCall, words: str) -> FlagsAnswer:
    only_words(call)
    scope = Scope(flag=call.flag or "", environment=call.environment or "")
    plan = await plan_from_words(ports, who, FLAG_CHANGE_FROM_WORDS, words, scope)
    change = FlagChange.model_validate(plan.checked.request.model_dump())
    return await change_flag(ports, who, change, advice=plan.view(ports).advice)


CONFIGURE_FLAG = Tool(
    name="configure_flag",
    title="Configure flag",
    description=(
        "Feature flags. set: definition (fields of flagd) or percent of users; ramp: to percent within minutes; "
        "kill: the code's default at once. Succeeded: served and read back. "
        "A request in words is planned, and waits."
    ),
    request=FlagCall,
    answer=FlagsAnswer,
    example={"action": "set", "flag": "new-checkout", "percent": 10},
    call=_configure,
    destructive=True,
)
