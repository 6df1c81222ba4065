"""The console's pages and forms. A new one is its value in a module of its own, and one line here."""

from __future__ import annotations

from ..page import Form, Page
from .approve import APPROVE, DECIDE
from .budget import BUDGET
from .incidents import INCIDENTS
from .log import LOG, LOG_ENTRY, VERIFICATION
from .messages import ACKNOWLEDGE, MESSAGES
from .operation import MANAGE, OPERATION
from .operations import OPERATIONS
from .service import FIGURES, SERVICE
from .services import SERVICES
from .slos import SLOS

PAGES: tuple[Page, ...] = (
    SERVICES,
    SERVICE,
    FIGURES,
    OPERATIONS,
    OPERATION,
    APPROVE,
    SLOS,
    INCIDENTS,
    MESSAGES,
    BUDGET,
    LOG,
    VERIFICATION,
    LOG_ENTRY,
)
FORMS: tuple[Form, ...] = (MANAGE, DECIDE, ACKNOWLEDGE)
