"""How long questions may take, over one session: by CPU time, asleep, and on the wall.

Trusted. CPU time is the limit, so that a loaded machine costs nobody points. Wall time is a net for answers that never come, and
tells two kinds apart: code that does not compute is asleep, which is the submission's own doing; code that does compute, but gets
next to no processor, may only be on a machine that is too busy, which a person has to look at.
"""

from __future__ import annotations

from grader.errors import EvidenceError
from grader.sandbox.contract import QuestionCpuStarved, QuestionIdle, QuestionTimedOut

__all__ = ["QuestionClock"]

_IDLE_SHARE = 0.005
"""Of a processor: whoever uses less is asleep. An idle kernel uses a hundredth of it; honest work gets more unless two hundred
others want the same processor all the time."""
_NEXT_SHARE = 1 / 12
"""Of the first sleeper's time: what later ones get."""
_MOST_IDLE = 3
"""After so many the session ends."""
_WALL_FACTOR = 20.0
_GRACE_SECONDS, _CPU_STARVED_GRACE_SECONDS = 10.0, 120.0
_LONGEST_GAP = 1.0
"""Seconds between two readings that count at most: a suspended grader has not been waiting."""


class QuestionClock:
    """Watches one question at a time: `begin`, `expired` with every reading, `verdict` when it was over, `end`."""

    def __init__(self, idle_seconds: float) -> None:
        """Allow the first question `idle_seconds` without computing."""
        self.idled = 0
        """Questions that slept until now."""
        self._first = idle_seconds
        self._asking = False
        self._verdict: EvidenceError | None = None
        self._limit = self._start = self._mark = self._last = self._idle = self._wall = 0.0

    @property
    def idle_seconds(self) -> float:
        """Wall seconds that the next question may sleep."""
        return self._first * (_NEXT_SHARE if self.idled else 1.0)

    @property
    def exhausted(self) -> bool:
        """Whether nothing more should be asked."""
        return self.idled >= _MOST_IDLE

    def begin(self, cpu: float, cpu_seconds: float, now: float) -> None:
        """A question is asked at the session's `cpu` seconds and may use `cpu_seconds` of them; `now` is the wall clock's."""
        self._asking, self._verdict = True, None
        self._limit, self._start, self._mark = cpu_seconds, cpu, cpu
        self._last, self._idle, self._wall = now, 0.0, 0.0

    def end(self) -> None:
        """The question is over, however it went."""
        self._asking = False

    def expired(self, cpu: float, now: float) -> bool:
        """Whether the question has had its time, at the session's `cpu` seconds and the wall clock's `now`."""
        if not self._asking or self._verdict is not None:
            return self._verdict is not None
        gap, self._last = min(now - self._last, _LONGEST_GAP), now
        self._wall += gap
        self._idle += gap
        if cpu - self._mark > _IDLE_SHARE * self.idle_seconds:
            self._mark, self._idle = cpu, 0.0
        used = cpu - self._start
        if used > self._limit:
            self._verdict = QuestionTimedOut(f"nothing, but took more than {self._limit:.0f} s of CPU time")
        elif self._idle > self.idle_seconds:
            self._verdict = QuestionIdle(f"nothing, but slept: for {self._idle:.0f} s it did not compute")
            self.idled += 1
        elif self._wall > max(self._first, _WALL_FACTOR * self._limit):
            self._verdict = QuestionCpuStarved(
                f"It was still at work after {self._wall:.0f} s, in which it got {used:.1f} s of CPU time. Either the machine was too"
                " busy, or the code waits for something; a person has to look."
            )
        return self._verdict is not None

    @property
    def verdict(self) -> EvidenceError:
        """Why the question was given up."""
        return self._verdict or QuestionTimedOut("nothing, but was interrupted")

    @property
    def grace_seconds(self) -> float:
        """Wall seconds in which the interrupted question may come back: more where the machine may be at fault."""
        return _CPU_STARVED_GRACE_SECONDS if isinstance(self._verdict, QuestionCpuStarved) else _GRACE_SECONDS
