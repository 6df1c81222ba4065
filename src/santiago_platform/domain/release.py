"""A release: built once at a commit, content-addressed, signed, deployed anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import StringConstraints

from .identity import Name
from .job import Job
from .value import Value

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


# HOST[:PORT] and a path, as an image's name begins.
_HOST, _PATH = r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::\d{1,5})?", r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
RegistryName = Annotated[str, StringConstraints(pattern=rf"^{_HOST}(?:/{_PATH})*$", max_length=200)]


class Release(Value):
    """digest: of the OCI manifest; it names the release. commit: full git hash.

    score: score.yaml as it stood at the commit, byte for byte. local_only: built without a base image. jobs: in the
    order of build.yaml.
    """

    digest: Digest
    service: Name
    commit: str
    committed_at: datetime
    built_at: datetime
    score: str
    local_only: bool
    sbom: Digest
    signed_by: str
    size_bytes: int
    jobs: tuple[Job, ...] = ()

    @property
    def tag(self) -> str:
        """Its name in a registry, beside its digest."""
        return self.commit[:12]

    @property
    def short(self) -> str:
        return self.digest.removeprefix("sha256:")[:12]


def prunable(
    releases: Iterable[Release], in_use: frozenset[str], *, keep: int, keep_for: timedelta, now: datetime
) -> list[Release]:
    """The releases of one service that may be removed: beyond the newest `keep` and older than `keep_for`.

    in_use: digests that are deployed, rolling out or a rollback target; they are never removed.
    """
    newest_first = sorted(releases, key=lambda r: (r.built_at, r.digest), reverse=True)
    return [r for r in newest_first[keep:] if r.digest not in in_use and now - r.built_at > keep_for]
