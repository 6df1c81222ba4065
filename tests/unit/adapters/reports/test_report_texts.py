from __future__ import annotations

from html.parser import HTMLParser

from santiago_platform.adapters.reports.markdown import text, to_markdown
from santiago_platform.adapters.reports.page import to_html
from santiago_platform.testing.reports import report


class Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_page_has_no_script_and_shows_what_others_wrote_as_text() -> None:
    page = to_html(report(), {"deploys": b"<svg/>"})
    parsed = Page(page)
    assert "script" not in parsed.tags
    assert any("<script>alert(1)</script>" in words for words in parsed.words)
    assert "default-src 'none'" in page
    assert {"h1", "h2", "table", "th", "img"} <= set(parsed.tags)
    assert "Missing: nobody knows <it>." in parsed.words


def test_a_page_without_drawings_has_no_images() -> None:
    assert "img" not in Page(to_html(report(), {}, "no charts")).tags


def test_markdown_keeps_a_table_whole_whatever_its_cells_hold() -> None:
    lines = to_markdown(report(), {"deploys"}).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "| service | why |"
    assert table[1] == "| --- | --- |"
    assert len(table) == 3
    assert table[2].replace("\\|", "").count("|") == 3
    assert "\\<script\\>" in table[2]
    assert not any(line.startswith("# y") for line in lines)


def test_markdown_shows_the_charts_that_were_drawn_and_what_is_missing() -> None:
    lines = to_markdown(report(), {"deploys"})
    assert "](deploys.png)" in lines
    assert "Missing: nobody knows \\<it\\>." in lines
    assert "](deploys.png)" not in to_markdown(report(), ())


def test_plain_words_stay_readable() -> None:
    assert text("web-api, 2026-02-16: 3.5% of error_budget") == "web-api, 2026-02-16: 3.5% of error_budget"
