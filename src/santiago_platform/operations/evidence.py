"""Attests what tests, coverage and scans found of a release, and lists it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from pydantic import Field

from ..domain.errors import ErrorCode, PlatformError
from ..domain.evidence import Attestation, EvidenceKind, Findings, Inspected, kept_as, newest
from ..domain.identity import Name, Principal
from ..domain.policy import Verdict as Ruling
from ..domain.proof import Claim, Proof, Verdict, prove
from ..domain.release import Release
from ..domain.value import Value
from ..ports import Ports
from ..ports.store import Transaction
from .authority import authorise, question
from .change import change
from .tenancy import is_own, require_service

ATTEST = "add_evidence"
EVIDENCE_BYTES = 16 << 20  # of one file
ATTESTATIONS = 200  # of one release


class EvidenceRequest(Value):
    """release: a digest, or 12 or more of its hex digits. kind: None recognises it. name: tells suites or scanners
    apart; a newer file of the same type and name takes the older one's place."""

    release: Annotated[str, Field(max_length=200)]
    kind: EvidenceKind | None = None
    name: Name = "default"


class EvidenceView(Value):
    """counts: gates look at it. doubt: why not, where it is the newest of its type and name."""

    id: str
    release: str
    service: str
    kind: str
    name: str
    findings: Findings
    summary: str
    sha256: str
    size_bytes: int
    by: str
    role: str
    at: datetime
    counts: bool
    doubt: str = ""


class EvidenceList(Value):
    """Newest first."""

    evidence: tuple[EvidenceView, ...]


async def add_evidence(ports: Ports, principal: Principal, request: EvidenceRequest, content: bytes) -> EvidenceView:
    """Keeps the file, and that `principal` says it is of exactly this release.

    Raises PlatformError: PERMISSION_DENIED, NOT_FOUND (the release), INVALID_ARGUMENT (not a file of such a kind, or
    larger than EVIDENCE_BYTES), RESOURCE_EXHAUSTED (too many of this release, or no space), DATA_CORRUPT (what was
    kept is not what was sent: it is not attested then).
    """
    asked = request.model_dump(mode="json", exclude_defaults=True)
    async with change(ports, principal, ATTEST, request.release[:80], asked) as record:
        authorise(ports, principal, ATTEST)
        release = await _release(ports, principal, request.release)
        authorise(ports, principal, ATTEST, service=release.service)
        if len(content) > EVIDENCE_BYTES:
            raise PlatformError(
                ErrorCode.INVALID_ARGUMENT, f"the file is larger than {EVIDENCE_BYTES >> 20} MiB", "split it by --name"
            )
        parsed = await ports.evidence.parse(content, request.kind)
        await ports.store.read(lambda view: _require_room(view.attestations(release.digest)))
        sha256, proof = await _keep(ports, release.digest, content)
        attestation = Attestation(
            id=ports.clock.new_id("ev"),
            release=release.digest,
            service=release.service,
            kind=parsed.kind,
            name=request.name,
            sha256=sha256,
            size_bytes=len(content),
            principal=principal,
            at=ports.clock.now(),
            findings=parsed.findings,
        )

        def store(tx: Transaction) -> None:
            _require_room(tx.attestations(release.digest))
            tx.add_attestation(attestation)

        await ports.store.write(store)
        record.outcome = "attested"
        record.body = {
            **attestation.model_dump(mode="json", include={"id", "release", "kind", "name", "sha256", "findings"}),
            "proof": proof.model_dump(mode="json"),
        }
    return _view(Inspected(attestation=attestation), counts=True)


async def _keep(ports: Ports, release: str, content: bytes) -> tuple[str, Proof]:
    """The SHA-256 of the file, which is kept and was read back."""
    sha256 = hashlib.sha256(content).hexdigest()
    await ports.evidence.keep(release, content)
    claim = Claim(subject=f"evidence {release} {sha256}", expected=kept_as(len(content), sha256))
    proof = prove([claim], await ports.probe.observe([claim]), ports.clock.now())
    if proof.verdict is not Verdict.MATCH:
        raise PlatformError(
            ErrorCode.DATA_CORRUPT,
            f"the file is not kept as it was sent, so it is not attested: {proof.summary()}",
            "see the disk, and upload it again",
        )
    return sha256, proof


async def list_evidence(ports: Ports, principal: Principal, release: str) -> EvidenceList:
    """Of one release. Raises PlatformError: NOT_FOUND, PERMISSION_DENIED."""
    authorise(ports, principal, "read_gates")
    found = await _release(ports, principal, release)
    authorise(ports, principal, "read_gates", service=found.service)
    attestations = await ports.store.read(lambda view: view.attestations(found.digest))
    counting = {i.attestation.id: i for i in await inspect(ports, found.digest)}
    views = [
        _view(counting.get(a.id, Inspected(attestation=a)), counts=a.id in counting and not counting[a.id].doubt)
        for a in reversed(attestations)
    ]
    return EvidenceList(evidence=tuple(views))


async def inspect(ports: Ports, release: str) -> tuple[Inspected, ...]:
    """The newest evidence of each type and name, looked at afresh: the file's bytes, and who attested it."""
    attestations = await ports.store.read(lambda view: view.attestations(release))
    return tuple([Inspected(attestation=a, doubt=await _doubt(ports, a)) for a in newest(attestations)])


async def _doubt(ports: Ports, attestation: Attestation) -> str:
    settings = ports.workspace.last_good_settings()
    asked = question(attestation.principal, ATTEST, settings, service=attestation.service)
    if ports.policy.decide(asked).verdict is not Ruling.ALLOW:
        return f"role {attestation.principal.role} may not attest"
    return await ports.evidence.doubt(attestation.release, attestation.sha256)


async def _release(ports: Ports, principal: Principal, digest: str) -> Release:
    """Raises NOT_FOUND, with the same words for a release that there is not and for another tenant's."""
    settings = ports.workspace.last_good_settings()
    none = PlatformError(
        ErrorCode.NOT_FOUND,
        f"there is no release {digest[:80]}",
        "give the digest, or its first 12 or more hex digits, as a release shows it",
    )
    try:
        release = await ports.artifacts.get(digest)
    except PlatformError as exc:
        if exc.code is not ErrorCode.NOT_FOUND:
            raise
        raise none from exc
    if not is_own(principal, settings, release.service):
        raise none
    await require_service(ports, principal, settings, release.service)
    return release


def _require_room(attestations: Sequence[Attestation]) -> None:
    if len(attestations) >= ATTESTATIONS:
        raise PlatformError(
            ErrorCode.RESOURCE_EXHAUSTED,
            f"{ATTESTATIONS} files are attested for this release already",
            "build a new release, or put several suites into one file",
        )


def _view(inspected: Inspected, *, counts: bool) -> EvidenceView:
    a = inspected.attestation
    return EvidenceView(
        id=a.id,
        release=a.release,
        service=a.service,
        kind=a.kind,
        name=a.name,
        findings=a.findings,
        summary=str(a.findings),
        sha256=a.sha256,
        size_bytes=a.size_bytes,
        by=a.principal.name,
        role=a.principal.role,
        at=a.at,
        counts=counts,
        doubt=inspected.doubt,
    )
