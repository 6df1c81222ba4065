"""What a proposal of an alert must pass, and what it would change."""

from __future__ import annotations

from ..domain.identity import Principal
from ..domain.proposal import Draft, Task
from ..ports import Ports
from .authority import authorise
from .context import Scope
from .create_alert import KIND, AlertChange, check_alert, create_alert, plan_of_alert
from .plan_from_words import Checked, Plannable, confined


async def _check(ports: Ports, principal: Principal, scope: Scope, asked: AlertChange) -> Checked:
    confined(scope, service=asked.service, environment=asked.environment)
    plan = plan_of_alert(await check_alert(ports, principal, asked))
    return Checked(
        tool=KIND,
        request=asked,
        changes=plan.changes,
        way_back=plan.way_back,
        hold=lambda advice: create_alert(ports, principal, asked, advice=advice),
    )


def _admit(ports: Ports, principal: Principal) -> None:
    authorise(ports, principal, KIND, waits=True)


ALERT_FROM_WORDS = Plannable(
    task=Task.ALERT_RULE,
    action=KIND,
    draft=Draft[AlertChange],
    admit=lambda ports, principal, _settings: _admit(ports, principal),
    check=_check,
)
