"""Intake: from a Canvas archive, a folder or a single file to submissions, with nothing lost on the way."""

from grader.intake.archive import IntakeLimits
from grader.intake.roster import AssignmentColumn, Roster, RosterEntry, read_roster, with_groups
from grader.intake.take import Intake, leave_out_of_copies, take_in

__all__ = [
    "AssignmentColumn",
    "Intake",
    "IntakeLimits",
    "Roster",
    "RosterEntry",
    "leave_out_of_copies",
    "read_roster",
    "take_in",
    "with_groups",
]
