"""What is told of facts: a diagnosis, a post-mortem, the story of a capacity. Pure.

A narrative says nothing that no fact says. Each of its paragraphs names the facts that it rests on; one that names
others, or that has a figure which none of its facts has, is refused. So an advisor may order, join and explain, and
cannot make up an event, a moment or a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated

from pydantic import Field

from .errors import ErrorCode, PlatformError
from .value import Value

FACTS_AT_MOST = 300
FactId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,79}$")]
_FIGURE = re.compile(r"(\d+)(?:\.(\d+))?")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


class Fact(Value):
    """Something that is known. id: by which a narrative names it. at: when it was so, aware; None of what has no
    moment."""

    id: FactId
    text: Annotated[str, Field(min_length=1, max_length=2000)]
    at: datetime | None = None

    def __str__(self) -> str:
        return f"{self.at.isoformat(timespec='seconds')} {self.text}" if self.at is not None else self.text


class Paragraph(Value):
    """facts: ids of those that it rests on."""

    text: Annotated[str, Field(min_length=1, max_length=2100)]
    facts: Annotated[tuple[FactId, ...], Field(min_length=1, max_length=50)]


class Narrative(Value):
    """In the order in which it is read."""

    paragraphs: Annotated[tuple[Paragraph, ...], Field(min_length=1, max_length=FACTS_AT_MOST)]

    def __str__(self) -> str:
        return "\n\n".join(paragraph.text for paragraph in self.paragraphs)


def check_narrative(narrative: Narrative, facts: Iterable[Fact]) -> None:
    """Raises PlatformError(INVALID_ARGUMENT) that names the paragraph, by its number from 1, and what no fact has."""
    by_id = {fact.id: fact for fact in facts}
    for number, paragraph in enumerate(narrative.paragraphs, start=1):
        unknown = [name for name in paragraph.facts if name not in by_id]
        if unknown:
            raise _refused(
                number, f"there is no fact {', '.join(unknown[:5])}", "name facts by the ids that were given"
            )
        said = [figure for name in paragraph.facts for figure in _figures(str(by_id[name]))]
        known = {*said, *(figure.partition(".")[0] for figure in said if not figure.startswith("0."))}
        made_up = [figure for figure in _figures(paragraph.text) if figure not in known]
        if made_up:
            why = f"none of its facts has the figure {', '.join(made_up[:5])}"
            raise _refused(number, why, "name the fact that has it, or leave it out; compute nothing")


def plain_narrative(facts: Sequence[Fact]) -> Narrative:
    """The facts themselves, those with a moment in the order of time, then the others as they were given."""
    timed = sorted((fact for fact in facts if fact.at is not None), key=lambda fact: (fact.at, fact.id))
    told = (*timed, *(fact for fact in facts if fact.at is None))
    return Narrative(paragraphs=tuple(Paragraph(text=str(fact), facts=(fact.id,)) for fact in told))


def _figures(text: str) -> list[str]:
    """Without zeros that say nothing: "14:02" has 14 and 2, "0.50%" has 0.5 and not 5. What stands for a number in one
    character, as ½ does, is a figure, too."""
    figures = []
    for whole, part in _FIGURE.findall(_THOUSANDS.sub("", text)):
        fraction = part.rstrip("0")
        figures.append((whole.lstrip("0") or "0") + (f".{fraction}" if fraction else ""))
    return figures + [c for c in text if c.isnumeric() and not c.isdecimal()]


def _refused(number: int, why: str, hint: str) -> PlatformError:
    return PlatformError(ErrorCode.INVALID_ARGUMENT, f"paragraph {number}: {why}", hint)
