"""Reports as the pipeline makes them, one per thing that can happen to a submission, and a class of any size."""

from __future__ import annotations

import random
from dataclasses import replace

from grader.assignments.finetuning import ASSIGNMENT
from grader.records import (
    Adaptation,
    CellError,
    CellRun,
    CriterionResult,
    Execution,
    Notice,
    Outcome,
    Report,
    Score,
    Status,
    Submission,
    Usage,
    Verdict,
)

RUBRIC = tuple((check.id, check.points, check.title) for check in ASSIGNMENT.checks.values())
PASSED_MESSAGES = {
    "count/distilbert": "Got 66955010, as it should be.",
    "full/accuracy": "0.947 of 2,560 held-out reviews; 0.800 is the minimum.",
    "layers/extract": "12 layers, all of them the model's own modules.",
}
VERSIONS = {"python": "3.11.2", "torch": "2.13.0", "transformers": "5.23.0", "datasets": "5.2.0", "peft": "0.21.0"}
METHODS = {
    "full": {"accuracy": 0.947, "threshold": 0.8, "trainable": 161026, "steps": 750, "seconds": 7.12},
    "head": {"accuracy": 0.864, "threshold": 0.75, "trainable": 4290, "steps": 750, "seconds": 4.03},
    "lora": {"accuracy": 0.936, "threshold": 0.8, "trainable": 22722, "steps": 750, "seconds": 6.48},
}


def score(
    changes: dict[str, Verdict] | None = None,
    review: tuple[str, ...] = (),
    overrides: dict[str, tuple[int, str]] | None = None,
) -> Score:
    """All passed but for `changes`."""
    results = []
    reasons = list(review)
    for id_, points, title in RUBRIC:
        verdict = (changes or {}).get(id_, Verdict(Status.PASSED, PASSED_MESSAGES.get(id_, "")))
        earned = {Status.PASSED: points, Status.ERROR: None}.get(verdict.status, 0)
        override = ""
        if overrides and id_ in overrides:
            earned, override = overrides[id_]
        elif verdict.status is Status.ERROR:
            reasons.append(f"{id_}: {verdict.message}")
        read = ASSIGNMENT.checks[id_].read
        results.append(CriterionResult(id_, title, points, earned, verdict, override, read=read))
    total = None if reasons else sum(result.earned or 0 for result in results)
    return Score(tuple(results), 100, total, tuple(reasons))


def submission(name: str, id_: str = "12345", **fields: object) -> Submission:
    """A hand-in of one student."""
    known = {
        "student_ids": (id_,),
        "file_name": "PA4.ipynb",
        "path": f"submissions/{id_}/submission.ipynb",
        "sha256": f"{int(id_, 36):064x}"[-64:],
    }
    return Submission(id=id_, display_name=name, **{**known, **fields})  # type: ignore[arg-type]


def execution(
    *,
    outcome: Outcome = Outcome.COMPLETED,
    failing: dict[int, CellError] | None = None,
    stop: int | None = None,
    seed: int = 1,
) -> Execution:
    """A run of 24 code cells; `failing` by index, `stop` is the cell in which the kernel ended."""
    draw = random.Random(seed)
    cells = []
    for index in range(0, 48, 2):
        slow = {12: 7.2, 22: 4.1, 40: 6.6}.get(index)
        seconds = slow or round(draw.uniform(0.002, 0.6), 3)
        output = f"{{'eval_loss': 0.21, 'eval_accuracy': {0.95 if slow else 0}}}\n" if slow else ""
        if stop is not None and index > stop:
            cells.append(CellRun(index, "not_run", 0.0, 0.0))
        elif stop == index:
            cells.append(CellRun(index, "killed", 899.1, 900.0))
        elif failing and index in failing:
            cells.append(CellRun(index, "error", 0.05, 0.05, failing[index]))
        else:
            cells.append(CellRun(index, "ok", seconds, round(seconds * 0.97, 3), None, output))
    wall = sum(cell.seconds for cell in cells)
    usage = Usage(round(sum(c.cpu_seconds for c in cells), 2), round(wall, 2), 734_003_200, 48_211)
    return Execution(outcome, tuple(cells), usage, "warm", VERSIONS, "standin 3f9c2a7e41d0")


ADAPTATIONS = (
    Adaptation(
        0,
        "pip-install",
        "!pip install -q transformers datasets",
        "",
        "The libraries are installed already, and there is no network.",
    ),
    Adaptation(
        2,
        "colab-path",
        "'/content/drive/MyDrive/DAT450/train.csv'",
        "'train.csv'",
        "The file lies beside the notebook here.",
    ),
    Adaptation(
        10,
        "renamed-argument",
        "evaluation_strategy='epoch'",
        "eval_strategy='epoch'",
        "Newer versions of transformers renamed this argument.",
    ),
)


def report(who: Submission, filled: Score, run: Execution | None, **fields: object) -> Report:
    """A report of this assignment."""
    known = {
        "adaptations": (),
        "notices": (),
        "metrics": {"methods": METHODS, "runs_seen": 3} if run else {},
        "groups": ASSIGNMENT.groups,
        "grader_version": "0.1.0",
    }
    return Report(
        assignment="finetuning",
        assignment_title="Comparing fine-tuning methods",
        submission=who,
        execution=run,
        score=filled,
        **{**known, **fields},
    )  # type: ignore[arg-type]


def perfect() -> Report:
    """Everything right."""
    return report(
        submission("Åsa Svensson", "12345", section="DAT450 LP2"),
        score(),
        execution(),
    )


def mistakes() -> Report:
    """A late hand-in with classic mistakes, adaptations and a failing cell."""
    changes = {
        "count/any-module": Verdict(
            Status.FAILED,
            "For a module with one shared weight, 1,230 was expected and 2,130 was seen.",
            "`model.parameters()` gives a shared tensor once; did you go through `state_dict()`?",
        ),
        "head/frozen": Verdict(
            Status.FAILED,
            "When training started, 104 tensors of the body had `requires_grad=True`; 46 of them changed.",
            "Freeze the body before the `Trainer` is made, on a freshly loaded model; parameters are frozen one by one.",
        ),
        "head/trained": Verdict(Status.SKIPPED, "Not judged, since it builds on `head/frozen`.", because="head/frozen"),
        "head/accuracy": Verdict(
            Status.SKIPPED, "Not judged, since it builds on `head/frozen`.", because="head/frozen"
        ),
        "lora/rank-scaling": Verdict(
            Status.FAILED,
            "With rank 5 and alpha 3 the update was scaled by 0.0, where 0.6 is right (largest difference 1.27, float32, shape (4, 7)).",
            "`//` rounds down: alpha 3 and rank 5 give 0.",
        ),
        "lora/identity": Verdict(
            Status.PASSED,
            notices=(Notice("renamed", "`LoraLinear` was taken for the asked-for name, by what it does."),),
        ),
    }
    trace = (
        "NameError                                 Traceback (most recent call last)\nCell In[17], line 3\n"
        "      1 results = {}\n      2 for name in ('full', 'head', 'lora'):\n"
        "----> 3     results[name] = trainer_head.evaluate()\n\nNameError: name 'trainer_head' is not defined"
    )
    error = CellError(
        "NameError",
        "name 'trainer_head' is not defined",
        trace,
    )
    notices = (
        Notice("late", "Handed in 2 hours and 10 minutes after the deadline, as Canvas says."),
        Notice(
            "several-files",
            "Two notebooks were handed in; `PA4 final (2).ipynb` is the one with more solution code and was judged.",
        ),
        Notice("rerun", "The run was repeated once, since the first kernel was stopped by the machine."),
        Notice("several-submissions", "Oskar Lindqvist (20031) handed in for the same group."),
    )
    who = submission(
        "José Núñez-Ångström",
        "12399",
        late=True,
        file_name="PA4 final (2).ipynb",
    )
    methods = {**METHODS, "head": {**METHODS["head"], "accuracy": 0.671, "trainable": 161026}}
    return report(
        who,
        score(changes),
        execution(failing={34: error}),
        adaptations=ADAPTATIONS,
        notices=notices,
        metrics={"methods": methods, "runs_seen": 4},
    )


def review() -> Report:
    """A check that failed itself: no total."""
    changes = {
        "lora/forward": Verdict(
            Status.ERROR,
            "The check itself failed (IndexError: list index out of range in /home/ta/grader/lora.py); a person has to look.",
        ),
        "lora/rank-scaling": Verdict(Status.ERROR, "Not judged: `lora/forward`, on which it builds, needs review."),
    }
    return report(submission("李小龍", "20117"), score(changes), execution(seed=3), adaptations=ADAPTATIONS[:1])


def timed_out() -> Report:
    """An endless loop in the head-only training."""
    nothing = Verdict(Status.FAILED, "No head-only training was seen.", "Restart the kernel and run all cells.")
    late = {id_: nothing for id_, _, _ in RUBRIC if id_.startswith(("head", "lora/accuracy", "lora/model"))}
    return report(
        submission("Fatima al-Zahra محمد", "20450"),
        score(late),
        execution(outcome=Outcome.TIMED_OUT, stop=22),
        metrics={"methods": {"full": METHODS["full"]}, "runs_seen": 2},
    )


def nothing() -> Report:
    """A PDF renamed to .ipynb."""
    verdict = Verdict(Status.FAILED, "There is no notebook to judge.", "Hand in the `.ipynb` file itself.")
    problem = 'The file is a PDF file, not a notebook. Submit the .ipynb file itself ("File > Download > Download .ipynb" in Colab).'
    who = submission("Karl-Johan Öberg", "20777", sha256="", path="", problem=problem, file_name="PA4.pdf.ipynb")
    return report(who, score({id_: verdict for id_, _, _ in RUBRIC}), None)


def sandbox_failed() -> Report:
    """Our own failure."""
    unseen = Verdict(Status.ERROR, "The grader could not ask this question.")
    return report(
        submission("Nils Holgersson", "20801"),
        score(
            {id_: unseen for id_, _, _ in RUBRIC},
            review=("The sandbox failed twice: bwrap: setting up uid map: Permission denied.",),
        ),
        replace(
            execution(outcome=Outcome.SANDBOX_FAILED, stop=0),
            notices=(Notice("staff-sandbox", "bwrap ended with code 1."),),
        ),
        metrics={},
    )


def group() -> Report:
    """A group's hand-in with one criterion set by hand, run without isolation."""
    who = replace(
        submission("team_7", "30001"),
        student_ids=("30001", "30002", "30003"),
        companions=("submissions/30001/helpers.py",),
    )
    failed = Verdict(
        Status.FAILED, "0.776 of 2,560 held-out reviews; 0.800 is the minimum.", "Train for one more epoch."
    )
    by_hand = score(
        {"full/accuracy": failed},
        overrides={"full/accuracy": (10, "Agreed by e-mail: the deadline build had an older threshold.")},
    )
    return report(who, by_hand, replace(execution(seed=9), sandbox="none"))


HOSTILE = (
    "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)> \x1b[31mred\x1b[0m \x00\x07 \u202egnp.ipynb "
    ']]>&lt; <!-- --> {{7*7}} {% raw %} `|` =HYPERLINK("http://x") ${HOME} '
    "\ud800 \ufffe @all ![x](http://x) ``` </td></table> \U000e0041\u2028end"
)


def hostile() -> Report:
    """The same hostile text in every field a student has a hand in."""
    bad = HOSTILE
    error = CellError(bad, bad, bad + "\n" + bad)
    run = execution(failing={4: error})
    run = replace(
        run,
        cells=(*run.cells, CellRun(99, "error", 0.1, 0.1, error, bad)),
        versions={bad: bad},
        bundle=bad,
        sandbox=bad,
        notices=(Notice(bad, bad),),
    )
    changes = {
        "count/frozen": Verdict(Status.FAILED, bad, bad, notices=(Notice("renamed", bad),)),
        "lora/model": Verdict(Status.SKIPPED, bad, because=bad),
    }
    filled = score(changes, review=(bad,), overrides={"layers/extract": (1, bad)})
    who = submission(
        bad,
        "666",
        file_name=bad,
        section=bad,
        companions=(bad,),
        problem=bad,
        notices=(Notice(bad, bad),),
    )
    metrics = {
        "methods": {
            bad: {"accuracy": float("nan"), "trainable": None},
            "lora": {"accuracy": 0.5, "threshold": float("inf"), "steps": None},
        },
        bad: [bad],
    }
    return report(
        who,
        filled,
        run,
        adaptations=(Adaptation(None, bad, bad, bad, bad),),
        notices=(Notice("late", bad),),
        metrics=metrics,
        grader_version=bad,
    )


SAMPLES = {
    make.__name__: make for make in (perfect, mistakes, review, timed_out, nothing, sandbox_failed, group, hostile)
}
"""Name -> function that makes the report."""

_FIRST = (
    "Åsa",
    "Björn",
    "Chen",
    "Dalia",
    "Erik",
    "Fatou",
    "Güneş",
    "Håkan",
    "Ines",
    "Karin",
    "Mikołaj",
    "Priya",
    "Søren",
    "Zoë",
)
_LAST = (
    "Svensson",
    "Öberg",
    "Nguyen",
    "Hernández",
    "Kowalski",
    "Yılmaz",
    "Okafor",
    "Müller",
    "Haddad",
    "Virtanen",
    "O'Brien",
)


def a_class(size: int, seed: int = 4) -> list[Report]:
    """A class as it comes: most right, some with one or two of the classic mistakes, a few of everything else."""
    draw = random.Random(seed)
    found = [make() for name, make in SAMPLES.items() if name not in ("hostile", "perfect")][:size]
    weights = {
        "count/any-module": 0.15,
        "head/frozen": 0.2,
        "lora/forward": 0.25,
        "lora/rank-scaling": 0.95,
        "layers/replace": 0.12,
        "full/accuracy": 0.06,
        "lora/model": 0.2,
    }
    after = {
        "head/frozen": ("head/trained", "head/accuracy"),
        "lora/forward": ("lora/rank-scaling",),
        "lora/model": ("lora/accuracy",),
    }
    for number in range(len(found), size):
        changes: dict[str, Verdict] = {}
        for id_, weight in weights.items():
            if id_ not in changes and draw.random() < weight:
                changes[id_] = Verdict(Status.FAILED, "Something else was seen.", "Look again.")
                for other in after.get(id_, ()):
                    changes[other] = Verdict(Status.SKIPPED, f"Not judged, since it builds on `{id_}`.", because=id_)
        who = submission(f"{draw.choice(_FIRST)} {draw.choice(_LAST)}", str(40000 + number), late=draw.random() < 0.05)
        found.append(report(who, score(changes), execution(seed=number)))
    return found
