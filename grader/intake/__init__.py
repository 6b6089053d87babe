"""Intake: from a Canvas archive, a folder or a single file to submissions, with nothing lost on the way."""

from grader.intake.archive import IntakeLimits
from grader.intake.roster import AssignmentColumn, Roster, RosterEntry, read_roster
from grader.intake.take import Intake, take_in

__all__ = [
    "AssignmentColumn",
    "Intake",
    "IntakeLimits",
    "Roster",
    "RosterEntry",
    "read_roster",
    "take_in",
]
