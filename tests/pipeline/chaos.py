"""Random kills over a batch of forty short submissions: the run directory ends up as if nothing had happened.

`python -m tests.pipeline.chaos --kills 100 [--seed N]` kills, by SIGKILL and at random moments, the coordinator (the process of
`grader grade`), its zygote, and kernels in their boxes; what ended is started again by the same command until
the batch is done. It prints what it did, and fails when the outcome differs from that of an undisturbed run in anything but MEASURED.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.pipeline.conftest import notebook_bytes

ROOT = Path(__file__).parents[2]
KINDS = ("coordinator", "zygote", "kernel")
MEASURED = {
    "done.json": ("seconds", "cpu_seconds"),
    "execution.json": (
        "cells.*.seconds",
        "cells.*.cpu_seconds",
        "usage.cpu_seconds",
        "usage.wall_seconds",
        "usage.peak_bytes",
        "usage.output_bytes",
        "sandbox",  # cold while a killed zygote is started again
    ),
    "evidence.json": ("observations.*.cpu_seconds",),
}
"""What every run measures anew, field by field. Everything else, to the last byte of every file, is the same."""

MARKS = ("stamp",)
"""A file of times and file numbers, which only says whether there is anything to do."""

_TICK = 0.02
_LIFE_SECONDS = 240.0
_EXIT_FAULT = 4
ENDS_ITSELF = "107"
ADD, SHOUT = "def add(a, b):\n    return a + b", "def shout(text):\n    return text.upper()"
KINDS_OF_NOTEBOOKS = (
    (ADD, "import time\ntime.sleep(0.3)", SHOUT),
    ("def add(a, b):\n    return a - b", SHOUT, "print(add(1, 2))"),
    ("1 / 0", ADD, "for line in range(200):\n    print('line', line)"),
    (ADD, "print('hej')", "def shout(text):\n    return text"),
    ("from helper import add", "import time\ntime.sleep(0.1)", SHOUT),
)


PDF_IS_ZERO = ("--no-notebook", "0")
"""So that the class of `hand_in` leaves nothing to decide: exit code 0."""


def hand_in(folder: Path, count: int, pause: float = 0.0) -> None:
    """Write a class of short notebooks: right, wrong, raising, with a helper module, one that ends its kernel, one that is none.

    Each sleeps `pause` seconds more: a batch has to last as long as there is something to kill.
    """
    folder.mkdir()
    for number in range(count):
        stem = f"student{number:02d}_{100 + number}_9{number:03d}_"
        cells = KINDS_OF_NOTEBOOKS[number % len(KINDS_OF_NOTEBOOKS)]
        if cells[0].startswith("from helper"):
            (folder / f"{stem}helper.py").write_text(ADD)
        if str(100 + number) == ENDS_ITSELF:
            cells = (ADD, "import os\nos._exit(3)", SHOUT)
        data = (
            b"%PDF-1.7 not a notebook"
            if number == 11
            else notebook_bytes(calls_itself(f"student {100 + number}"), f"import time\ntime.sleep({pause})", *cells)
        )
        (folder / f"{stem}lab.ipynb").write_bytes(data)


# ---------------------------------------------------------------- who is who


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += [int(word) for word in (task / "children").read_text().split()]
    return found


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _status(pid: int) -> dict[str, str]:
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return {}


def _in_a_box(pid: int) -> bool:
    """Whether a process has a number of its own in another process namespace, and is no longer bubblewrap."""
    status = _status(pid)
    return len(status.get("NSpid", "").split()) > 1 and status.get("Name") != "bwrap"


def processes(coordinator: int) -> dict[str, list[int]]:
    """The living processes of a batch by kind. Kernels are forks of a zygote."""
    found: dict[str, list[int]] = {"coordinator": [coordinator], "zygote": [], "kernel": []}
    for child in _children(coordinator):
        if "grader.inside.zygote" in _command(child):
            found["zygote"].append(child)
            found["kernel"] += [fork for fork in _children(child) if _in_a_box(fork)]
    return {kind: [pid for pid in pids if _status(pid).get("State", "Z")[0] != "Z"] for kind, pids in found.items()}


def calls_itself(name: str) -> str:
    """A cell that gives its process a name of up to 15 letters, so that it can be told from outside what runs."""
    return f"import ctypes\nctypes.CDLL(None).prctl(15, b{name!r})"


def names(coordinator: int) -> dict[str, int]:
    """What the kernels of a batch call themselves, and their process ids."""
    return {_status(pid).get("Name", ""): pid for pid in processes(coordinator)["kernel"]}


# ---------------------------------------------------------------- the killing


@dataclass(frozen=True)
class Kill:
    """One kill: of what, when so many submissions are done, and how much later still."""

    kind: str
    at: int
    delay: float


def schedule(kills: int, submissions: int, rng: random.Random) -> list[Kill]:
    """As many kills of each kind, spread over the batch; the second half of it is left to make up for what came late."""
    kinds = [KINDS[number % len(KINDS)] for number in range(kills)]
    rng.shuffle(kinds)
    moments = sorted(rng.randrange(max(1, submissions // 2)) for _ in kinds)
    return [Kill(kind, at, rng.uniform(0, 2)) for kind, at in zip(kinds, moments, strict=True)]


@dataclass
class Batch:
    """A class, the command that grades it, and what became of it."""

    folder: Path
    submissions: int
    workers: int
    name: str = "run"
    extra: tuple[str, ...] = ()
    assignment: str = "tests.toy:TOY"
    source: Path | None = None
    lives: int = 0
    dealt: list[str] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    _spent: set[str] = field(default_factory=set)

    @property
    def run(self) -> Path:
        return self.folder / self.name

    @property
    def temp(self) -> Path:
        return self.folder / f"{self.name}-tmp"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start(self) -> subprocess.Popen[bytes]:
        """Start the command (once more) in a session of its own, as a terminal would."""
        self.lives += 1
        self.temp.mkdir(exist_ok=True)
        words = [
            "grade",
            str(self.source or self.folder / "in"),
            "--out",
            str(self.run),
            "--assignment",
            self.assignment,
        ]
        words += ["--secret-file", str(self.folder / "secret"), "--workers", str(self.workers), *self.extra]
        with self.log.open("ab") as log:
            log.write(f"\n==== life {self.lives}\n".encode())
            log.flush()
            return subprocess.Popen(
                [sys.executable, "-m", "grader", *words], cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
                stdin=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(self.temp), "OMP_NUM_THREADS": "1"},
            )  # fmt: skip

    def finish(self) -> int:
        """Run the command to its end; its exit code."""
        process = self.start()
        return self.end_of(process)

    def interrupt(self, process: subprocess.Popen[bytes], times: int = 1) -> None:
        """Press Ctrl-C so many times, again once the first was heard: signals that wait for a busy process become one."""
        os.killpg(process.pid, signal.SIGINT)
        for _again in range(times - 1):
            end = time.monotonic() + _LIFE_SECONDS
            while "Ctrl-C again" not in self.output().rpartition("==== life")[2]:
                assert time.monotonic() < end, f"Ctrl-C was not heard:\n{self.output()}"
                time.sleep(_TICK)
            os.killpg(process.pid, signal.SIGINT)

    def end_of(self, process: subprocess.Popen[bytes], seconds: float = _LIFE_SECONDS) -> int:
        """Wait for the end of the command; a command that hangs is a failure of ours."""
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"the command hangs:\n{self.output()}") from None

    def output(self) -> str:
        """The end of what the command printed."""
        return self.log.read_text(errors="replace")[-3000:]

    def done(self) -> set[str]:
        """Ids of the submissions that are recorded."""
        return {path.parent.name for path in self.run.glob("submissions/*/done.json")}

    def disturb(self, kills: list[Kill], rng: random.Random, tell: bool = False) -> None:
        """Run the command, kill, and run it again until all is done and every kill of the coordinator was dealt."""
        waiting = list(kills)
        while True:
            process = self.start()
            killed = self._life(process, waiting, rng, tell)
            code = self.end_of(process)
            if killed or code == _EXIT_FAULT:  # a fault of the machine is run again by the same command
                continue
            assert code == 0, f"exit code {code}:\n{self.output()}"
            # there is nothing else to kill any more, and that not for long
            left = [kill for kill in waiting if kill.kind == "coordinator"]
            waiting[:] = [Kill(kill.kind, kill.at, rng.uniform(0, 0.8)) for kill in left]
            if not waiting:
                return

    def _life(self, process: subprocess.Popen[bytes], waiting: list[Kill], rng: random.Random, tell: bool) -> bool:
        """Deal kills until the coordinator ends; True when it was killed here."""
        end = time.monotonic() + _LIFE_SECONDS
        due: float | None = None
        while process.poll() is None:
            assert time.monotonic() < end, f"no progress:\n{self.output()}"
            time.sleep(_TICK)
            if not waiting or len(self.done()) < waiting[0].at:
                continue
            now = time.monotonic()
            if due is None:
                due = now + waiting[0].delay
            there = processes(process.pid)
            self.seen.update(pid for pids in there.values() for pid in pids)
            self.folders.update(path.name for path in self.temp.iterdir())
            if now < due or not there[waiting[0].kind]:
                continue
            kind = waiting[0].kind
            if kind == "kernel":
                time.sleep(rng.uniform(0, 0.4))  # not always just after its birth
            if not self._deal(kind, process.pid, rng):
                continue
            waiting.pop(0)
            due = None
            if tell:
                print(f"life {self.lives}: {kind} killed with {len(self.done())} done", flush=True)
            if kind == "coordinator":
                return True
        return False

    def _deal(self, kind: str, coordinator: int, rng: random.Random) -> bool:
        """Kill one process of a kind; False when there is none just now.

        A kernel is killed once while its submission runs, never twice: who dies twice in the same way is taken for the cause.
        """
        targets = processes(coordinator)[kind]
        if kind == "kernel":
            spared = self._spent | {f"student {ENDS_ITSELF}"}
            found = {pid: name for name, pid in names(coordinator).items() if name.startswith("student ")}
            targets = [pid for pid, name in found.items() if name not in spared]
        if not targets:
            return False
        target = rng.choice(targets)
        try:
            os.kill(target, signal.SIGKILL)
        except ProcessLookupError:
            return False
        if kind == "kernel":
            self._spent.add(found[target])
        elif kind == "coordinator":
            self._spent.clear()  # what was in flight begins anew
        self.dealt.append(kind)
        return True

    def leftovers(self) -> list[str]:
        """What is left of processes, temporary folders, control groups and half-written files when the batch has ended."""
        found: list[str] = []
        for _ in range(100):
            found = [*self._leftovers()]
            if not found:
                break
            time.sleep(0.1)
        return found

    def _leftovers(self) -> Iterator[str]:
        yield from (f"process {pid}: {_command(pid)[:200]}" for pid in self.seen if "grader" in _command(pid))
        yield from (f"temporary {path.name}" for path in self.temp.iterdir())
        yield from (f"half-written {path}" for path in self.run.rglob("*.part"))
        for name in self.folders:  # control groups are called after the folder of their pool
            yield from (str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{name}-*"))


# ---------------------------------------------------------------- the comparison


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def rejudge(run: Path) -> None:
    """Judge again and write all reports anew."""
    words = [sys.executable, "-m", "grader", "rejudge", str(run)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), (
        done.stdout + done.stderr
    )  # 3: somebody has to look at a submission, before and after


def _set(value: Any, path: list[str]) -> None:
    name, *rest = path
    if name == "*":
        for part in value.values() if isinstance(value, dict) else value:
            _set(part, rest)
    elif rest:
        _set(value[name], rest)
    else:
        assert name in value, name
        value[name] = "warm" if name == "sandbox" else 0


def without_measured(run: Path, copy: Path) -> dict[str, bytes]:
    """A copy of a run in which MEASURED fields of records are the same for all, with its reports written anew, as a tree."""
    shutil.copytree(run, copy)
    for name, fields in MEASURED.items():
        for path in copy.glob(f"submissions/*/{name}"):
            record = json.loads(path.read_text(encoding="utf-8"))
            for dotted in fields:
                _set(record, dotted.split("."))
            path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    rejudge(copy)
    return {name: data for name, data in tree(copy).items() if name not in MARKS}


def assert_equal(undisturbed: Batch, disturbed: Batch) -> None:
    """The reports of the disturbed run are those of its own records, and its records those of the undisturbed run."""
    before = tree(disturbed.run)
    rejudge(disturbed.run)
    after = tree(disturbed.run)
    assert [name for name in before if name not in MARKS and after.get(name) != before[name]] == [], (
        "reports are not what the records say"
    )
    folder = disturbed.folder
    one = without_measured(undisturbed.run, folder / f"{undisturbed.name}-same-{disturbed.name}")
    other = without_measured(disturbed.run, folder / f"{disturbed.name}-same")
    assert sorted(one) == sorted(other)
    different = [name for name in one if one[name] != other[name]]
    assert different == [], f"different: {different}\n{_first_difference(one, other, different)[:6000]}"


def _first_difference(one: dict[str, bytes], other: dict[str, bytes], names: list[str]) -> str:
    records = [
        name for name in names if name.endswith(("execution.json", "evidence.json", "notebook.json", "done.json"))
    ]
    return "\n".join(f"{name}:\n{one[name].decode()}\n---\n{other[name].decode()}" for name in records[:2])


def main() -> int:
    """Run, kill, compare; 0 when the outcomes are equal."""
    parser = argparse.ArgumentParser(description="Random kills over a batch; see the module's first lines.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--submissions", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--pause", type=float, help="seconds that each notebook sleeps; enough for so many kills if not given"
    )
    parser.add_argument("--seed", type=int, default=None, help="of the kills; printed")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}")
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    pause = max(0.0, options.kills - 20) * 0.05 if options.pause is None else options.pause
    hand_in(folder / "in", options.submissions, pause)
    (folder / "secret").write_text("a secret of chaos")
    calm = Batch(folder, options.submissions, options.workers, "calm", PDF_IS_ZERO)
    began = time.monotonic()
    assert calm.finish() == 0, calm.output()
    print(f"undisturbed: {time.monotonic() - began:.0f} s", flush=True)
    rng = random.Random(seed)
    batch = Batch(folder, options.submissions, options.workers, "chaos", PDF_IS_ZERO)
    began = time.monotonic()
    batch.disturb(schedule(options.kills, options.submissions, rng), rng, tell=True)
    print(
        f"{len(batch.dealt)} kills in {time.monotonic() - began:.0f} s: {dict(Counter(batch.dealt))}; {batch.lives} lives"
    )
    left = batch.leftovers()
    print("left over:", *left or ["nothing"], sep="\n  ")
    assert_equal(calm, batch)
    print("equal to the undisturbed run")
    if not left:
        shutil.rmtree(folder)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
