from __future__ import annotations

from typing import Protocol

from ..domain.flag import FlagEntry, FlagFile


class Flags(Protocol):
    """flags.json of the workspace, and the endpoint that serves it by OFREP.

    The file is the user's too: who edits it by hand is served like who asks the platform. The endpoint goes on without
    this process, and with the last good flags where the file is broken.
    """

    async def read(self) -> FlagFile:
        """The file as it stands; without flags where there is none.

        Raises PlatformError(INVALID_ARGUMENT), beginning `flags.json:LINE: `, for one that cannot be evaluated.
        """

    async def put(self, key: str, before: FlagEntry, after: FlagEntry) -> None:
        """Makes the file say `after` of a flag, whole or not at all, and leaves every other byte as it is.

        Idempotent. Raises PlatformError: CONFLICT where it says neither `before` nor `after`, INVALID_ARGUMENT where
        the file is broken or would be, RESOURCE_EXHAUSTED where no space is left.
        """

    async def serve(self) -> None:
        """Makes the endpoint exist and be kept running where there are flags. Idempotent; returns without waiting."""

    def url(self, environment: str) -> str:
        """The base URL for providers of OFREP. Raises PlatformError(FAILED_PRECONDITION) where there are no flags."""
