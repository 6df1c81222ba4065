"""The mailbox of one's role."""

from __future__ import annotations

from typing import Any

from ....domain.identity import Principal
from ....domain.mailbox import MailId
from ....domain.value import Value
from ....operations.messages import MailboxQuery, acknowledge_mail, read_mailbox
from ....ports import Ports
from ....tools.schema import parse
from ..page import Form, Given, Page


class _Ids(Value):
    mails: tuple[MailId, ...]


async def _load(ports: Ports, who: Principal, given: Given) -> dict[str, Any]:
    return {"mailbox": await read_mailbox(ports, who, parse(MailboxQuery, {"limit": 25, **given}))}


async def _acknowledge(ports: Ports, who: Principal, given: Given) -> str:
    ids = parse(_Ids, {"mails": [given.get("mail", "")]}).mails
    await acknowledge_mail(ports, who, ids)
    return "/console/messages"


MESSAGES = Page(
    path="/console/messages",
    template="messages.html",
    title="Messages",
    load=_load,
    section="messages",
    query=("cursor",),
)
ACKNOWLEDGE = Form(path="/console/messages", handle=_acknowledge)
