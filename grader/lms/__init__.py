"""Learning platforms: scores and reports in the forms that Canvas, Gradescope, PrairieLearn and Moodle take."""
