"""Cards: as HTML that any notebook shows, and as text."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

from grader.assignments import load_assignment
from grader.records import Status, Verdict
from grader.rubric.compare import failed, passed
from grader.rubric.judge import score
from grader.selfcheck.card import Card, Row

ASSIGNMENT = load_assignment()


def row(name: str, verdict: Verdict) -> Row:
    return next(Row.of(result, verdict) for result in score(ASSIGNMENT, {name: verdict}).criteria if result.id == name)


WRONG = row("lora/forward", failed("For `<b>` it raised </div><script>alert(1)</script>.", "Look at `W x`."))
RIGHT = row("lora/gradients", passed("A, B and the input get gradients."))


class Tags(HTMLParser):
    """Opened tags, with what they carry; closed ones have to fit."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_card_says_what_was_seen_and_what_to_try() -> None:
    card = Card("`LoRA`", [WRONG, RIGHT], ["A fact."], ["A note."])
    assert card.summary == "1 of 2 right, 2 of 8 points"
    assert not card.passed and replace(card, rows=[RIGHT]).passed
    text = str(card)
    wanted = (
        "✗",
        "✓",
        "For `<b>` it raised",
        "Try: Look at",
        "Read on: ",
        "https://",
        "A fact.",
        "A note.",
        "lora/forward, 0 of 6",
    )
    assert not [part for part in wanted if part not in text]
    assert "Try" not in str(replace(card, rows=[RIGHT]))
    assert max(map(len, text.splitlines())) <= 100


def test_html_is_escaped_and_has_inline_styles_only() -> None:
    html = Card("`LoRA` <i>", [WRONG, RIGHT], ["<fact>"], ["<note>"])._repr_html_()
    tags = Tags()
    tags.feed(html)
    assert not tags.open
    assert {tag for tag, _ in tags.found} == {"div", "b", "span", "code", "a"}
    assert {name for _, carried in tags.found for name in carried} <= {
        "style",
        "role",
        "aria-label",
        "href",
        "target",
        "rel",
    }
    assert "&lt;script&gt;" in html
    colours = {
        colour
        for _, carried in tags.found
        for colour in re.findall(r"(?<![-\w])color:([^;]+)", carried.get("style") or "")
    }
    assert "#000" not in colours and "black" not in colours
    assert "background:#" not in html, "a card takes the notebook's own background, dark or light"


def test_partial_points_and_what_is_undecided() -> None:
    half = row("full/accuracy", replace(failed("0.75"), share=0.5))
    assert (half.mark, half.result.earned, half.result.points) == ("failed", 5, 10)
    assert row("full/accuracy", Verdict(Status.ERROR, "?")).mark == "undecided"
    assert row("full/accuracy", Verdict(Status.SKIPPED, "", because="full/trained")).mark == "failed"


def test_outside_of_notebooks_a_card_is_printed_once(capsys) -> None:
    card = Card("`LoRA`", [RIGHT]).show()
    assert capsys.readouterr().out == f"{card}\n"
    assert repr(card) == "<`LoRA`: 1 of 1 right, 2 of 2 points>"
