"""Jobs as build.yaml defines them, checked as far as a build can: they are to fail then, and not at night."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ...domain.job import Job, When, schedule_problem, time_zone_problem
from ..workspace.score_template import RESERVED
from ..workspace.yaml_document import Document, Path

Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]


class JobDefinition(BaseModel):
    """A command of the release that runs once and ends: before or after a deploy, or on a schedule.

    variables: over those of the service's first container. schedule: five fields of cron, in `time_zone`.
    timeout_seconds: of one attempt. retries: further attempts after one that failed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    when: When
    command: Annotated[tuple[Text, ...], Field(min_length=1)]
    variables: dict[Annotated[str, StringConstraints(pattern=r"^[^=\x00]+$")], Text] = {}
    schedule: str = ""
    time_zone: str = "UTC"
    timeout_seconds: Annotated[int, Field(ge=1, le=86400)] = 600
    retries: Annotated[int, Field(ge=0, le=10)] = 0

    def job(self, name: str) -> Job:
        variables = tuple(sorted(self.variables.items()))
        return Job.model_validate({"name": name, **dict(self), "variables": variables})


def check_job(document: Document, name: str, job: JobDefinition) -> None:
    """Raises PlatformError(INVALID_ARGUMENT) with the line of what contradicts itself."""
    path: Path = ("jobs", name)
    if not job.command[0] or "=" in job.command[0]:
        raise document.error((*path, "command"), "the first word of a command is a program, without a `=` in it")
    for variable in job.variables:
        if RESERVED.fullmatch(variable):
            raise document.error(
                (*path, "variables", variable), f"the platform sets {variable} itself", "give it another name"
            )
    example = 'five fields of cron, for example schedule: "30 4 * * *"'
    if job.when is When.SCHEDULED and not job.schedule:
        raise document.error(path, f"the scheduled job {name} has no `schedule`", example)
    if job.when is not When.SCHEDULED and job.schedule:
        raise document.error(
            (*path, "schedule"),
            f"a {job.when} job has no schedule of its own",
            "write `when: scheduled`, or no schedule",
        )
    if job.schedule and (problem := schedule_problem(job.schedule)):
        raise document.error((*path, "schedule"), f"{job.schedule!r:.60} is no schedule: {problem}", example)
    if problem := time_zone_problem(job.time_zone):
        raise document.error((*path, "time_zone"), problem, "names are as in Europe/Madrid; UTC is the default")
