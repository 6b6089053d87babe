"""Writing the assignment's own notebooks: the student template from the reference.

Trusted: works on the course's own files only, imports no student code and executes nothing.
"""

from grader.authoring.canonical import canonical, read_notebook
from grader.authoring.template import make_template, template_files

__all__ = ["canonical", "make_template", "read_notebook", "template_files"]
