"""The contract of ports.artifacts.Artifacts."""

from __future__ import annotations

import asyncio
import re

import pytest

from ..domain.errors import ErrorCode, PlatformError
from ..ports.artifacts import Artifacts

UNKNOWN = f"sha256:{'0' * 64}"


class ArtifactsContract:
    """The fixture `artifacts` can build the service `web` at the refs `HEAD` and `HEAD~1`, two commits."""

    async def test_a_ref_names_the_same_full_commit_hash_each_time(self, artifacts: Artifacts) -> None:
        commit = await artifacts.resolve("HEAD")
        assert re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", commit)
        assert await artifacts.resolve("HEAD") == commit
        assert await artifacts.resolve("HEAD~1") != commit

    @pytest.mark.parametrize("ref", ["-x", "--output=/tmp/x"])
    async def test_a_ref_that_looks_like_an_option_is_refused(self, artifacts: Artifacts, ref: str) -> None:
        with pytest.raises(PlatformError) as caught:
            await artifacts.resolve(ref)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT

    async def test_the_commits_between_two_releases_have_their_times(self, artifacts: Artifacts) -> None:
        new, old = await artifacts.resolve("HEAD"), await artifacts.resolve("HEAD~1")
        since = await artifacts.committed("web", old, new)
        assert since is not None
        assert len(since) == 1
        assert await artifacts.committed("web", None, new) == since
        assert await artifacts.committed("web", old, "0" * 40) is None

    async def test_a_release_says_what_it_was_built_from(self, artifacts: Artifacts) -> None:
        commit = await artifacts.resolve("HEAD")
        release = await artifacts.build("web", commit)
        assert (release.service, release.commit, release.local_only) == ("web", commit, True)
        assert "web" in release.score
        assert release.size_bytes > 0
        assert release.signed_by

    async def test_a_commit_is_built_once(self, artifacts: Artifacts) -> None:
        commit = await artifacts.resolve("HEAD")
        first, second = await asyncio.gather(artifacts.build("web", commit), artifacts.build("web", commit))
        assert first == second == await artifacts.build("web", commit)
        assert await artifacts.list() == [first]

    async def test_another_commit_is_another_release(self, artifacts: Artifacts) -> None:
        new = await artifacts.build("web", await artifacts.resolve("HEAD"))
        old = await artifacts.build("web", await artifacts.resolve("HEAD~1"))
        assert new.digest != old.digest

    async def test_a_release_is_found_by_its_digest_and_by_its_first_12_digits(self, artifacts: Artifacts) -> None:
        release = await artifacts.build("web", await artifacts.resolve("HEAD"))
        assert await artifacts.get(release.digest) == release
        assert await artifacts.get(release.short) == release

    async def test_fewer_than_12_digits_name_no_release(self, artifacts: Artifacts) -> None:
        release = await artifacts.build("web", await artifacts.resolve("HEAD"))
        for digits in ("", release.short[:11], "sha256:"):
            with pytest.raises(PlatformError) as caught:
                await artifacts.get(digits)
            assert caught.value.code is ErrorCode.NOT_FOUND

    async def test_an_unknown_release_is_not_found(self, artifacts: Artifacts) -> None:
        for ask in (artifacts.get, artifacts.verify):
            with pytest.raises(PlatformError) as caught:
                await ask(UNKNOWN)
            assert caught.value.code is ErrorCode.NOT_FOUND

    async def test_releases_are_listed_newest_first_and_by_service(self, artifacts: Artifacts) -> None:
        for ref in ("HEAD~1", "HEAD"):
            await artifacts.build("web", await artifacts.resolve(ref))
        releases = await artifacts.list("web")
        assert len(releases) == 2
        assert releases == sorted(releases, key=lambda r: r.built_at, reverse=True)
        assert await artifacts.list("other") == []

    async def test_what_was_just_built_verifies(self, artifacts: Artifacts) -> None:
        release = await artifacts.build("web", await artifacts.resolve("HEAD"))
        await artifacts.verify(release.digest)

    async def test_a_removed_release_is_gone_and_removing_it_again_is_no_error(self, artifacts: Artifacts) -> None:
        release = await artifacts.build("web", await artifacts.resolve("HEAD"))
        for _ in range(2):
            await artifacts.remove(release.digest)
            assert await artifacts.list() == []
        with pytest.raises(PlatformError) as caught:
            await artifacts.get(release.digest)
        assert caught.value.code is ErrorCode.NOT_FOUND

    async def test_a_removed_release_can_be_built_again(self, artifacts: Artifacts) -> None:
        commit = await artifacts.resolve("HEAD")
        first = await artifacts.build("web", commit)
        await artifacts.remove(first.digest)
        assert (await artifacts.build("web", commit)).digest == first.digest
