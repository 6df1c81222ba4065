"""build.yaml: how the sources at a commit become the files of a release; and the one run of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Self

import redact_secret
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ...domain.errors import ErrorCode, PlatformError
from ...domain.identity import Name
from ...domain.release import Digest
from ..process import processes_at_home
from ..workspace.yaml_document import parse, validate
from .image_reference import ImageReference
from .job_definition import JobDefinition, check_job

SHOWN_LINES = 20
_LINE_CHARACTERS = 500
_KEPT_BYTES = 64 * 1024

Argument = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]


class Base(BaseModel):
    """The image that the release's files are laid over. Exactly one of `oci_layout` and `image`.

    oci_layout: a folder of the workspace that holds an OCI image layout. digest: of the manifest in it, needed
    where it holds several. image: of a registry; the digest that a tag names when a release is built is kept with it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    oci_layout: str | None = None
    image: str | None = None
    digest: Digest | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Base:
        if (self.oci_layout is None) == (self.image is None):
            raise ValueError("exactly one of oci_layout and image is needed")
        if self.image is not None:
            ImageReference.parse(self.image)
            if self.digest is not None:
                raise ValueError("`digest` is for oci_layout; write image: HOST/PATH@sha256:DIGEST")
        return self


class Build(BaseModel):
    """build.yaml, whole.

    command: argv, run once in the service's folder; without it the sources are the outputs.
    outputs: paths or globs, relative to the service's folder, of what the release consists of.
    variables: added to the otherwise clean environment of the command. jobs: by name; those of one kind run in this
    order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: Annotated[tuple[Argument, ...], Field(min_length=1)] | None = None
    outputs: Annotated[tuple[str, ...], Field(min_length=1)] = (".",)
    base: Base | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=86400)] = 1800
    variables: dict[Annotated[str, StringConstraints(pattern=r"^[^=\x00]+$")], Argument] = {}
    jobs: Annotated[dict[Name, JobDefinition], Field(max_length=50)] = {}

    @model_validator(mode="after")
    def _outputs_stay_inside(self) -> Build:
        for output in self.outputs:
            path = PurePosixPath(output)
            if path.is_absolute() or ".." in path.parts or "\0" in output or not output:
                raise ValueError(f"outputs: {output!r} must be a path within the service's folder")
        return self


def read_build(text: str, where: str) -> Build:
    """Raises PlatformError(INVALID_ARGUMENT) for what is no build.yaml; it begins `WHERE:LINE: `."""
    document = parse(text, where)
    build = validate(document, Build)
    for name, job in build.jobs.items():
        check_job(document, name, job)
    return build


async def run_build(build: Build, source: Path, *, scratch: Path, epoch: int, subject: str) -> None:
    """Runs the build's command in `source`, and ends every process of it.

    scratch: a private, empty directory for HOME and TMPDIR. epoch: SOURCE_DATE_EPOCH, Unix seconds.
    Raises PlatformError(FAILED_PRECONDITION) with the last output lines where the command is missing, fails or
    exceeds its time. A cancellation ends the command.
    """
    if build.command is None:
        return
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as output, _Tail(reading) as tail:
        try:
            process = await asyncio.create_subprocess_exec(
                *build.command,
                cwd=source,
                env=_environment(build.variables, scratch, epoch),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as exc:
            raise PlatformError(
                ErrorCode.FAILED_PRECONDITION,
                f"the build of {subject} cannot start: {build.command[0]!r}: {exc.strerror}",
                "`command` in build.yaml is a program on PATH or in the service's folder, executable in git",
            ) from exc
        try:
            async with asyncio.timeout(build.timeout_seconds):
                code = await process.wait()
        except TimeoutError as exc:
            raise _failed(subject, f"did not end within {build.timeout_seconds:g} s", tail) from exc
        finally:
            _end_group(process.pid)
            await asyncio.to_thread(end_builds, scratch)  # what left the group
            await process.wait()
        if code != 0:
            ended = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
            raise _failed(subject, ended, tail)


def _environment(variables: Mapping[str, str], scratch: Path, epoch: int) -> dict[str, str]:
    home, temporary = scratch / "home", scratch / "tmp"
    home.mkdir()
    temporary.mkdir()
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(epoch),
        **variables,
    }


def end_builds(below: Path) -> None:
    """Ends every process of the builds whose private folders lie at or below `below`: those of a killed daemon too."""
    for process in processes_at_home(below):
        process.send(signal.SIGKILL)


def _end_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


class _Tail:
    """The end of what is written to a pipe, in bounded memory.

    A pipe of our own: asyncio's would keep `wait` from returning while any process that outlives the command,
    in the background or out of its group, still holds it.
    """

    def __init__(self, reading: int) -> None:
        self._reading = reading
        self._kept = b""

    def __enter__(self) -> Self:
        os.set_blocking(self._reading, False)
        asyncio.get_running_loop().add_reader(self._reading, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._reading)
        os.close(self._reading)

    def lines(self) -> str:
        self._read()  # a pipe holds no more than one read takes
        text = self._kept.decode(errors="backslashreplace")
        # Redacted before it is cut: half a secret is no longer recognised as one.
        redacted = redact_secret.scan_and_redact(text, policy=lambda finding, context: "redact").text
        shown = [line[-_LINE_CHARACTERS:] for line in redacted.splitlines()[-SHOWN_LINES:]]
        return "\n".join("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in s) for s in shown)

    def _read(self) -> None:
        try:
            self._kept = (self._kept + os.read(self._reading, _KEPT_BYTES))[-_KEPT_BYTES:]
        except BlockingIOError:
            return


def _failed(subject: str, how: str, tail: _Tail) -> PlatformError:
    lines = tail.lines()
    said = f"; its last output:\n{lines}" if lines else " and wrote nothing"
    return PlatformError(
        ErrorCode.FAILED_PRECONDITION,
        f"the build of {subject} {how}{said}",
        "run the command of build.yaml in a clean clone; it gets PATH, HOME, LANG and its `variables`, nothing else",
    )
