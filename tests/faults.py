"""Single faults of the product, each in another feature, and which tier of the tests catches them.

`python -m tests.faults [NAME ...]` makes a scratch copy of the checkout with an environment of its own, sees that the named
tests pass, puts in one fault after the other, runs the tests named with it (those of the fast tier first) and prints the table
that stands in docs/testing.md. Ends with 1 when a fault is caught by no tier, or fewer than 26 of them by the fast one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FAST = "not slow and not serial"
FEWEST_FAST = 26


@dataclass(frozen=True)
class Fault:
    """A single wrong change of the product."""

    name: str
    """Unique, in words joined by hyphens."""
    feature: str
    """What of the product is broken by it."""
    file: str
    """Path in the checkout."""
    old: str
    """Text that stands there exactly once."""
    new: str
    """What it is replaced with."""
    tests: tuple[str, ...]
    """Files or ids of the tests that are to catch it."""


FAULTS: tuple[Fault, ...] = (
    Fault(
        "signals-from-the-box-end-the-kernel",
        "a restart is adapted, whoever sends it",
        "grader/inside/seccomp.py",
        "in ((kill, 24), (tkill, 24), (tgkill, 32)):",
        "in ():",
        ("tests/adapt/test_commands.py",),
    ),
    Fault(
        "state-reaches-questions",
        "questions meet no state that cells leave",
        "grader/inside/state.py",
        "stack.enter_context(torch.inference_mode(False))",
        "pass",
        ("tests/adapt/test_state.py",),
    ),
    Fault(
        "stand-ins-cost-points",
        "points lost with a stand-in need review",
        "grader/grading/report.py",
        'if change.rule == "stand-in"]',
        'if change.rule == "nothing"]',
        ("tests/pipeline/test_pipeline.py",),
    ),
    Fault(
        "root-is-read-only",
        "notebooks write to any folder",
        "grader/sandbox/bubblewrap.py",
        'words += ["--chdir", BOX]',
        'words += ["--remount-ro", "/", "--chdir", BOX]',
        ("tests/adapt/test_shims.py",),
    ),
    Fault(
        "partial-points-rounded-up",
        "partial points",
        "grader/rubric/judge.py",
        "return int(points * verdict.share + 1e-9)",
        "return round(points * verdict.share + 0.49)",
        ("tests/finetuning/test_accuracy.py",),
    ),
    Fault(
        "bug-in-a-check-fails-the-student",
        "a fault of a check needs review",
        "grader/rubric/judge.py",
        '            Status.ERROR, f"The check itself failed',
        '            Status.FAILED, f"The check itself failed',
        ("tests/core/test_judging.py",),
    ),
    Fault(
        "total-beside-a-review",
        "no total where a person has to look",
        "grader/rubric/judge.py",
        "total = None if reasons else whole(",
        "total = whole(",
        ("tests/core/test_judging.py",),
    ),
    Fault(
        "wire-takes-any-shape",
        "hostile answers are refused",
        "grader/grading/wire.py",
        "return shaped and value.dtype.kind",
        "return value.dtype.kind",
        ("tests/core/test_wire.py",),
    ),
    Fault(
        "body-may-stay",
        "full fine-tuning moves every part",
        "grader/assignments/finetuning/full.py",
        "    if left:\n",
        "    if False:\n",
        (
            "tests/corpus/test_training.py::test_training_loses_what_its_label_says[full-without-last-block]",
            "tests/corpus/test_training.py::test_training_loses_what_its_label_says[full-without-embeddings]",
        ),
    ),
    Fault(
        "trained-body-under-the-head",
        "the head is tuned on the pretrained body",
        "grader/assignments/finetuning/head.py",
        "    if run.changed:\n",
        "    if False:\n",
        (
            "tests/corpus/test_training.py::test_training_loses_what_its_label_says[head-reused]",
            "tests/corpus/test_training.py::test_training_loses_what_its_label_says[head-of-the-trained-checkpoint]",
        ),
    ),
    Fault(
        "decoys-count",
        "the body is compared where the model uses it",
        "grader/inside/rebuild.py",
        "        elif layer is not None and layer.gap <= tolerance:\n",
        "        elif False:\n",
        ("tests/sandbox/test_trained_models.py::test_a_changed_body_is_seen_where_the_model_uses_it[decoy-buffers]",),
    ),
    Fault(
        "students-read-held-out-reviews",
        "held-out reviews meet no code of a student's",
        "grader/assignments/finetuning/accuracy.py",
        'handed = Question(\n        "grader.inside.probes.training:training", both,',
        'handed = Question(\n        "grader.inside.probes.training:training", judged.params,',
        ("tests/finetuning/test_accuracy.py",),
    ),
    Fault(
        "close-misses-cost-points",
        "misses within the noise are run again",
        "grader/assignments/finetuning/accuracy.py",
        "NOISE_Z = 2.0",
        "NOISE_Z = 0.0",
        ("tests/finetuning/test_accuracy.py",),
    ),
    Fault(
        "short-trainings-lose",
        "a short training is judged by its direction",
        "grader/assignments/finetuning/accuracy.py",
        "return enough or (least is not None and points_right(run, least))",
        "return enough",
        ("tests/finetuning/test_accuracy.py",),
    ),
    Fault(
        "shared-weights-count-twice",
        "parameters are counted",
        "grader/assignments/finetuning/counting.py",
        "return int(total - twice - sum(",
        "return int(total - sum(",
        ("tests/corpus/test_functions.py::test_case_loses_what_its_label_says[count-shared-twice]",),
    ),
    Fault(
        "scaling-forgiven",
        "LoRA scales by alpha / rank",
        "grader/assignments/finetuning/lora_layer.py",
        "abs(c - right) <= tolerance * right for c in tries",
        "abs(c - right) <= right for c in tries",
        ("tests/corpus/test_functions.py::test_case_loses_what_its_label_says[lora-scale-floor]",),
    ),
    Fault(
        "witness-loses-the-rate",
        "the witness sees learning rates",
        "grader/inside/witness.py",
        "max(run.peak_rate, rate), run.lr_sum + rate",
        "run.peak_rate, run.lr_sum + rate",
        ("tests/finetuning/test_witness.py",),
    ),
    Fault(
        "network-in-the-box",
        "the box has no network",
        "grader/sandbox/bubblewrap.py",
        '"net", ',
        "",
        ("tests/sandbox/test_conformance.py::test_warm_box[network]",),
    ),
    Fault(
        "processes-without-end",
        "the box limits processes",
        "grader/sandbox/cgroup.py",
        "str(limits.processes + 1)",
        "str(limits.processes + 5000)",
        ("tests/sandbox/test_conformance.py::test_warm_box[process-number]",),
    ),
    Fault(
        "packages-are-seen-whole",
        "a box shows nothing of the grader but its inside",
        "grader/sandbox/shown.py",
        "        hidden += [folder / target.relative_to(folder.resolve()) for folder in inside]\n",
        "",
        ("tests/sandbox/test_shown.py",),
    ),
    Fault(
        "modules-beside-submissions",
        "nothing is imported from the current folder",
        "grader/imports.py",
        "    sys.path[:] = [entry for entry in sys.path if _real(entry) not in foreign]\n",
        "",
        ("tests/core/test_imports.py",),
    ),
    Fault(
        "sockets-weigh-nothing",
        "memory that sockets hold is counted",
        "grader/sandbox/meter.py",
        " + self._socket_buffers()",
        "",
        ("tests/sandbox/test_without_groups.py",),
    ),
    Fault(
        "questions-without-end",
        "questions are limited in CPU time",
        "grader/sandbox/question_clock.py",
        "if used > self._limit:",
        "if used > 10 * self._limit:",
        ("tests/sandbox/test_question_clock.py",),
    ),
    Fault(
        "output-without-end",
        "the box limits output",
        "grader/sandbox/channels.py",
        "(self.bytes > self.limits.output_bytes or ",
        "(",
        ("tests/sandbox/test_resources.py", "tests/sandbox/test_contract.py"),
    ),
    Fault(
        "bombs-unpack",
        "archives that are bombs are refused",
        "grader/intake/archive.py",
        "info.file_size > limits.ratio * info.compress_size",
        "info.file_size > limits.ratio**3 * info.compress_size",
        ("tests/intake/test_archive.py",),
    ),
    Fault(
        "older-upload-is-graded",
        "the latest upload is graded",
        "grader/intake/student_upload.py",
        "            file.attachment,\n",
        "            -file.attachment,\n",
        ("tests/intake/test_take.py",),
    ),
    Fault(
        "names-move-files",
        "what a student calls a file says nothing about its owner",
        "grader/intake/owners.py",
        "    return found\n\n\ndef _in_doubt(",
        "    return found[-1:]\n\n\ndef _in_doubt(",
        ("tests/intake/test_owners.py",),
    ),
    Fault(
        "late-is-forgotten",
        "Canvas's names are read",
        "grader/intake/names.py",
        '_OWNED = re.compile(rf"_(?P<late>LATE_)?',
        '_OWNED = re.compile(rf"_(?P<late>late_)?',
        ("tests/intake/test_names.py",),
    ),
    Fault(
        "utf-16-is-refused",
        "notebooks in any encoding are read",
        "grader/notebook/reader.py",
        "encoding = json.detect_encoding(data[:64])",
        'encoding = "utf-8"',
        ("tests/notebook/test_reader.py",),
    ),
    Fault(
        "gpu-is-asked-for",
        "code for a GPU runs on the CPU",
        "grader/inside/shims/devices.py",
        "    if args and _is_gpu(args[0]):\n",
        "    if not args and _is_gpu(args[0]):\n",
        ("tests/adapt/test_shims.py",),
    ),
    Fault(
        "two-files-for-one-upload",
        "feedback goes back to its upload",
        "grader/lms/feedback.py",
        "            seen.add(attachment)\n",
        "",
        ("tests/lms/test_feedback.py",),
    ),
    Fault(
        "students-read-about-others",
        "students see no notices for staff",
        "grader/reports/audience.py",
        'return notice.kind in PRIVATE_KINDS or notice.kind.startswith("staff-")',
        'return notice.kind.startswith("staff-")',
        ("tests/reports",),
    ),
    Fault(
        "markup-runs",
        "pages escape what students write",
        "grader/reports/html.py",
        "autoescape=True",
        "autoescape=False",
        ("tests/reports/test_reports.py",),
    ),
    Fault(
        "totals-go-first",
        "totals on a narrow terminal",
        "grader/reports/terminal.py",
        'table.add_column("Total", justify="right", no_wrap=True)',
        'table.add_column("Total", justify="right")',
        ("tests/reports/test_reports.py",),
    ),
    Fault(
        "higher-limits-change-nothing",
        "a second run takes what still holds",
        "grader/runs/plan.py",
        "getattr(limits, name) > done.limits[name]",
        "getattr(limits, name) < done.limits[name]",
        ("tests/pipeline/test_plan.py", "tests/pipeline/test_second_run.py"),
    ),
    Fault(
        "halves-are-left",
        "files are written whole or not at all",
        "grader/runs/directory.py",
        "        with contextlib.suppress(OSError):\n            part.unlink()\n        if not isinstance(error, OSError):",
        "        if not isinstance(error, OSError):",
        ("tests/pipeline/test_directory.py", "tests/pipeline/test_interruptions.py"),
    ),
    Fault(
        "one-run-more-is-enough",
        "close results are run twice more",
        "grader/grading/reruns.py",
        "RERUNS: Final = 2",
        "RERUNS: Final = 1",
        ("tests/pipeline/test_reruns.py",),
    ),
    Fault(
        "sleepers-sleep-on",
        "who sleeps is ended",
        "grader/sandbox/question_clock.py",
        "_IDLE_SHARE = 0.05",
        "_IDLE_SHARE = -1.0",
        ("tests/sandbox/test_sleepers.py",),
    ),
    Fault(
        "any-kill-is-the-students",
        "a machine short of memory is nobody's fault",
        "grader/sandbox/cgroup.py",
        "return (kills, 0) if self._met_its_cap() else (0, kills)",
        "return kills, 0",
        ("tests/sandbox/test_contract.py",),
    ),
    Fault(
        "limits-for-every-run",
        "one budget for all runs of a submission",
        "grader/sandbox/contract.py",
        "self.cpu_seconds - spent.cpu_seconds, self.wall_seconds",
        "self.cpu_seconds, self.wall_seconds",
        ("tests/pipeline/test_budget.py",),
    ),
    Fault(
        "hostile-objects-need-a-person",
        "what students' objects raise is theirs",
        "grader/inside/agent.py",
        "students = context.touched or",
        "students =",
        ("tests/sandbox/test_hostile_objects.py",),
    ),
    Fault(
        "remarks-without-end",
        "what is noticed of a file is capped",
        "grader/notebook/reader.py",
        "if (more := len(notices) - _MOST_NOTICES) > 0:",
        "if (more := 0) > 0:",
        ("tests/notebook/test_limited.py",),
    ),
    Fault(
        "a-killed-kernel-is-final",
        "a kernel that dies is run again",
        "grader/grading/execution.py",
        "if first.execution.outcome is Outcome.KERNEL_DIED:",
        "if first.execution.outcome is Outcome.SANDBOX_FAILED:",
        ("tests/pipeline/test_pipeline.py",),
    ),
    Fault(
        "changed-bundle-is-taken",
        "a bundle's files are checked",
        "grader/bundles/bundle.py",
        'hashlib.file_digest(content, "sha256").hexdigest()',
        '""',
        ("tests/bundles/test_bundle.py",),
    ),
    Fault(
        "cut-lines-stop-all",
        "a ledger that a kill cut off is read",
        "grader/runs/directory.py",
        "                if not log and number <= len(whole):",
        "                if not log:",
        ("tests/pipeline/test_directory.py::test_a_line_that_a_kill_cut_off_was_never_written",),
    ),
    Fault(
        "limits-are-forgotten",
        "a run remembers its limits",
        "grader/grading/settings.py",
        "limits={**before.limits, **self.limits}",
        "limits=self.limits",
        ("tests/pipeline/test_settings.py::test_limits_are_remembered_until_others_are_told",),
    ),
    Fault(
        "one-result-is-kept",
        "what is run again keeps every result",
        "grader/runs/results.py",
        '    part.replace(folder / "results" / str(number))',
        '    part.replace(folder / "results" / "1") if number == 1 else None',
        ("tests/pipeline/test_regrade.py::test_both_results_are_kept_and_the_newer_counts",),
    ),
    Fault(
        "names-beside-pseudonyms",
        "a run without names",
        "grader/runs/pseudonyms.py",
        "            display_name=one.id,",
        "            display_name=one.display_name,",
        ("tests/pipeline/test_pseudonyms.py::test_nothing_tells_whose_it_is",),
    ),
    Fault(
        "odd-notebooks-go-back-as-pages",
        "every notebook that was read goes back as one",
        "grader/reports/annotated.py",
        "    for repair in (False, True):",
        "    for repair in (False,):",
        ("tests/reports/test_annotated.py",),
    ),
    Fault(
        "fractions-are-letters",
        "names are compared as Canvas writes them",
        "grader/intake/names.py",
        '.startswith(("L", "M", "Nd", "Pc"))',
        '.startswith(("L", "M", "N", "Pc"))',
        ("tests/intake/test_names.py",),
    ),
    Fault(
        "comments-twice",
        "a push that broke off comments once",
        "grader/runs/canvas_push.py",
        "            comment = step.comment and not _has_comment(there, step.mark)",
        "            comment = step.comment",
        ("tests/canvas/test_push.py::test_a_dropped_answer_is_asked_after_and_not_sent_again",),
    ),
    Fault(
        "review-exits-0",
        "exit codes",
        "grader/cli/common.py",
        "    return 3 if any(report.score.total is None for report in reports) else 0",
        "    return 0",
        ("tests/pipeline/test_command_line.py::test_exit_code_says_what_is_left_to_do",),
    ),
    Fault(
        "solutions-in-the-template",
        "the template holds no solution",
        "grader/authoring/template.py",
        '        return "\\n".join(lines)\n',
        '        return "\\n".join([*lines, body])\n',
        ("tests/authoring/test_template.py",),
    ),
    Fault(
        "points-are-written-twice",
        "the assignment handed out tells the points that are judged",
        "grader/authoring/handout.py",
        '"points": check.points}',
        '"points": 6}',
        ("tests/authoring/test_handout.py",),
    ),
    Fault(
        "starters-of-other-courses",
        "a course's own template is known again",
        "grader/intake/student_upload.py",
        'if "YOUR CODE HERE" in cell]',
        "]",
        ("tests/intake/test_take.py",),
    ),
    Fault(
        "checks-run-in-the-box",
        "the self-check does nothing while grading",
        "grader/inside/shims/commands.py",
        '    vars(sys.modules["grader"]).update(check=check, load_ipython_extension=lambda _shell: None)\n',
        "",
        ("tests/adapt/test_commands.py",),
    ),
    Fault(
        "unseen-trainings-pass",
        "a self-check passes nothing that was not seen",
        "grader/selfcheck/calls.py",
        "if passed and not trained.seen and not accuracy:",
        "if not name:",
        ("tests/selfcheck/test_kernel.py",),
    ),
    Fault(
        "cards-run-markup",
        "cards escape what students write",
        "grader/selfcheck/card.py",
        "else escape(piece) for number",
        "else piece for number",
        ("tests/selfcheck/test_card.py",),
    ),
    Fault(
        "hints-that-solve",
        "hints teach and never solve",
        "grader/assignments/finetuning/counting.py",
        '"A parameter says of itself whether it is trained: count only those that are."',
        '"Count only `p.numel() for p in model.parameters() if p.requires_grad`."',
        ("tests/finetuning/test_hints.py",),
    ),
    Fault(
        "hidden-criteria-have-names",
        "students see of a criterion what the course says",
        "grader/rubric/shown.py",
        "id=aliases[result.id], title=FURTHER",
        "title=FURTHER",
        ("tests/reports/test_shown.py",),
    ),
    Fault(
        "autosaves-are-saves",
        "a notebook is checked again where its code has changed",
        "grader/cli/watch.py",
        "if code is not None and code != judged:",
        "if code is not None:",
        ("tests/pipeline/test_check.py",),
    ),
    Fault(
        "packages-are-tried",
        "packages beside a notebook are no code of the student's",
        "grader/inside/own_calls.py",
        "file.startswith(home + os.sep) and not installed",
        "file.startswith(home + os.sep)",
        ("tests/student_package/test_environment_beside.py",),
    ),
    Fault(
        "sgd-breaks-the-model",
        "steps of SGD are as long as the Trainer's",
        "grader/inside/shims/small_model.py",
        "_NORM = 1.0",
        "_NORM = 1e9",
        ("tests/adapt/test_shims.py",),
    ),
    Fault(
        "own-heads-have-no-start",
        "heads of one's own are asked how they answered when training began",
        "grader/inside/probes/training.py",
        "tensor.copy_(start[name].view_as(tensor))",
        "tensor.copy_(end[name])",
        ("tests/corpus/test_rebuilt.py",),
    ),
)


def scratch(folder: Path) -> Path:
    """Copy the tracked files and the environment, whose own path then leads to the copy, the boxes' interpreters' too."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    shutil.copytree(ROOT / ".venv", folder / ".venv", symlinks=True, copy_function=_link)
    own = [*(folder / ".venv").glob("lib/*/site-packages/*.pth"), *(folder / ".venv/bin").iterdir()]
    for path in own:
        data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        if bytes(ROOT) in data:
            path.unlink()  # a hard link: writing to it would change the checkout's environment
            path.write_bytes(data.replace(bytes(ROOT), bytes(folder)))
            path.chmod(0o755)
    return folder


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def run(folder: Path, tests: Iterable[str], marks: str = "") -> subprocess.CompletedProcess[str]:
    """Run pytest on these tests: it ends with 0 when all pass, 1 when one fails, 5 when none of them has these marks."""
    words = ["-x", "-q", "-p", "no:cacheprovider", *(["-m", marks] if marks else []), *tests]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [folder / ".venv/bin/python", "-m", "pytest", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def caught(folder: Path, fault: Fault) -> str:
    """The first tier that catches a fault: `fast`, `all`, or `none`."""
    path = folder / fault.file
    text = path.read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        return f"stale: {fault.file} holds the old text {text.count(fault.old)} times"
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    try:
        if run(folder, fault.tests, FAST).returncode == 1:
            return "fast"
        return "all" if run(folder, fault.tests).returncode == 1 else "none"
    finally:
        path.write_text(text, encoding="utf-8")


def main(names: list[str]) -> int:
    """Print which tier catches each fault."""
    known = {fault.name for fault in FAULTS}
    if unknown := [name for name in names if name not in known]:
        print(f"no fault {', '.join(unknown)}; there are {', '.join(sorted(known))}", file=sys.stderr)
        return 2
    chosen = [fault for fault in FAULTS if not names or fault.name in names]
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = scratch(Path(name))
        whole = run(folder, sorted({test for fault in chosen for test in fault.tests}))
        if whole.returncode != 0:
            print(f"Without any fault the named tests fail:\n{whole.stdout[-3000:]}", file=sys.stderr)
            return 1
        print("| fault | feature | file | caught by |\n|---|---|---|---|", flush=True)
        found = []
        for fault in chosen:
            found.append(caught(folder, fault))
            print(f"| {fault.name} | {fault.feature} | `{fault.file}` | {found[-1]} |", flush=True)
    fast, slow = found.count("fast"), found.count("all")
    print(
        f"\n{len(found)} faults: {fast} caught by the fast tier, {slow} more by all, {len(found) - fast - slow} by none."
    )
    enough = fast >= FEWEST_FAST or bool(names)
    return 0 if enough and fast + slow == len(found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
