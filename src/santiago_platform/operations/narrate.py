"""Tells facts in prose, by an advisor, within the AI budget: diagnoses, post-mortems, the story of a capacity."""

from __future__ import annotations

from collections.abc import Sequence

from ..domain.context import clean, cut_lines, fenced
from ..domain.errors import ErrorCode, PlatformError
from ..domain.identity import Principal
from ..domain.narrative import FACTS_AT_MOST, Fact, Narrative, Paragraph, check_narrative
from ..domain.proposal import Ask, Draft, Proposal, Task
from ..ports import Ports
from ..ports.client_model import NeedsInput
from .advise import advise

TASKS = {
    Task.DIAGNOSIS: "Say what most likely went wrong, and why one would think so; what speaks against it, too.",
    Task.POST_MORTEM: "Tell what happened in the order of time: how it began, what it did to whom, how it was noticed, "
    "what was done and how it ended. Blame nobody.",
    Task.CAPACITY: "Tell how much of what there is is used, by what, how that has changed, and where it is short.",
}


async def narrate(
    ports: Ports, principal: Principal, task: Task, facts: Sequence[Fact], *, operation: str = ""
) -> Proposal[Narrative]:
    """`facts` in prose: `proposal.draft.request` is the narrative, `str` of it its text, `proposal.by` who wrote it.

    task: DIAGNOSIS, POST_MORTEM or CAPACITY. facts: 1 to 300, with ids of their own, all that an advisor is told, the
    most useful first: what does not fit into advisors.context_bytes is not told. Their texts may be anybody's.
    principal: whose budget it counts against, who may read all of it already; PLATFORM for what nobody asked for.
    operation: id that the charges are to have.

    Each paragraph names the facts it rests on, and has no figure besides theirs: what an advisor answers otherwise is
    asked again, then of the next one. The built-in planner tells the facts as they are and always does, so that
    this ends with a narrative, also without a network or a budget. It is redacted, and has no unseen characters. The
    draft's other fields (rationale, risks...) are checked against nothing: do not show them as what happened.

    Raises PlatformError: INVALID_ARGUMENT (no facts, too many, two with one id, another task); NeedsInput only within
    a client's call whose model is to be asked.
    """
    if task not in TASKS:
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"{task} is not told in prose", f"{', '.join(TASKS)} are")
    if not 0 < len(facts) <= FACTS_AT_MOST or len({fact.id for fact in facts}) < len(facts):
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT,
            f"{len(facts)} facts, of which {len({fact.id for fact in facts})} have an id of their own, tell nothing",
            f"1 to {FACTS_AT_MOST}, each with its own id",
        )
    told = _fitting(ports, facts)

    async def check(narrative: Narrative) -> None:
        check_narrative(narrative, told)

    ask = _ask(ports, task, told)
    try:
        proposal = await advise(ports, principal, ask, Draft[Narrative], operation=operation, check=check)
    except NeedsInput as needed:
        needed.operation = operation
        raise
    written = Narrative(
        paragraphs=tuple(
            Paragraph(text=clean(ports.advisors.redacted(p.text)).strip() or "-", facts=p.facts)
            for p in proposal.draft.request.paragraphs
        )
    )
    return proposal.model_copy(update={"draft": proposal.draft.model_copy(update={"request": written})})


def _fitting(ports: Ports, facts: Sequence[Fact]) -> list[Fact]:
    """Those that fit, as they may leave the machine. One at least."""
    left = ports.workspace.last_good_settings().advisors.context_bytes
    told: list[Fact] = []
    for fact in facts:
        text = cut_lines(ports.advisors.redacted(clean(fact.text))).replace("\n", " / ").strip() or "-"
        shown = fact.model_copy(update={"text": text[:2000]})
        left -= len(_line(shown).encode())
        if left < 0 and told:
            break
        told.append(shown)
    return told


def _line(fact: Fact) -> str:
    return f"{fact.id}: {fact}\n"


def _ask(ports: Ports, task: Task, facts: Sequence[Fact]) -> Ask:
    words = (
        f"{TASKS[task]} Each paragraph names in `facts` the ids of what it rests on. Write nothing that they do not "
    )
    words += "say: no event, no moment, no number of your own."
    return Ask(
        task=task,
        words=words,
        system=ports.workspace.role_card(),
        prompt=f"{words}\n\nThe facts, a line each, after its id:\n\n{fenced('facts', ''.join(map(_line, facts)))}",
        answer=Draft[Narrative].model_json_schema(),
        facts=tuple(facts),
    )
