"""That what a deployment is said to fix is there: a word alone opens no gate."""

from __future__ import annotations

from ..domain.environment import Settings
from ..domain.errors import ErrorCode, PlatformError
from ..domain.fix import AFTERWARDS, may_fix
from ..domain.identity import Principal
from ..ports import Ports
from ..ports.store import Snapshot
from .read_incidents import may_see

LISTED = 5


async def require_fix(
    ports: Ports, principal: Principal, settings: Settings, service: str, environment: str, fixes: str | None
) -> None:
    """fixes: an incident's id; nothing is asked where it is empty. Raises PlatformError(NOT_FOUND) where that is no
    incident of the service in the environment or a later one that is open or was resolved of late; it names those that
    are open."""
    if not fixes:
        return
    order, now = tuple(settings.environments), ports.clock.now()

    def look(view: Snapshot) -> str | None:
        named = view.incident(fixes)
        if (
            named is not None
            and may_fix(named, service, environment, order, now)
            and may_see(ports, principal, settings, named)
        ):
            return None
        known = (i for i in view.incidents(service=service, open=True) if may_fix(i, service, environment, order, now))
        return ", ".join([i.id for i in known if may_see(ports, principal, settings, i)][:LISTED])

    others = await ports.store.read(look)
    if others is None:
        return
    raise PlatformError(
        ErrorCode.NOT_FOUND,
        f"there is no incident {fixes[:80]} that a deployment of {service} to {environment} could fix",
        f"open: {others or 'none'}; one counts until {AFTERWARDS.days} days after it is resolved, in its environment "
        "and those before; without fixes no gate makes an exception",
    )
