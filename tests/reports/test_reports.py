"""What each renderer shows, what a student does not see, and that no text of a student's becomes anything but text."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grader import records
from grader.records import CellError, CellRun, CriterionResult, Notice, Outcome, Report, Status, Verdict
from grader.reports import (
    class_html,
    class_table,
    for_student,
    junit_xml,
    needs_review_csv,
    report_html,
    report_json,
    report_markdown,
    report_schema,
    scores_csv,
    submission_panel,
    summarize,
)
from grader.reports.sanitize import _TABLE, clean, csv_text, line, without_paths
from grader.reports.view import methods, status_of
from tests.reports import samples
from tests.reports.helpers import Shape, printed

GOLDEN = Path(__file__).parent / "golden"
VALIDATOR = jsonschema.Draft202012Validator(report_schema())
HOSTILE_TEXT = st.one_of(
    st.text(max_size=60),
    st.text(alphabet="<>&\"'`|=+-@\\/[](){}%#*_~!$:\n\r\t\x00\x1b\u202e\u2066\ud800\ufffe aZ9", max_size=60),
    st.sampled_from(
        [
            samples.HOSTILE,
            "</pre>",
            "]]>",
            "\x1b]0;title\x07",
            '" onload="x',
            "{{ 7*7 }}",
            "=1+1",
            " @SUM(A1)",
            "\t-1",
            "`" * 5,
        ]
    ),
)
everyone = pytest.mark.parametrize("name", samples.SAMPLES)


def with_text(text: str) -> Report:
    """The sample with `text` in every field that a student or a roster fills."""
    return _replaced(samples.hostile(), text)


def _replaced(value: object, text: str) -> object:
    if isinstance(value, Enum):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _replaced(getattr(value, f.name), text) for f in fields(value)})
    if isinstance(value, tuple):
        return tuple(_replaced(item, text) for item in value)
    if isinstance(value, dict):
        return {_replaced(key, text): _replaced(item, text) for key, item in value.items()}
    return value.replace(samples.HOSTILE, text) if isinstance(value, str) else value


@cache
def harmless() -> set[tuple[str, tuple[str, ...]]]:
    """Every element, with the names of its attributes, on pages of reports in which no text looks like markup."""
    odd = with_text("`x`")
    reports = [make() for name, make in samples.SAMPLES.items() if name != "hostile"] + [
        odd,
        with_text("x"),
        with_text(""),
    ]
    pages = [report_html(report) for report in reports] + [
        class_html(reports, ["x"], "x", [Notice("x", "`x`")]),
        class_html([odd]),
    ]
    return {tag for page in pages for tag in Shape(page).tags}


# JSON


@everyone
def test_json_fits_the_published_schema(name: str) -> None:
    for report in (samples.SAMPLES[name](), for_student(samples.SAMPLES[name]())):
        text = report_json(report)
        VALIDATOR.validate(json.loads(text))
        assert text == report_json(report)
        assert text.encode("utf-8")


def test_half_points_fit_the_published_schema() -> None:
    report = samples.perfect()
    report = replace(report, score=replace(report.score, total=2.5))
    VALIDATOR.validate(json.loads(report_json(report)))


def test_schema_describes_every_field() -> None:
    schema = report_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    described = {"Report": schema, **schema["$defs"]}
    for name in (
        "Report",
        "Submission",
        "Execution",
        "CellRun",
        "CellError",
        "Usage",
        "Adaptation",
        "Notice",
        "Score",
        "CriterionResult",
        "Verdict",
    ):
        properties = described[name]["properties"]
        expected = {field.name for field in fields(getattr(records, name))}
        assert set(properties) - {"schema", "needs_review"} == expected, name
        assert all(entry.get("description") for entry in properties.values()), name
    assert set(schema["$defs"]["Outcome"]["enum"]) == {outcome.value for outcome in Outcome}
    assert set(schema["$defs"]["Status"]["enum"]) == {status.value for status in Status}
    published = Path(__file__).parents[2] / "docs" / "report.schema.json"
    assert json.loads(published.read_text("utf-8")) == schema, "run `python -m tests.reports.regenerate`"


@pytest.mark.parametrize(
    "break_it",
    [
        lambda d: d.pop("schema"),
        lambda d: d.update(schema="dat450-report/3"),
        lambda d: d.update(needs_review=True),
        lambda d: d["score"].update(total=None),
        lambda d: d["score"]["criteria"][0].update(earned=-1),
        lambda d: d["score"]["criteria"][0]["verdict"].update(status="fine"),
        lambda d: d.update(seed="aa"),
        lambda d: d["execution"].update(outcome="lost"),
    ],
)
def test_schema_refuses_what_is_wrong(break_it) -> None:
    document = json.loads(report_json(samples.perfect()))
    VALIDATOR.validate(document)
    break_it(document)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(document)


def test_json_has_no_number_that_json_lacks() -> None:
    assert "NaN" not in report_json(samples.hostile()) and "Infinity" not in report_json(samples.hostile())


def test_json_is_safe_to_print_and_loses_nothing() -> None:
    text = report_json(samples.hostile())
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]", text)
    assert json.loads(text)["submission"]["display_name"] == samples.HOSTILE.replace("\ud800", "\ufffd")


# The student's view


def test_student_sees_no_path_other_id_or_grader_fault() -> None:
    assert "/home/ta" in report_json(samples.review())
    shown = report_json(for_student(samples.review()))
    assert "/home/ta" not in shown and "IndexError" not in shown and "A person has to look" in shown
    group = report_json(for_student(samples.group()))
    assert not any(word in group for word in ("30001", "30002", "30003", "submissions/"))
    assert "Agreed by e-mail" in group and "helpers.py" in group
    assert "bwrap" in report_json(samples.sandbox_failed())
    assert "bwrap" not in report_json(for_student(samples.sandbox_failed()))


@pytest.mark.parametrize(
    "render",
    [
        lambda r: report_html(r, "student"),
        lambda r: report_json(for_student(r)),
        lambda r: report_markdown(for_student(r)),
    ],
)
def test_student_does_not_read_about_others(render) -> None:
    assert "Oskar" in report_html(samples.mistakes(), "instructor")
    assert "Oskar" not in render(samples.mistakes()) and "20031" not in render(samples.mistakes())
    assert "2 hours and 10 minutes" in render(samples.mistakes())


def test_metrics_reach_a_student_only_by_name() -> None:
    metrics = {
        "methods": {"full": {"accuracy": 0.9, "labels": [1, 0]}, "secret": {"accuracy": 1.0}},
        "runs_seen": 3,
        "heldout": 2560,
    }
    shown = for_student(replace(samples.perfect(), metrics=metrics)).metrics
    assert shown == {"methods": {"full": {"accuracy": 0.9}}, "runs_seen": 3}


def test_student_traceback_has_no_machine_folders() -> None:
    error = CellError(
        "ValueError",
        "in /tmp/run-17/box/x.csv",
        "File /opt/venv/lib/python3.11/site-packages/torch/nn/linear.py:12\nFile ~/PA4.py",
    )
    run = replace(samples.execution(), cells=(CellRun(1, "error", 0.1, 0.1, error, "/root/secret.txt"),))
    cell = for_student(replace(samples.perfect(), execution=run)).execution.cells[0]
    assert cell.error.message == "in …/x.csv"
    assert cell.error.traceback == "File …/torch/nn/linear.py:12\nFile ~/PA4.py"
    assert cell.output == "…/secret.txt"


@everyone
def test_for_student_twice_changes_nothing(name: str) -> None:
    once = for_student(samples.SAMPLES[name]())
    assert report_json(for_student(once)) == report_json(once)


# Pages


@everyone
def test_page_is_well_formed_self_contained_complete(name: str) -> None:
    report = samples.SAMPLES[name]()
    for audience in ("instructor", "student"):
        page = report_html(report, audience)
        shape = Shape(page)
        assert not shape.open
        assert not {"script", "img", "iframe", "link", "object", "form"} & {tag for tag, _ in shape.tags}
        inside = [link for link in shape.links if link.startswith("#")]
        assert inside and all(link[1:] in shape.ids for link in inside)
        # Ways out of the file: an instructor's back to the class, and to the pages where a lost criterion says to read on.
        out = [link for link in shape.links if link not in inside]
        assert out[: audience == "instructor"] == (["../../class.html"] if audience == "instructor" else [])
        lost = [
            result for result in report.score.criteria if status_of(result) is Status.FAILED and result.verdict.hint
        ]
        assert out[audience == "instructor" :] == [result.read.url for result in lost]
        assert "url(" not in page.split("</style>")[0] and "@import" not in page
        for result in report.score.criteria:
            assert result.id in shape.ids
            assert f"{'?' if result.earned is None else result.earned} / {result.points}" in shape.text
        assert ("Not final yet" in shape.text) == (report.score.total is None)


def test_page_shows_seen_try_and_root_cause() -> None:
    text = Shape(report_html(samples.mistakes())).text
    for words in (
        "0 / 10",
        "Seen: When training started, 104 tensors",
        "Try: Freeze the body",
        "Not judged, since it builds on head/frozen",
        "Go there",
    ):
        assert words in text.replace(" .", "."), words
    assert "NameError" in text and "Cell 35" in text and "3 adaptations" in text and "No GPU" not in text
    assert "LoraLinear was taken for" in text and "0.671" in text and "161,026" in text
    assert "Points set by hand: Agreed by e-mail" in Shape(report_html(samples.group())).text
    assert "Run without isolation" in Shape(report_html(samples.group())).text
    assert "Run without isolation" not in text
    assert "not a notebook" in Shape(report_html(samples.nothing())).text


def test_markup_and_templates_are_shown_as_written() -> None:
    shape = Shape(report_html(samples.hostile()))
    assert "</script><script>alert(1)</script>" in shape.text and "{{7*7}}" in shape.text
    assert {name for _, names in shape.tags for name in names if name.startswith("on")} == set()


@pytest.mark.parametrize("size", [0, 1, 30, 300])
def test_class_page(size: int) -> None:
    reports = samples.a_class(size)
    page = class_html(reports, ["Ebba Grön"], "Lab <4>", [Notice("roster", "Two belong to nobody & all.")])
    shape = Shape(page)
    assert (
        not shape.open
        and "Lab <4>" in shape.text
        and "Ebba Grön" in shape.text
        and "Two belong to nobody & all." in shape.text
    )
    for report in reports:
        assert f"submissions/{report.submission.id}/instructor.html" in shape.links
    assert ("Likely a fault of the grader:" in shape.text) == (size >= 30)
    assert len(page) < 400_000


def test_policy_names_the_only_script() -> None:
    import base64
    import hashlib

    page = class_html(samples.a_class(10), title=samples.HOSTILE)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in page or f"script-src 'sha256-{digest}'" in page


def test_links_stay_below_the_run() -> None:
    odd = replace(samples.perfect(), submission=replace(samples.perfect().submission, id='../../x"onclick=1'))
    (link,) = {link for link in Shape(class_html([odd])).links if link.startswith("submissions")}
    assert link == "submissions/..%2F..%2Fx%22onclick%3D1/instructor.html"


def test_suspect_criterion_is_not_just_a_hard_one() -> None:
    def of(failed: int, passed: int, skipped: int) -> bool:
        verdicts = [Status.FAILED] * failed + [Status.PASSED] * passed + [Status.SKIPPED] * skipped
        reports = [
            replace(samples.perfect(), score=samples.score({"lora/forward": Verdict(status)})) for status in verdicts
        ]
        return "lora/forward" in [criterion.id for criterion in summarize(reports).suspect]

    assert of(9, 1, 0) and of(9, 1, 30)
    assert not of(8, 2, 0) and not of(4, 0, 0)


def test_criteria_that_as_many_fail_are_named_in_one_sentence() -> None:
    wrong = {"lora/forward": Verdict(Status.FAILED), "head/frozen": Verdict(Status.FAILED)}
    summary = summarize([replace(samples.perfect(), score=samples.score(wrong)) for _ in range(6)])
    assert summary.suspicions == ("6 of the 6 that reached them fail `head/frozen`, `lora/forward`",)
    assert class_html(summary.reports).count("Likely a fault of the grader:") == 1


@pytest.mark.parametrize(
    ("possible", "spans"),
    [
        (9, "0 1 2 3 4 5 6 7 8–9"),
        (10, "0 1 2 3 4 5 6 7 8 9–10"),
        (100, "0–9 10–19 20–29 30–39 40–49 50–59 60–69 70–79 80–89 90–100"),
    ],
)
def test_totals_are_counted_in_classes(possible, spans) -> None:
    report = samples.perfect()
    totals = (0, possible / 2, possible)
    reports = [replace(report, score=replace(report.score, possible=possible, total=total)) for total in totals]
    found = summarize(reports).histogram
    assert " ".join(bounds for bounds, _ in found) == spans
    assert [found[0][1], found[len(found) // 2][1], found[-1][1]] == [1, 1, 1]


def test_copies_are_pointed_out() -> None:
    one = samples.perfect()
    other = replace(samples.group(), submission=replace(samples.group().submission, sha256=one.submission.sha256))
    found = summarize([one, other]).suspicious
    assert {report.submission.id for report, _ in found} == {"12345", "30001"}
    assert "1 other. See Åsa Svensson." in found[0][1][0].text
    assert not summarize([one, samples.group()]).suspicious


# Tables, Markdown, JUnit, terminal


def test_scores_row_per_submission_column_per_criterion() -> None:
    reports = [make() for make in samples.SAMPLES.values()]
    rows = list(csv.DictReader(io.StringIO(scores_csv(reports))))
    assert len(rows) == len(reports)
    by_id = {row["submission"]: row for row in rows}
    assert by_id["12345"]["total"] == "100" and by_id["12345"]["lora/accuracy"] == "6"
    assert by_id["20117"]["total"] == "" and by_id["20117"]["lora/forward"] == "" and by_id["20117"]["certain"] == "90"
    assert by_id["12399"]["late"] == "yes" and by_id["30001"]["student_ids"] == "30001 30002 30003"


def test_needs_review_has_a_row_per_criterion_to_fill_in() -> None:
    rows = list(
        csv.DictReader(io.StringIO(needs_review_csv([samples.perfect(), samples.review(), samples.sandbox_failed()])))
    )
    found = [(row["submission"], row["criterion"], row["points"]) for row in rows]
    assert found[:3] == [("20117", "lora/forward", "6"), ("20117", "lora/rank-scaling", "4"), ("20801", "", "")]
    assert len(found) == 19 and sum(int(points) for *_, points in found[3:]) == 100
    assert all(row["give"] == row["explanation"] == "" for row in rows)


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@A1", "\t=1", " =1", "\r=1", "\u200b=1", "\x1b[0m=1", "＝1"])
def test_no_cell_is_a_formula(formula: str) -> None:
    assert csv_text(formula).startswith("'")
    assert csv_text("Åsa") == "Åsa"


def test_junit_counts() -> None:
    root = ElementTree.fromstring(
        junit_xml([samples.mistakes(), samples.review(), samples.group(), samples.hostile()]).split("\n", 1)[1]
    )
    first, second, third, _ = root.findall("testsuite")
    assert (first.get("tests"), first.get("failures"), first.get("skipped"), first.get("errors")) == (
        "16",
        "3",
        "2",
        "0",
    )
    assert (second.get("errors"), second.get("failures")) == ("2", "0")
    assert third.get("failures") == "0", "points set by hand overrule the verdict"
    for suite in root:
        for tag, key in (("failure", "failures"), ("skipped", "skipped"), ("error", "errors")):
            assert len(suite.findall(f"testcase/{tag}")) == int(suite.get(key, "-1"))


@pytest.mark.parametrize("name", ["perfect", "mistakes", "review", "nothing"])
@pytest.mark.parametrize("kind", ["json", "md"])
def test_golden(name: str, kind: str) -> None:
    report = for_student(samples.SAMPLES[name]())
    text = report_json(report) if kind == "json" else report_markdown(report)
    assert text == (GOLDEN / f"{name}.{kind}").read_text("utf-8"), "if meant: python -m tests.reports.regenerate"


@everyone
def test_terminal_needs_no_colour(name: str) -> None:
    report = samples.SAMPLES[name]()
    for text in (printed(submission_panel(report)), printed(class_table([report]))):
        assert "\x1b" not in text and "\x00" not in text and "\u202e" not in text


@everyone
@pytest.mark.parametrize("width", [20, 40, 80])
def test_total_is_the_last_thing_to_go(name: str, width: int) -> None:
    """Narrow terminals cost names, symbols and sentences, never the number."""
    report = samples.SAMPLES[name]()
    open_ = report.score.total is None
    panel = printed(submission_panel(report), width).split("\n")[0]
    assert ("not final yet" if open_ else f"{report.score.total} / 100") in panel
    row = printed(class_table([report, samples.perfect()]), width)
    assert re.search(r" review " if open_ else rf" {report.score.total} ", row)


def test_class_table_lists_what_to_do() -> None:
    text = " ".join(printed(class_table(samples.a_class(30))).split())
    for words in (
        "30 submissions, 28 with a final score",
        "2 to review",
        "Needs review",
        "Nils Holgersson: The sandbox failed twice",
        "Likely a fault of the grader:",
        "Slowest (CPU)",
        "José Núñez-Ångström 67 ✓✓✗ ✓✓ ✗–– ✓✓ ✓✓✗✓✓✓ cell failed",
    ):
        assert words in text, words
    assert "0 submissions" in printed(class_table([]))


def test_methods_leave_out_what_is_no_number() -> None:
    assert [method.title for method in methods(samples.perfect())] == ["Full fine-tuning", "Final layers only", "LoRA"]
    numbers = {"accuracy": float("nan"), "threshold": 7, "trainable": "x", "steps": True}
    odd = replace(samples.perfect(), metrics={"methods": {"full": numbers}})
    (method,) = methods(odd)
    assert method.accuracy is None and method.threshold is None
    assert set(method.columns.values()) == {"–"}
    assert methods(replace(odd, metrics={"methods": [1]})) == ()


# Any text at all


def test_clean_drops_commands_and_shows_the_rest() -> None:
    assert clean("a\x1b[31mb\x1b[0m\x1b]0;evil\x07c") == "abc"
    assert clean("\x1b]8;;http://x\nkept") == "\nkept"
    assert clean(" 1%\r 50%\r100%\r\nnext") == "100%\nnext"
    assert clean("a\x00\u202eb\u200bc\ud800") == "a␀‹U+202E›bc\ufffd"
    assert line("a\n b", 2) == "a…" and line("李小龍 Åsa") == "李小龍 Åsa"
    assert (
        without_paths("see /home/ta/x/y.py, ./train.csv and https://a.b/home/c")
        == "see …/y.py, ./train.csv and https://a.b/home/c"
    )


def test_what_clean_changes_is_not_printable() -> None:
    """So that printable text, nearly all there is, can be left as it is."""
    changed = [chr(code) for code in range(0x110000) if clean(f"a{chr(code)}b") != f"a{chr(code)}b"]
    assert len(changed) > 2_000
    assert not [character for character in changed if character.isprintable()]
    slow = [chr(code) for code in _TABLE] + ["\x1b", "\r", "\t", "\U0001fffe"]
    assert not [character for character in slow if character.isprintable()]


@settings(max_examples=150, deadline=None)
@given(HOSTILE_TEXT)
def test_no_text_breaks_out_of_any_format(text: str) -> None:
    report, plain = with_text(text), with_text("x")
    shape, overview = Shape(report_html(report)), Shape(class_html([report], [text], text, [Notice(text, text)]))
    assert not shape.open and not overview.open
    # No element, and no attribute on one, that the harmless samples do not have as well.
    assert set(shape.tags) <= harmless()
    assert set(overview.tags) <= harmless()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shape.text + overview.text)
    assert [tag for tag, _ in shape.tags + overview.tags].count("script") == 1

    VALIDATOR.validate(json.loads(report_json(report)))

    for made in (scores_csv([report, plain]), needs_review_csv([report, plain])):
        rows = list(csv.reader(io.StringIO(made)))
        assert len({len(row) for row in rows}) == 1
        assert not [cell for row in rows for cell in row if cell[:1] and cell[:1] in "=+-@\t\r"]
    assert len(list(csv.reader(io.StringIO(scores_csv([report, plain]))))) == 3

    suites = ElementTree.fromstring(junit_xml([report]).split("\n", 1)[1])
    assert [case.tag for case in suites[0]].count("testcase") >= 16

    markdown = report_markdown(report)
    outside = re.sub(r"(?ms)^(`{3,})text\n.*?^\1$", "", markdown)
    assert set(re.findall(r"<(/?\w+)", outside)) <= {"br", "details", "/details", "summary", "/summary", "sub", "/sub"}
    assert outside.count("<details>") == outside.count("</details>")
    for row in [row for row in outside.split("\n") if row.startswith("|")]:
        assert row.count("|") in (4, 7), row
    # Lines that begin with <details> are HTML blocks, in which Markdown does not look for links.
    prose = "\n".join(row for row in outside.split("\n") if not row.startswith("<details>"))
    for page in (result.read for result in report.score.criteria if result.read):
        prose = prose.replace(f"[{page.title}]({page.url})", "")
    assert not re.search(r"(?<!\\)\[", re.sub(r"(?<!\\)`[^`\n]+`", "", prose))

    for shown in (printed(submission_panel(report)), printed(class_table([report]))):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)


def test_traceback_cannot_close_its_fence() -> None:
    error = CellError("E", "m", "before\n```\n# out\n`````\nafter")
    markdown = report_markdown(replace(samples.perfect(), execution=samples.execution(failing={4: error})))
    assert "\n``````text\nbefore\n```\n# out\n`````\nafter\n``````\n" in markdown


def test_every_format_has_every_sentence_of_a_verdict() -> None:
    results = tuple(
        CriterionResult(f"part/c{i}", f"Title{i}.", 1, 0, Verdict(Status.FAILED, f"Seen{i}.", f"Hint{i}."))
        for i in range(3)
    )
    report = replace(samples.perfect(), score=replace(samples.score(), criteria=results, possible=3, total=0))
    for text in (
        report_html(report),
        report_json(report),
        report_markdown(report),
        junit_xml([report]),
        printed(submission_panel(report)),
    ):
        for i in range(3):
            assert f"Title{i}." in text and f"Seen{i}." in text and f"Hint{i}." in text
