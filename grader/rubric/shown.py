"""What students see of a criterion is the course's choice: all, its title and points, or its points only. Done here, for every reader.

Whatever a student looks at goes through `redacted`: pages and files start from `for_student`, the card in the running kernel from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from grader.records import CriterionResult, Verdict

__all__ = ["ASKED_ANEW", "FURTHER", "redacted", "with_numbers"]

ASKED_ANEW = "What passed here should pass again: the grading asks the same with other numbers, and measures accuracy on other reviews."
"""What a check of one's own says of itself, wherever it is read."""

FURTHER = "A further criterion."
"""Stands for the title of a criterion of which students see the points only."""
_BY_HAND = "by your teacher"
_OTHER = "a further criterion"


def redacted(criteria: Iterable[CriterionResult]) -> tuple[CriterionResult, ...]:
    """The criteria of a rubric as students may see them, by the `show` of each; applying it twice changes nothing more.

    One that is shown by its points only has neither its title nor its name, also where others speak of it.
    """
    results = tuple(criteria)
    aliases = _aliases(results)
    return tuple(_redacted(result, aliases) for result in results)


def with_numbers(criteria: Iterable[CriterionResult]) -> frozenset[str]:
    """The parts of the rubric of which measured numbers may be shown: those with no criterion that students see less of."""
    results = tuple(criteria)
    less = {_part(result.id) for result in results if result.show != "all"}
    return frozenset(_part(result.id) for result in results) - less


def _part(name: str) -> str:
    return name.partition("/")[0]


def _aliases(results: Iterable[CriterionResult]) -> dict[str, str]:
    """Names of the criteria that have none for students -> `part/further-1`, counted within the part."""
    aliases: dict[str, str] = {}
    for result in results:
        if result.show == "nothing":
            part = _part(result.id)
            number = 1 + sum(_part(name) == part for name in aliases)
            aliases[result.id] = f"{part}/further-{number}"
    return aliases


def _redacted(result: CriterionResult, aliases: Mapping[str, str]) -> CriterionResult:
    verdict = replace(result.verdict, because=aliases.get(result.verdict.because, result.verdict.because))
    if result.show == "all":
        for name in aliases:
            verdict = replace(
                verdict,
                message=verdict.message.replace(f"`{name}`", _OTHER).replace(name, _OTHER),
                hint=verdict.hint.replace(f"`{name}`", _OTHER).replace(name, _OTHER),
            )
        return replace(result, verdict=verdict)
    bare = replace(result, verdict=Verdict(verdict.status), cell=None, read=None)
    if result.show == "titles":
        return bare
    by_hand = _BY_HAND if result.override else ""
    return replace(bare, id=aliases[result.id], title=FURTHER, override=by_hand)
