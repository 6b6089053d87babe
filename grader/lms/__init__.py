"""Learning platforms: scores and reports in the forms that Canvas, Gradescope, PrairieLearn and Moodle take."""

from grader.lms.feedback import Feedback, FeedbackZip, canvas_feedback_zip
from grader.lms.gradebook import canvas_gradebook, choose_column, formula_safe, gradebook_column
from grader.lms.others import gradescope_results, moodle_worksheet, prairielearn_results

__all__ = [
    "Feedback",
    "FeedbackZip",
    "canvas_feedback_zip",
    "canvas_gradebook",
    "choose_column",
    "formula_safe",
    "gradebook_column",
    "gradescope_results",
    "moodle_worksheet",
    "prairielearn_results",
]
