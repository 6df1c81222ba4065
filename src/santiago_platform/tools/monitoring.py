"""The tool for the rules of services' SLOs."""

from __future__ import annotations

from typing import Literal

from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Name, Principal
from ..domain.value import Value
from ..operations.configure_monitoring import MonitoringChange, configure_monitoring
from ..operations.manage_operation import Report
from ..operations.read_monitoring import MonitoringAnswer, read_monitoring
from ..ports import Ports
from .schema import parse
from .tool import Tool


class MonitoringCall(Value):
    """show: of one service and environment, or of all."""

    action: Literal["apply", "remove", "show"] = "show"
    service: Name | None = None
    environment: Name | None = None
    dry_run: bool = False


async def _monitoring(ports: Ports, who: Principal, call: MonitoringCall, _: Report | None) -> MonitoringAnswer:
    if call.action == "show":
        return await read_monitoring(ports, who, call.service, call.environment)
    if call.service is None or call.environment is None:
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            f"say of which service and environment to {call.action} the rules",
            "action show lists them",
        )
    change = parse(MonitoringChange, call.model_dump(exclude_none=True))
    return MonitoringAnswer(operation=await configure_monitoring(ports, who, change))


CONFIGURE_MONITORING = Tool(
    name="configure_monitoring",
    title="Configure monitoring",
    description="The rules of services/NAME/slo.yaml, read back.",
    request=MonitoringCall,
    answer=MonitoringAnswer,
    answer_names=("operation",),
    example={"action": "apply", "service": "web", "environment": "production"},
    call=_monitoring,
    destructive=True,
)
