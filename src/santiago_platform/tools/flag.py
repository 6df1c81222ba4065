"""The tool for feature flags."""

from __future__ import annotations

from typing import Literal

from ..domain.errors import ErrorCode, PlatformError
from ..domain.flag import FlagKey
from ..domain.identity import Principal
from ..operations.configure_flag import FlagChange, FlagFields
from ..operations.manage_operation import Report
from ..operations.read_flags import FlagsAnswer, change_flag, read_flags
from ..ports import Ports
from .tool import Tool


class FlagCall(FlagFields):
    """list and history change nothing; of one flag, or of all where it is null."""

    action: Literal["list", "history", "set", "ramp", "kill", "restore", "delete", "rollback"]
    flag: FlagKey | None = None


async def _configure(ports: Ports, who: Principal, call: FlagCall, _: Report | None) -> FlagsAnswer:
    if call.action in ("list", "history"):
        return await read_flags(ports, who, call.flag, call.environment, history=call.action == "history")
    if call.flag is None:
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"say which flag to {call.action}", "action list names them")
    return await change_flag(ports, who, FlagChange.model_validate(call.model_dump()))


CONFIGURE_FLAG = Tool(
    name="configure_flag",
    title="Configure flag",
    description=(
        "Feature flags. set: definition (fields of flagd) or percent of users; ramp: to percent within minutes; "
        "kill: the code's default at once. Succeeded: served and read back."
    ),
    request=FlagCall,
    answer=FlagsAnswer,
    example={"action": "set", "flag": "new-checkout", "percent": 10},
    call=_configure,
    destructive=True,
)
