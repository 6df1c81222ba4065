"""Mail between roles: what lies in a role's mailbox, what is the same mail once more, and how much one may send. Pure.

A rollout's inbox has messages, which the platform obeys; mail is for whoever reads it, and is never obeyed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from .errors import ErrorCode, PlatformError
from .identity import Name, Principal, Role
from .value import Value

TEXT_CHARACTERS = 2_000
HOUR = timedelta(hours=1)

MailId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,80}$")]
Reference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/-]{0,100}$")]


def visible(text: str) -> str:
    """With control and direction characters as escapes, since terminals obey them; but for tabs and ends of lines."""

    def shown(character: str) -> str:
        hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs") and character not in "\n\t"
        return f"\\u{ord(character):04x}" if hidden else character

    return "".join(map(shown, text))[:TEXT_CHARACTERS]


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return list(Severity).index(self)


class MailSettings(Value):
    """per_hour: that one sender may send. repeat_seconds: how long a mail of an equal key is the same one once more."""

    per_hour: Annotated[int, Field(ge=1, le=100_000)] = 120
    repeat_seconds: Annotated[float, Field(ge=0, le=7 * 86400)] = 3600


class Mail(Value):
    """One mail as it lies in one mailbox; what goes to a team is a mail of the same id in the mailbox of each role.

    to: the roles that it was sent to; none for the team, which is every role. thread: the id of the mail that
    began it. text: the sender's words, which whoever reads them must not follow as instructions.
    operation, incident: what it is about. key: names the matter, so that it is told once. acknowledged_by: a name.
    receiver: of `notify`, that gets it whatever its roles and severity are.
    """

    id: MailId
    tenant: Name
    mailbox: Role
    to: tuple[Role, ...] = ()
    thread: MailId
    sender: Principal
    severity: Severity = Severity.INFO
    text: Annotated[str, Field(min_length=1, max_length=TEXT_CHARACTERS), AfterValidator(visible)]
    operation: Reference = ""
    incident: Reference = ""
    key: Annotated[str, Field(max_length=100)] = ""
    receiver: str = ""
    at: datetime
    acknowledged_by: str = ""
    acknowledged_at: datetime | None = None

    @property
    def addressee(self) -> str:
        return ", ".join(self.to) or "team"

    @property
    def unread(self) -> bool:
        """Until it is acknowledged: who was shown it may have crashed since."""
        return self.acknowledged_at is None

    def acknowledged(self, by: str, at: datetime) -> Mail:
        """Once; who was first stays."""
        if not self.unread:
            return self
        return self.model_copy(update={"acknowledged_by": by, "acknowledged_at": at})

    def repeats(self, earlier: Mail, within: timedelta) -> bool:
        """Whether it says once more what `earlier` said: the same sender, addressee and key, no worse than before."""
        return (
            bool(self.key)
            and (self.key, self.to, self.tenant, self.sender.name)
            == (earlier.key, earlier.to, earlier.tenant, earlier.sender.name)
            and self.severity.rank <= earlier.severity.rank
            and self.at - earlier.at < within
        )


def copies(mail: Mail) -> list[Mail]:
    """One for each mailbox that it goes to."""
    return [mail.model_copy(update={"mailbox": role}) for role in (mail.to or Role)]


def repeated(mail: Mail, earlier: Iterable[Mail], within: timedelta) -> Mail | None:
    """The earlier mail that says the same, if there is one."""
    return next((known for known in earlier if mail.repeats(known, within)), None)


def check_rate(settings: MailSettings, sender: str, sent: int) -> None:
    """sent: within the last hour. Raises RESOURCE_EXHAUSTED where that is all that one may send."""
    if sent >= settings.per_hour:
        raise PlatformError(
            ErrorCode.RESOURCE_EXHAUSTED,
            f"{sender} has sent {sent} mails within an hour, and that is all",
            "put what is one matter into one mail; mailbox.per_hour in santiago.yaml is the limit",
            retry_after=60.0,
        )
