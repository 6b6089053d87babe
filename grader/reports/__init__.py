"""Reports for people and machines: pure functions of finished reports, everything from a student cleaned and escaped.

Trusted code over hostile text. `for_student` decides what a student may see; every renderer then shows what it is given.
"""

from grader.reports.annotated import annotated_notebook
from grader.reports.audience import Audience, for_student
from grader.reports.exports import junit_xml, needs_review_csv, report_json, report_schema, scores_csv
from grader.reports.html import class_html, report_html
from grader.reports.markdown import report_markdown
from grader.reports.summary import summarize
from grader.reports.terminal import class_table, submission_panel

__all__ = [
    "Audience",
    "annotated_notebook",
    "class_html",
    "class_table",
    "for_student",
    "junit_xml",
    "needs_review_csv",
    "report_html",
    "report_json",
    "report_markdown",
    "report_schema",
    "scores_csv",
    "submission_panel",
    "summarize",
]
