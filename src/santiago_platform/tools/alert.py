"""The tool for alerts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from ..domain.alert import AlertName, AlertSpec
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Name, Principal
from ..domain.value import Value
from ..operations.context import Scope
from ..operations.create_alert import AlertChange, create_alert
from ..operations.manage_operation import Report
from ..operations.plan_alert import ALERT_FROM_WORDS
from ..operations.plan_from_words import Words
from ..operations.plan_operation import only_words, plan_operation
from ..operations.read_alerts import AlertsAnswer, read_alerts
from ..operations.silence import SilenceRequest, silence_alert
from ..ports import Ports
from .schema import parse
from .tool import Tool


class AlertDocument(AlertSpec):
    """What to do with which alert; of remove its name and place alone, of list the place at most.
    Silences have a request of their own."""

    name: AlertName | None = None
    service: Name | None = None
    environment: Name | None = None
    reason: Annotated[str, Field(max_length=500)] = ""


class AlertCall(Value):
    """spec: an AlertDocument. request: words, in place of it."""

    action: Literal["create", "remove", "list", "silence", "unsilence"] = "create"
    spec: Annotated[dict[str, Any] | None, WithJsonSchema({"type": "object"})] = None
    dry_run: bool = False
    request: Words | None = None


async def _alert(ports: Ports, who: Principal, call: AlertCall, _: Report | None) -> AlertsAnswer:
    if call.request is not None:
        only_words(call)
        planned = await plan_operation(ports, who, ALERT_FROM_WORDS, call.request, Scope(), dry_run=call.dry_run)
        return AlertsAnswer(operation=planned)
    if call.action in ("silence", "unsilence"):
        if call.dry_run:
            raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"{call.action} has no dry run", "leave dry_run out")
        asked = parse(SilenceRequest, {**(call.spec or {}), "action": call.action})
        return AlertsAnswer(silences=await silence_alert(ports, who, asked))
    said = parse(AlertDocument, call.spec or {})
    if call.action == "list":
        return await read_alerts(ports, who, said.service, said.environment)
    about = said.model_dump(include=ABOUT, exclude_none=True)
    spec = said.model_dump(exclude=ABOUT, exclude_unset=True) if call.action == "create" else None
    change = parse(AlertChange, {**about, "action": call.action, "dry_run": call.dry_run, "spec": spec})
    return AlertsAnswer(operation=await create_alert(ports, who, change))


ABOUT = {"name", "service", "environment", "reason"}


CREATE_ALERT = Tool(
    name="create_alert",
    title="Create alert",
    description="Alerts. spec: expression (PromQL) or signal, threshold; of silence reason",
    request=AlertCall,
    answer=AlertsAnswer,
    answer_names=("operation",),
    example={
        "spec": {"name": "Err", "service": "web", "environment": "production", "signal": "errors", "threshold": 0.05}
    },
    call=_alert,
    destructive=True,
)
