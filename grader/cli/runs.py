"""What is done with a run that is there: judged and written again, settled by hand, one submission run again, one person taken out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click

from grader.cli.common import finish, limits_of, say, stderr
from grader.cli.options import FILE, config_option, limit_options, run_argument
from grader.cli.progress import ClassProgress
from grader.errors import UsageError
from grader.grading.settings import read_settings
from grader.intake import read_roster
from grader.intake.names import compact
from grader.intake.roster import csv_rows, number
from grader.records import Report, Submission, whole
from grader.rubric.assignment import Assignment
from grader.runs import forget as forgetting
from grader.runs.batch import run_batch
from grader.runs.directory import Again, Override, RunDirectory, account, assignment_of, load_context, now
from grader.runs.engines import LocalEngine
from grader.runs.plan import RunSelection, make_plan
from grader.runs.pseudonyms import people, pseudonym
from grader.runs.publish import FORMATS, publish
from grader.runs.results import keep_result, use_result
from grader.sandbox.contract import Limits

__all__ = ["forget", "override", "regrade", "rejudge", "report"]

_COLUMNS = ("submission", "criterion", "give", "explanation")
_reason_option = click.option("--reason", default="", metavar="TEXT", help="Why; the student reads it.")


@click.command()
@run_argument
@config_option
def rejudge(run: RunDirectory, config: Path | None) -> int:
    """Make verdicts, scores and reports of a RUN again from stored evidence, and say what changed.

    No notebook is run: use it after a change of the rubric, or with --config to set points and minimum accuracies.
    Exit code 3 when some submissions need review, 2 when gradebook.csv could not be written.
    """
    run.info()  # says so when there is no run
    with run.lock():
        if config is not None:
            run.configure(read_settings(config))
        return _judge_again(run, table=True)


@click.command()
@run_argument
@click.option(
    "--format", "formats", default="html,json,csv", show_default=True, metavar="LIST", help=f"Of {', '.join(FORMATS)}."
)
def report(run: RunDirectory, formats: str) -> int:
    """Write the reports of a RUN again, in the formats asked for.

    Exit code 3 when some submissions need review, 2 when gradebook.csv could not be written.
    """
    run.info()  # says so when there is no run
    wanted = [name.strip() for name in formats.split(",") if name.strip()]
    if not wanted:
        raise UsageError(f"--format names no format; there are {', '.join(FORMATS)}")
    with stderr.status("judging and writing reports"):
        published = publish(run, wanted)
    for message in published.messages:
        say(message, style="yellow")
    reports = published.reports
    say(f"Wrote {', '.join(wanted)} for {len(reports)} submissions to {run.root}")
    if not published.complete:
        return 2
    return 3 if any(report.score.total is None for report in reports) else 0


def _judge_again(run: RunDirectory, *, table: bool) -> int:
    """Judge again; prints every score that changed, then the whole class with `table`."""
    run.info()  # says so when there is no run
    before = {one.id: _points_in(run.report(one.id)) for one in run.submissions()}
    with stderr.status("judging and writing reports"):
        published = publish(run)
    changes = [
        f"{one.submission.display_name}:{name} {old.get(name, 'review')} -> {points}"
        for one in published.reports
        if (old := before[one.submission.id])
        for name, points in _points_in(one).items()
        if old.get(name, "review") != points
    ]
    for change in changes:
        say(change)
    count = "1 criterion" if len(changes) == 1 else f"{len(changes)} criteria"
    say(f"{count} changed." if changes else "Nothing changed.")
    return finish(run, published, table=table)


def _points_in(report: Report | None) -> dict[str, str]:
    """What a report gives, by criterion; without a notebook there is one score and no criterion to tell apart."""
    if report is None:
        return {}
    found = {f" {result.id}": result.earned for result in report.score.criteria}
    if report.submission.problem:
        found = {"": report.score.total}
    return {name: "review" if points is None else str(points) for name, points in found.items()}


@click.command()
@run_argument
@click.argument("what", nargs=-1, metavar="[WHO] [CRITERION] [POINTS]")
@_reason_option
@click.option("--all", "for_all", is_flag=True, help="For the whole class: leave WHO out.")
@click.option("--undo", is_flag=True, help="Take back what was set by hand: leave POINTS out.")
@click.option(
    "--from", "table", type=FILE, metavar="CSV",
    help="Many at once: RUN/needs_review.csv, with its columns `give` and `explanation` filled in.",
)  # fmt: skip
def override(
    run: RunDirectory, what: tuple[str, ...], reason: str, for_all: bool, undo: bool, table: Path | None
) -> int:
    """Set points by hand; they are kept with the RUN, survive rejudge and always win.

    WHO is an id (first column of run/scores.csv) or a name, CRITERION stands in the head of its columns, POINTS may be half ones.
    What builds on a criterion that gets all its points is judged again.

    \b
      grader override run 1024 lora/forward 4 --reason "scales in the constructor"
      grader override run "Åsa Svensson" lora/forward --undo
      grader override run --all head/trained 5 --reason "the question was unclear"
      grader override run --from run/needs_review.csv
    """  # noqa: D301 - click: the paragraph is not wrapped
    assignment = assignment_of(run.info())
    submissions = run.submissions()
    if table is not None:
        if what or reason or for_all or undo:
            raise UsageError("--from takes everything from the table; leave all else out")
        entries = list(_from_table(table, assignment, submissions))
    else:
        words = (["WHO"] if not for_all else []) + ["CRITERION"] + (["POINTS"] if not undo else [])
        if len(what) != len(words):
            raise UsageError(f"give {', '.join(words)} after the run (or --from CSV); there are {len(what)}")
        given = dict(zip(words, what, strict=True))
        if not (reason.strip() or undo):
            raise UsageError("--reason is empty; the student reads it")
        whose = submissions if for_all else [_find(run, given["WHO"])]
        entries = [_entry(assignment, one.id, given["CRITERION"], given.get("POINTS"), reason) for one in whose]
    with run.lock(wait_seconds=60):
        run.override(_of_files(run, entries, decides=undo or not for_all))
        return _judge_again(run, table=False)


def _from_table(path: Path, assignment: Assignment, submissions: Sequence[Submission]) -> Iterator[Override]:
    """Read a table that was filled in; rows without points are passed over. Raises UsageError, naming the row, before anything is set."""
    header, *rows = csv_rows(path, path.read_bytes())
    names = [cell.strip().casefold() for cell in header]
    if missing := [name for name in _COLUMNS if name not in names]:
        raise UsageError(f"{path} has no column {', '.join(missing)}; fill in a copy of needs_review.csv")
    known = {one.id for one in submissions}
    filled = 0
    for count, cells in enumerate(rows, 2):
        row = dict(zip(names, (cell.strip() for cell in cells), strict=False))
        submission, criterion, give, why = (row.get(name, "") for name in _COLUMNS)
        if not give:
            continue
        filled += 1
        try:
            if submission not in known:
                raise UsageError(f"no submission {submission!r}")
            if not why:
                raise UsageError("`explanation` is empty; the student reads it")
            if not criterion and number(give) != 0:
                raise UsageError("without a criterion only 0 can be given, for all of them")
            for name in [criterion] if criterion else assignment.checks:
                yield _entry(assignment, submission, name, give, why)
        except UsageError as error:
            raise UsageError(f"{path}, row {count}: {error}; nothing was set") from error
    if not filled:
        raise UsageError(f"{path} has nothing in its column `give`")


def _of_files(run: RunDirectory, entries: Sequence[Override], *, decides: bool) -> Iterator[Override]:
    """The entries with the files that they are about; of those without a notebook only what a person has decided, unless it `decides`."""
    files, open_ = {one.id: one for one in run.submissions()}, dict[str, None]()
    for entry in entries:
        file, report = files[entry.submission], run.report(entry.submission)
        problem = file.problem if report is None else report.submission.problem
        if problem is not None and not decides and (report is None or report.score.total is None):
            open_[file.display_name] = None  # points for one criterion would give 0 for all others
        else:
            yield replace(entry, file=file.sha256, notebook=problem is None)
    if open_:
        say(f"Left out, without a notebook and not decided yet: {'; '.join(open_)}.")


def _find(run: RunDirectory, text: str) -> Submission:
    """The submission that an id, a student's id or a name means. Raises UsageError when it is none or several."""
    wanted, known = compact(text), list(zip(run.submissions(), people(run), strict=True))
    for found in (
        [one for one, _ in known if one.id == text],
        [one for one, person in known if text in person.student_ids],
        [one for one, person in known if wanted in (compact(person.display_name), _turned(person.display_name))],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(f"{text} is the name of several: {', '.join(one.id for one in found)}; give the id")
    near = [one.display_name for one, _ in known if wanted and wanted in compact(one.display_name)][:5]
    hint = f"did you mean {' or '.join(near)}?" if near else "ids are in the first column of scores.csv"
    raise UsageError(f"no submission {text!r}; {hint}")


def _turned(name: str) -> str:
    last, _, first = name.partition(",")
    return compact(first + last)


def _entry(assignment: Assignment, submission: str, criterion: str, text: str | None, reason: str) -> Override:
    """A line of the ledger; without a text what was set is taken back. Raises UsageError for what is no criterion or its points."""
    check = assignment.checks.get(criterion)
    if check is None:
        raise UsageError(f"no criterion {criterion!r}; there are {', '.join(assignment.checks)}")
    points = number(text or "")
    if text is not None:
        if points is None or points * 2 % 1:
            raise UsageError(f"{text} is not a number of points; whole and half ones can be given")
        if not 0 <= points <= check.points:
            raise UsageError(f"{criterion} has {check.points} points; {text} is out of range")
    given = None if points is None else whole(points)
    return Override(submission, criterion, given, reason.strip(), account(), now())


@click.command()
@run_argument
@click.argument("who")
@click.option("--other-seed", is_flag=True, help="Ask other questions, and train with other random numbers.")
@_reason_option
@click.option("--undo", is_flag=True, help="Let the result before count again; nothing is run.")
@click.option("--use", "number", type=click.IntRange(1), metavar="N", help="Let result N count; nothing is run.")
@limit_options
def regrade(
    run: RunDirectory,
    who: str,
    other_seed: bool,
    reason: str,
    undo: bool,
    number: int | None,
    limits: dict[str, float | None],
) -> int:
    """Run one submission of a RUN again, with other limits or another seed. Both results are kept, and the newer one counts.

    WHO is an id or a name. The pages say that it was run again, which result counts, and what the others were. Where the
    grader or its machine fails, the earlier result stays. What a person set by hand stays, too. `grader grade` on the same folder leaves
    the result as it is; should the grader itself change, it runs the file with these limits again.

    \b
      grader regrade run 1024 --cpu-seconds 1800 --reason "the machine was busy"
      grader regrade run "Åsa Svensson" --other-seed
      grader regrade run 1024 --undo
    """  # noqa: D301 - click: the paragraph is not wrapped
    if (undo or number is not None) and ((undo and number is not None) or other_seed or any(limits.values())):
        raise UsageError("--undo and --use let a kept result count: give one of them, and nothing to run with")
    allowed = limits_of(run.info().settings.limited(**limits))
    submission = _find(run, who)
    with run.lock(wait_seconds=60):
        fault = ""
        if undo or number is not None:
            use_result(run, submission, number)
        else:
            fault = _run_again(run, submission, allowed, other_seed=other_seed, reason=reason)
        if fault:
            say(f"It could not be run, and the earlier result stays: {fault}", "bold")
        code = _judge_again(run, table=False)
        counts, kept = keep_result(run, submission.id), run.folder(submission.id) / "results"
        say(f"Result {counts} of {submission.display_name} counts; all are kept in {kept}.")
        return 4 if fault else code


def _run_again(run: RunDirectory, submission: Submission, limits: Limits, *, other_seed: bool, reason: str) -> str:
    """Run it; returns why the result before still counts, or nothing. Raises UsageError where there is nothing to run."""
    if submission.problem is not None or not submission.path:
        raise UsageError(f"{submission.display_name} has nothing to run: {submission.problem}")
    number = keep_result(run, submission.id)
    before = run.done(submission.id)
    draw = before.again.draw if before is not None and before.again else 0
    again = Again(draw + other_seed, reason.strip(), account(), now())
    context = load_context(run.info(), run.secret())
    (job,) = make_plan(run, context, limits, [submission], RunSelection(force=True)).jobs
    with ClassProgress(1, stderr) as progress:
        run_batch(run, context, [replace(job, limits=limits, again=again)], LocalEngine(1), progress, progress.stopping)
    done = run.done(submission.id)
    if done is None or not done.fault:
        return ""
    if number:
        run.forget(submission.id)
        use_result(run, submission, number)
    return done.fault


@click.command()
@run_argument
@click.argument("who")
@click.option("--yes", is_flag=True, help="Really do it; without this nothing is removed.")
def forget(run: RunDirectory, who: str, yes: bool) -> int:
    """Remove what a RUN holds of one person: files, evidence, reports, and the rows of every table.

    WHO is an id or a name. Of a group that handed in together only the member goes. A trace stays that somebody was removed, by
    which the person stays out when you grade again. Your download and your class list are yours to clean: see docs/privacy.md.

    \b
      grader forget run 1024 --yes
    """  # noqa: D301 - click: the paragraph is not wrapped
    run.info()  # says so when there is no run
    submission, student, what = _person(run, who)
    if not yes:
        say(f"Nothing was removed. {what} would be taken out of {run.root}; add --yes.", "bold")
        return 2
    with run.lock(wait_seconds=60):
        forgetting.forget(run, submission, student)
        with stderr.status("writing reports"):
            publish(run)
    say(f"{what} is no longer in {run.root}.")
    return 0


def _person(run: RunDirectory, who: str) -> tuple[str, str, str]:
    """Submission, student and words for whom is meant. Raises UsageError when it is nobody or several."""
    roster, handed_in = run.root / "roster.csv", set[str]()
    for one, person in zip(run.submissions(), people(run), strict=True):
        if who in person.student_ids and len(person.student_ids) > 1:
            if one.id in (who, pseudonym(run, who)):
                raise UsageError(
                    f"the hand-in of {one.display_name} bears the id {who}, and would go for all {len(person.student_ids)} members;"
                    f' `grader forget {run.root} "{one.display_name}"` takes it out for all'
                )
            return one.id, who, f"{who} as a member of {one.display_name}"
        handed_in |= {one.id, *person.student_ids}
    listed = read_roster(roster).named(who) if roster.is_file() else ()
    if len(listed) == 1 and listed[0].id not in handed_in:
        return "", listed[0].id, f"{who if run.info().pseudonyms else listed[0].name}, who handed in nothing,"
    found = _find(run, who)
    return found.id, "", found.display_name
