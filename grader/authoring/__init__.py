"""Writing the assignment's own notebooks and pages: the student template from the reference, the folder to hand out.

Trusted: works on the course's own files only, imports no student code and executes nothing.
"""

from grader.authoring.handout import filled, folder, template_files, values_of
from grader.authoring.template import canonical, make_template, read_notebook

__all__ = ["canonical", "filled", "folder", "make_template", "read_notebook", "template_files", "values_of"]
