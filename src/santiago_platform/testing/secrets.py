"""What every keeper of secrets keeps to."""

from __future__ import annotations

import pytest

from ..domain.errors import ErrorCode, PlatformError
from ..domain.secret import VALUE_BYTES, Secret
from ..ports.secrets import Secrets

PASSWORD = Secret(environment="production", name="password", service="web")
SHARED = Secret(environment="production", name="password")
ELSEWHERE = Secret(environment="staging", name="password", service="web")


class SecretsContract:
    """Subclasses give the fixture `secrets`, which has none."""

    async def test_a_value_is_kept_as_it_is(self, secrets: Secrets) -> None:
        for value in ("hunter2", " spaces and\nlines\n", "ünïcode ☃ $HOME `x` '\"\\", "x" * VALUE_BYTES):
            made = await secrets.put(PASSWORD, value)
            assert await secrets.value(PASSWORD, made.version) == value

    async def test_each_value_is_a_version_and_the_former_one_stays(self, secrets: Secrets) -> None:
        made = [await secrets.put(PASSWORD, value) for value in ("first", "second", "first")]
        assert [version.version for version in made] == [1, 2, 3]
        assert [await secrets.value(PASSWORD, number) for number in (1, 2, 3)] == ["first", "second", "first"]
        assert secrets.newest(PASSWORD) == made[-1]
        first, second, third = (version.fingerprint for version in made)
        assert first == third != second

    async def test_the_newest_value_put_again_is_no_new_version(self, secrets: Secrets) -> None:
        first = await secrets.put(PASSWORD, "value")
        assert await secrets.put(PASSWORD, "value") == first
        assert await secrets.list() == [first]

    async def test_equal_names_in_other_places_are_other_secrets(self, secrets: Secrets) -> None:
        made = [await secrets.put(secret, f"of {secret}") for secret in (ELSEWHERE, PASSWORD, SHARED)]
        assert [version.version for version in made] == [1, 1, 1]
        assert await secrets.value(SHARED, 1) == "of production/password"
        assert await secrets.list() == [made[2], made[1], made[0]]

    async def test_a_list_tells_no_value(self, secrets: Secrets) -> None:
        await secrets.put(PASSWORD, "hunter2")
        assert "hunter2" not in str(await secrets.list())

    async def test_what_is_not_there_is_not_found(self, secrets: Secrets) -> None:
        assert secrets.newest(PASSWORD) is None
        await secrets.put(PASSWORD, "value")
        for secret, version in ((PASSWORD, 2), (ELSEWHERE, 1)):
            with pytest.raises(PlatformError) as raised:
                await secrets.value(secret, version)
            assert raised.value.code is ErrorCode.NOT_FOUND

    @pytest.mark.parametrize("value", ["", "a\0b", "x" * (VALUE_BYTES + 1), "ü" * (VALUE_BYTES // 2 + 1)])
    async def test_what_no_program_can_be_given_is_refused_unsaid(self, secrets: Secrets, value: str) -> None:
        with pytest.raises(PlatformError) as raised:
            await secrets.put(PASSWORD, value)
        assert raised.value.code is ErrorCode.INVALID_ARGUMENT
        assert not value or value not in str(raised.value)
        assert secrets.newest(PASSWORD) is None

    async def test_a_version_can_be_removed_or_all_and_twice_is_as_once(self, secrets: Secrets) -> None:
        for value in ("first", "second"):
            await secrets.put(PASSWORD, value)
        other = await secrets.put(SHARED, "shared")
        for _ in range(2):
            await secrets.remove(PASSWORD, 1)
        assert await secrets.value(PASSWORD, 2) == "second"
        for _ in range(2):
            await secrets.remove(PASSWORD)
        assert secrets.newest(PASSWORD) is None
        assert await secrets.list() == [other]

    async def test_the_number_of_a_removed_version_is_not_given_again(self, secrets: Secrets) -> None:
        for value in ("first", "second"):
            await secrets.put(PASSWORD, value)
        await secrets.remove(PASSWORD)
        assert (await secrets.put(PASSWORD, "third")).version == 3

    async def test_what_is_pending_is_nothings_newest_and_tells_no_value_until_it_is_published(
        self, secrets: Secrets
    ) -> None:
        first = await secrets.put(PASSWORD, "value")
        waits = await secrets.stage(PASSWORD, "value")
        assert (waits.version, waits.pending) == (2, True)
        assert waits.fingerprint != first.fingerprint, "by which somebody could find out the value by guessing"
        assert secrets.newest(PASSWORD) == first
        assert await secrets.list() == [first, waits]
        with pytest.raises(PlatformError):
            await secrets.value(PASSWORD, 2)
        assert await secrets.put(PASSWORD, "value") == first
        for _ in range(2):
            published = await secrets.publish(PASSWORD, 2)
            assert (published.version, published.pending, published.fingerprint) == (2, False, first.fingerprint)
        assert secrets.newest(PASSWORD) == published
        assert await secrets.value(PASSWORD, 2) == "value"

    async def test_what_is_pending_can_be_removed_and_is_not_published_then(self, secrets: Secrets) -> None:
        waits = await secrets.stage(PASSWORD, "value")
        assert secrets.newest(PASSWORD) is None
        await secrets.remove(PASSWORD, waits.version)
        with pytest.raises(PlatformError) as raised:
            await secrets.publish(PASSWORD, waits.version)
        assert raised.value.code is ErrorCode.NOT_FOUND
        assert (await secrets.put(PASSWORD, "other")).version == 2
