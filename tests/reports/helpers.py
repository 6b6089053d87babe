"""What tests of reports look at: the shape and the words of a page, the words of the other formats."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

from rich.console import Console

from grader.records import Report
from grader.reports import junit_xml, report_html, report_markdown, submission_panel


class Shape(HTMLParser):
    """The tags of a page with their attributes' names, and its visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        values = dict(attrs)
        if values.get("href"):
            self.links.append(values["href"] or "")
        if values.get("id"):
            self.ids.add(values["id"] or "")
        if tag not in ("meta", "input", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def printed(renderable: object, width: int = 80) -> str:
    """What a terminal of this width shows."""
    out = io.StringIO()
    Console(file=out, width=width).print(renderable)
    return out.getvalue()


def flat(text: str) -> str:
    """Words only: without the frame of a panel and the line breaks a format adds."""
    return " ".join(re.sub(r"[│╭╮╰╯─\\`]", " ", text).split())


def in_every_format(report: Report) -> dict[str, str]:
    """What each format for one submission says, as words."""
    return {
        "html": flat(Shape(report_html(report)).text),
        "student": flat(Shape(report_html(report, "student")).text),
        "markdown": flat(report_markdown(report)),
        "terminal": flat(printed(submission_panel(report))),
        "junit": flat(junit_xml([report])),
    }
