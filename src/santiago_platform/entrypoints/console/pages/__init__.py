"""The console's pages and forms. A new one is its value in a module of its own, and one line here."""

from __future__ import annotations

from ..page import Form, Page
from .approve import APPROVE, DECIDE
from .budget import BUDGET
from .incidents import INCIDENT, INCIDENTS, MANAGE_INCIDENT
from .log import LOG, LOG_ENTRY, VERIFICATION
from .messages import ACKNOWLEDGE, MESSAGES
from .operation import MANAGE, OPERATION
from .operations import OPERATIONS
from .service import FIGURES, SERVICE
from .services import SERVICES
from .slos import SLO_FIGURES, SLOS

PAGES: tuple[Page, ...] = (
    SERVICES,
    SERVICE,
    FIGURES,
    OPERATIONS,
    OPERATION,
    APPROVE,
    SLOS,
    SLO_FIGURES,
    INCIDENTS,
    INCIDENT,
    MESSAGES,
    BUDGET,
    LOG,
    VERIFICATION,
    LOG_ENTRY,
)
FORMS: tuple[Form, ...] = (MANAGE, DECIDE, ACKNOWLEDGE, MANAGE_INCIDENT)
