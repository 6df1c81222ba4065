from __future__ import annotations

from ...domain.errors import ErrorCode, PlatformError
from ...domain.flag import FlagEntry, FlagFile, check_file


class FakeFlags:
    """A file, and what is served of it. sabotaged: `put` says done and does nothing, and `read` repeats the lie.
    broken: why the file cannot be read. endpoint: whether something serves."""

    def __init__(self) -> None:
        self.file = FlagFile()
        self.served = FlagFile()
        self.sabotaged = False
        self.broken = ""
        self.endpoint = False

    async def read(self) -> FlagFile:
        if self.broken:
            raise PlatformError(ErrorCode.INVALID_ARGUMENT, self.broken)
        return self.file

    async def put(self, key: str, before: FlagEntry, after: FlagEntry) -> None:
        file = await self.read()
        if file.entry(key) not in (before, after):
            raise PlatformError(ErrorCode.CONFLICT, f"the flag {key} was edited in flags.json meanwhile")
        wanted = file.with_entry(key, after)
        check_file(wanted)
        self.file = wanted
        if not self.sabotaged:
            self.served = wanted

    async def serve(self) -> None:
        self.endpoint = self.endpoint or bool(self.file.flags)

    def url(self, environment: str) -> str:
        if not self.file.flags:
            raise PlatformError(ErrorCode.FAILED_PRECONDITION, "there are no flags")
        return f"http://127.0.0.1:1/{environment}"
