"""The contract of ports.flags.Flags: what is put is in the file and is served, and what others wrote is left alone."""

from __future__ import annotations

import pytest

from ..domain.errors import ErrorCode, PlatformError
from ..domain.flag import Flag, FlagEntry
from ..ports.flags import Flags

OFF = FlagEntry(flag=Flag(state="ENABLED", variants={"on": True, "off": False}, default_variant="off"))
ON = OFF.updated(None, default_variant="on")
NONE = FlagEntry()


class FlagsContract:
    """The fixture `flags`: of a workspace without flags."""

    async def test_there_are_none_at_first_and_no_address_to_read_them(self, flags: Flags) -> None:
        assert (await flags.read()).flags == {}
        with pytest.raises(PlatformError) as raised:
            flags.url("production")
        assert raised.value.code is ErrorCode.FAILED_PRECONDITION

    async def test_what_is_put_is_read(self, flags: Flags) -> None:
        entry = OFF.updated("staging", default_variant="on", metadata={"owner": "web", "weight": 1.5, "old": True})
        await flags.put("new", NONE, entry)
        assert (await flags.read()).entry("new") == entry
        assert flags.url("production").endswith("/production")

    async def test_putting_twice_is_putting_once(self, flags: Flags) -> None:
        await flags.put("new", NONE, OFF)
        await flags.put("new", OFF, ON)
        await flags.put("new", OFF, ON)
        assert (await flags.read()).entry("new") == ON

    async def test_others_are_left_alone(self, flags: Flags) -> None:
        await flags.put("one", NONE, ON)
        await flags.put("two", NONE, OFF)
        await flags.put("two", OFF, NONE)
        assert (await flags.read()).flags == {"one": ON.flag}

    async def test_what_somebody_changed_meanwhile_is_not_overwritten(self, flags: Flags) -> None:
        await flags.put("new", NONE, OFF)
        await flags.put("new", OFF, ON.updated("staging", default_variant="off"))
        with pytest.raises(PlatformError) as raised:
            await flags.put("new", OFF, ON)
        assert raised.value.code is ErrorCode.CONFLICT
        assert (await flags.read()).entry("new").environments

    async def test_serving_may_be_asked_for_at_any_time(self, flags: Flags) -> None:
        await flags.serve()
        await flags.put("new", NONE, OFF)
        await flags.serve()
        await flags.serve()
