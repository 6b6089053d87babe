"""How far a class is, on standard error: a line per running submission with its stage, and when all will be done. Trusted.

Without a terminal there is one plain line per finished submission.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from grader.reports.sanitize import line
from grader.runs.batch import Event

__all__ = ["ClassProgress", "seconds_left", "words_for"]

_SHOWN = 16


def seconds_left(finished: Sequence[float], running: Sequence[float], waiting: int, slots: int) -> float | None:
    """Expected wall seconds until all is done; None before anything was measured.

    `finished`: seconds each finished submission took; `running`: seconds the running ones have taken so far.
    """
    if not finished:
        return None
    mean = sum(finished) / len(finished)
    work = waiting * mean + sum(max(mean - so_far, 0.0) for so_far in running)
    return work / max(1, slots)


def words_for(seconds: float | None) -> str:
    """Say how long it takes still, roughly."""
    if seconds is None:
        return "not known yet when it will be done"
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    return f"about {round(seconds / 60)} min left" if seconds < 5400 else f"about {seconds / 3600:.1f} h left"


class ClassProgress:
    """Follows the events of a batch; a context manager while it shows them."""

    def __init__(self, total: int, slots: int, console: Console) -> None:
        """`total` submissions, `slots` side by side, shown on `console`."""
        self._total, self._slots, self._console = total, max(1, slots), console
        self._running: dict[str, tuple[str, float]] = {}
        self._stages: dict[str, str] = {}
        self._finished: list[float] = []
        self._count = 0
        self._live: Live | None = None

    def __enter__(self) -> ClassProgress:
        """Begin to show; lines that draw themselves anew only on a terminal."""
        if self._console.is_terminal:
            self._live = Live(get_renderable=self.render, console=self._console, transient=True, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Take the lines away."""
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take in an event of the batch."""
        name = line(event.submission.display_name, 40)
        if event.kind == "started":
            self._running[event.submission.id] = (name, time.monotonic())
            return
        if event.kind == "stage":
            self._stages[event.submission.id] = line(event.detail, 24)
            return
        self._running.pop(event.submission.id, None)
        self._stages.pop(event.submission.id, None)
        self._count += 1
        if event.seconds > 0:
            self._finished.append(event.seconds)
        if event.kind == "fault":
            self._console.print(f"{name}: {line(event.detail, 300)}", style="red", markup=False, soft_wrap=True)
        elif self._live is None:
            text = f"{self._count} of {self._total}: {name}, {event.seconds:.1f} s"
            if self._count < self._total:
                text += f"; {words_for(self.left())}"
            self._console.print(text, markup=False, soft_wrap=True)

    def stopping(self) -> None:
        """Say what the first Ctrl-C does."""
        self._console.print("finishing what runs; press Ctrl-C again to stop now", style="yellow")

    def left(self) -> float | None:
        """Expected seconds until all is done."""
        now = time.monotonic()
        waiting = self._total - self._count - len(self._running)
        return seconds_left(
            self._finished, [now - began for _, began in list(self._running.values())], waiting, self._slots
        )

    def render(self) -> RenderableType:
        """All lines: the class first, then who runs."""
        running = list(self._running.items())
        head = f"{self._count} of {self._total} done"
        if self._count < self._total:
            head += f", {words_for(self.left())}"
        rows = [Text(head, "bold")]
        for submission_id, (name, began) in running[:_SHOWN]:
            rows.append(Text(f"  {name:<40} {self.stage(submission_id):<24} {time.monotonic() - began:5.0f} s"))
        if len(running) > _SHOWN:
            rows.append(Text(f"  and {len(running) - _SHOWN} more"))
        return Group(*rows)

    def stage(self, submission_id: str) -> str:
        """The stage that a running submission has reached."""
        return self._stages.get(submission_id, "starting")
