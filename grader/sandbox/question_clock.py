"""How long cells and questions may take, over one session: by CPU time, asleep, and on the wall.

Trusted. CPU time is the limit, so that a loaded machine costs nobody points. Wall time is a net for what never comes to an end, and
its time is told apart by what was measured of the box: whoever neither computes nor waits for the machine (see `Sample`) sleeps,
which is the submission's own doing; whoever is ready to compute and gets no processor is on a machine that is too busy, which a
person has to look at; and who does a little now and then, while processors are free, is slow.
"""

from __future__ import annotations

from grader.errors import EvidenceError
from grader.sandbox.contract import QuestionCpuStarved, QuestionIdle, QuestionTimedOut

__all__ = ["QuestionClock", "was_held_up"]

_IDLE_SHARE = 0.05
"""Of a processor: whoever uses less is asleep, unless the machine held it up. Polling every millisecond uses less, too."""
_HELD_UP_SHARE = 0.25
"""Of the wall time: so much of it spent waiting for a processor or a disk is the machine's doing. Code that is always ready to run
waits nearly all the time on a machine too busy for it; a sleeper's few wake-ups wait for hundredths of it."""
_NEXT_SHARE = 1 / 12
"""Of the first sleeper's time: what later ones get."""
_MOST_IDLE = 3
"""After so many the session ends."""
_WALL_FACTOR = 20.0
_GRACE_SECONDS, _CPU_STARVED_GRACE_SECONDS = 10.0, 120.0
_LONGEST_GAP = 1.0
"""Seconds between two readings that count at most: a suspended grader has not been waiting."""


def was_held_up(waited: float, wall: float) -> bool:
    """Whether of `wall` seconds so many were `waited` for the machine that it is at fault."""
    return waited > _HELD_UP_SHARE * wall


class QuestionClock:
    """Watches one cell or question at a time: `begin`, `expired` with every reading, `verdict` when it was over, `end`."""

    def __init__(self, idle_seconds: float) -> None:
        """Allow the first sleeper `idle_seconds` without computing."""
        self.idled = 0
        """Cells and questions that slept until now."""
        self.slept = 0.0
        """Wall seconds without computing, of the last one that was taken for a sleeper and of those before it."""
        self._first = idle_seconds
        self._asking = False
        self._verdict: EvidenceError | None = None
        self._limit = self._start = self._mark = self._last = self._idle = self._wall = 0.0
        self._waited_start = self._waited_mark = 0.0
        self._drowsy = self._cpu = self._waited = 0.0

    @property
    def idle_seconds(self) -> float:
        """Wall seconds that the next one may sleep."""
        return self._first * (_NEXT_SHARE if self.idled else 1.0)

    @property
    def exhausted(self) -> bool:
        """Whether nothing more should be run or asked."""
        return self.idled >= _MOST_IDLE

    def begin(self, cpu: float, cpu_seconds: float, now: float, waited: float = 0.0) -> None:
        """A cell or question begins, and may use `cpu_seconds`; the rest as in `expired`."""
        self._asking, self._verdict = True, None
        self._limit, self._start, self._mark = cpu_seconds, cpu, cpu
        self._last, self._idle, self._wall = now, 0.0, 0.0
        self._cpu, self._waited = cpu, waited
        self._waited_start = self._waited_mark = waited

    def end(self) -> None:
        """It is over, however it went."""
        self._asking = False

    def expired(self, cpu: float, now: float, waited: float = 0.0) -> bool:
        """Whether it has had its time, at the session's `cpu` seconds, the wall clock's `now` and `waited` seconds for the machine."""
        if not self._asking or self._verdict is not None:
            return self._verdict is not None
        gap, self._last = min(now - self._last, _LONGEST_GAP), now
        self._wall += gap
        self._idle += gap
        # many short sleeps, one in each cell, are a long one; each second of work or of waiting for the machine makes up for some
        worked = (cpu - self._cpu) / _IDLE_SHARE + (waited - self._waited) / _HELD_UP_SHARE
        self._drowsy, self._cpu, self._waited = max(0.0, self._drowsy + gap - worked), cpu, waited
        if cpu - self._mark > _IDLE_SHARE * self.idle_seconds or was_held_up(
            waited - self._waited_mark, self.idle_seconds
        ):
            self._mark, self._waited_mark, self._idle = cpu, waited, 0.0
        used = cpu - self._start
        if used > self._limit:
            self._verdict = QuestionTimedOut(f"nothing, but took more than {self._limit:.0f} s of CPU time")
        elif self._idle > self.idle_seconds or self._drowsy > self._first:
            self.slept, self._drowsy = max(self._idle, self._drowsy), 0.0
            self._verdict = QuestionIdle(f"nothing, but slept: for {self.slept:.0f} s nothing was computed")
            self.idled += 1
        elif self._wall > max(self._first, _WALL_FACTOR * self._limit):
            self._verdict = self._slow(used, waited - self._waited_start)
        return self._verdict is not None

    def _slow(self, used: float, waited: float) -> EvidenceError:
        """Whose fault it is that so little CPU time was used."""
        if was_held_up(waited, self._wall):
            return QuestionCpuStarved(
                f"It was still at work after {self._wall:.0f} s, in which it got {used:.1f} s of CPU time and waited for the machine for"
                f" {waited:.0f} s. The machine was too busy; a person has to look."
            )
        return QuestionTimedOut(
            f"nothing in {self._wall:.0f} s, of which it computed for {used:.1f} s and let the others pass"
        )

    @property
    def verdict(self) -> EvidenceError:
        """Why it was given up."""
        return self._verdict or QuestionTimedOut("nothing, but was interrupted")

    @property
    def grace_seconds(self) -> float:
        """Wall seconds in which what is interrupted may come back: more where the machine may be at fault."""
        return _CPU_STARVED_GRACE_SECONDS if isinstance(self._verdict, QuestionCpuStarved) else _GRACE_SECONDS
