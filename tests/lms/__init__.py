"""From scores to a gradebook file, as `grader.runs.gradebook` puts it together."""

from __future__ import annotations

from collections.abc import Mapping

from grader.intake import Roster
from grader.lms.gradebook import gradebook_column, gradebook_csv, gradebook_rows


def canvas_gradebook(
    roster: Roster,
    scores: Mapping[str, float | None],
    column: str | None = None,
    *,
    title: str = "",
    possible: float | None = None,
    scale: bool = False,
) -> str:
    """The file to import."""
    chosen = gradebook_column(roster, column, title=title, possible=possible, scale=scale)
    points = possible or chosen.points or 1
    return gradebook_csv(roster, chosen, gradebook_rows(roster, scores, chosen, possible=points))
