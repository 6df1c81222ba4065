"""The contract of ports.logs.Logs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ..domain.errors import ErrorCode, PlatformError
from ..ports.logs import LogFilter, Logs

# at (Unix seconds), instance, level, text
Written = tuple[float, str, str, str]
START = 1_800_000_000.0
WEB, OTHER, SHOP = "web__production__a1__0", "web__production__a1__1", "shop__staging__b2__0"


class LogsContract:
    """Fixtures: `logs`; `write`, which puts lines in, oldest first."""

    @pytest.fixture(autouse=True)
    def lines(self, write: Callable[[list[Written]], None]) -> None:
        """120 lines, one a second, by three instances in turn; every tenth is an error."""
        write(
            [(START + n, (WEB, OTHER, SHOP)[n % 3], "error" if n % 10 == 0 else "", self.text(n)) for n in range(120)]
        )

    @staticmethod
    def text(n: int) -> str:
        return f"ERROR Failed {n}" if n % 10 == 0 else f"line {n}"

    async def test_lines_of_all_instances_come_newest_first(self, logs: Logs) -> None:
        page = await logs.read(LogFilter(limit=5))
        assert [line.text for line in page.lines] == [self.text(n) for n in (119, 118, 117, 116, 115)]
        newest = page.lines[0]
        assert (newest.service, newest.environment, newest.version, newest.instance) == (
            "shop",
            "staging",
            "b2",
            SHOP,
        )
        assert newest.at == START + 119

    @pytest.mark.parametrize("limit", [1, 7, 40, 500])
    async def test_pages_put_together_are_all_lines_each_once(self, logs: Logs, limit: int) -> None:
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = await logs.read(LogFilter(limit=limit, before=cursor))
            assert len(page.lines) <= limit
            seen += [line.text for line in page.lines]
            cursor = page.cursor
            if cursor is None:
                break
        assert seen == [self.text(n) for n in range(119, -1, -1)]

    @pytest.mark.parametrize(
        ("wanted", "numbers"),
        [
            (LogFilter(service="shop", limit=2), [119, 116]),
            (LogFilter(environment="production", limit=2), [118, 117]),
            (LogFilter(version="b2", limit=1), [119]),
            (LogFilter(instance=OTHER, limit=2), [118, 115]),
            (LogFilter(level="error", limit=2), [110, 100]),
            (LogFilter(text="fAiLeD 5"), [50]),
            (LogFilter(regex=r"Failed [57]0$"), [70, 50]),
            (LogFilter(regex=r"^line 11[0-9]$", limit=2), [119, 118]),
            (LogFilter(regex="failed 5"), []),
            (LogFilter(text="line", regex="1[12]$", level="", limit=2), [112, 111]),
            (LogFilter(ids=("118", "7", "ine")), [118, 7]),
            (LogFilter(ids=("118",), service="shop"), []),
            (LogFilter(since=START + 117), [119, 118, 117]),
            (LogFilter(until=START + 1), [1, 0]),
            (LogFilter(since=START + 5, until=START + 6), [6, 5]),
            (LogFilter(service="web", version="b2"), []),
            (LogFilter(service="nobody"), []),
        ],
        ids=lambda value: str(value.model_dump(exclude_none=True)) if isinstance(value, LogFilter) else "",
    )
    async def test_a_filter_leaves_what_it_says(self, logs: Logs, wanted: LogFilter, numbers: list[int]) -> None:
        assert [line.text for line in (await logs.read(wanted)).lines] == [self.text(n) for n in numbers]

    async def test_new_lines_do_not_move_the_next_page(
        self, logs: Logs, write: Callable[[list[Written]], None]
    ) -> None:
        first = await logs.read(LogFilter(limit=10))
        write([(START + 200, WEB, "", "new")])
        second = await logs.read(LogFilter(limit=1, before=first.cursor))
        assert [line.text for line in second.lines] == [self.text(109)]

    @pytest.mark.parametrize("cursor", ["x", "../../etc/passwd", "e30=", "\u0000", "W10="])
    async def test_a_cursor_that_was_never_given_is_refused(self, logs: Logs, cursor: str) -> None:
        with pytest.raises(PlatformError) as caught:
            await logs.read(LogFilter(before=cursor))
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT

    @pytest.mark.parametrize("regex", ["(", "[a", r"(?P<x", "a**"])
    async def test_a_bad_regular_expression_is_refused(self, logs: Logs, regex: str) -> None:
        with pytest.raises(PlatformError) as caught:
            await logs.read(LogFilter(regex=regex))
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT

    async def test_a_search_is_paged_as_all_is(self, logs: Logs) -> None:
        first = await logs.read(LogFilter(text="failed", limit=5))
        second = await logs.read(LogFilter(text="failed", limit=50, before=first.cursor))
        assert [line.text for line in (*first.lines, *second.lines)] == [self.text(n) for n in range(110, -1, -10)]
        assert not first.partial
        assert second.cursor is None

    async def test_lines_of_a_job_s_runs_are_found_by_its_name_and_by_what_ran_it(
        self, logs: Logs, write: Callable[[list[Written]], None]
    ) -> None:
        runs = [f"web__production__migrate.a1.ro-{n}" for n in (1, 2)]
        write([(START + 200 + n, run, "", f"migrating {n}") for n, run in enumerate(runs)])
        page = await logs.read(LogFilter(service="web", job="migrate"))
        assert [(line.text, line.job, line.version) for line in page.lines] == [
            ("migrating 1", "migrate", "a1"),
            ("migrating 0", "migrate", "a1"),
        ]
        assert [line.text for line in (await logs.read(LogFilter(instance=runs[0]))).lines] == ["migrating 0"]
        assert (await logs.read(LogFilter(version="a1", limit=1))).lines[0].job == "migrate"
        assert (await logs.read(LogFilter(job="other"))).lines == ()
