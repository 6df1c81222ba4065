"""The prompts that agents may take over. A new one is a line in the registry here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class Prompt:
    """file: of the package, with the words."""

    name: str
    title: str
    description: str
    file: str

    @property
    def text(self) -> str:
        return files("santiago_platform").joinpath(self.file).read_text(encoding="utf-8")


PROMPTS = {
    prompt.name: prompt
    for prompt in (
        Prompt(
            name="role_card",
            title="Role card of the platform engineer",
            description="Who the platform engineer is, how it decides, and what it is measured by.",
            file="role_card.md",
        ),
    )
}
