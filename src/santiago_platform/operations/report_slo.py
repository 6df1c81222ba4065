"""How every objective and every promise to customers stands, and what to aim for where nobody has said."""

from __future__ import annotations

from ..domain.error_budget import BudgetState
from ..domain.errors import PlatformError
from ..domain.identity import Principal
from ..domain.slo import PLATFORM
from ..domain.value import Value
from ..ports import Ports
from .authority import authorise
from .tenancy import known_services, of_all_tenants


class SloView(BudgetState):
    """summary: how it stands, in words."""

    summary: str


class SloReport(Value):
    """breached: SLAs that are not met, `SERVICE in ENVIRONMENT: NAME`. without: services that have no SLO. problems: of
    the files and the collector, a line each; what they concern is left out of `slos`."""

    slos: tuple[SloView, ...]
    breached: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


async def report_slo(ports: Ports, principal: Principal, *, history: bool = True) -> SloReport:
    """Of the services that the principal may know; of the platform itself for those of the only tenant and the owner.

    Raises PlatformError(PERMISSION_DENIED).
    """
    settings = ports.workspace.last_good_settings()
    authorise(ports, principal, "read_architecture", settings)
    services = await known_services(ports, principal, settings)
    whole = of_all_tenants(principal) or settings.tenant_names == {principal.tenant}
    states: list[BudgetState] = []
    without, problems = [], []
    for service in [*services, *([PLATFORM] if whole and PLATFORM not in services else [])]:
        try:
            found = await ports.error_budget.states(service, history=history)
        except PlatformError as exc:
            problems.append(f"{service}: {exc.message}")
            continue
        states.extend(found)
        if not found and service != PLATFORM:
            without.append(service)
    return SloReport(
        slos=tuple(SloView(**dict(state), summary=_summary(state)) for state in states),
        breached=tuple(f"{state.service} in {state.environment}: {state.slo}" for state in states if state.breached),
        without=tuple(without),
        problems=tuple(problems),
    )


def _summary(state: BudgetState) -> str:
    if state.sli_ratio is None or state.remaining_ratio is None:
        return "nothing is recorded yet"
    met = "met" if state.met else "breached" if state.breached else "missed"
    said = f"{met}: {state.sli_ratio:.4%} of {state.target:.6g}, {state.remaining_ratio:.1%} of the budget is left"
    if state.exhausted_at is not None and state.remaining_ratio > 0:
        said += f", spent by {state.exhausted_at:%Y-%m-%d %H:%M} UTC at the present rate"
    return said
