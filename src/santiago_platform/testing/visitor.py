"""What every visitor keeps to."""

from __future__ import annotations

from ..ports.visitor import Visitor


class VisitorContract:
    """Subclasses give the fixture `visitor`, before which the service `web` in `production` answers 200, but for the
    path `/missing`, which it answers with 404; nothing else is there."""

    async def test_an_answer_is_told_by_its_status(self, visitor: Visitor) -> None:
        assert await visitor.ask("web", "production", "/", {"x-one": "1"}) == 200
        assert await visitor.ask("web", "production", "/missing", {}) == 404

    async def test_where_nothing_answers_there_is_no_status(self, silent: Visitor) -> None:
        assert await silent.ask("web", "production", "/", {}) is None
