"""Writing the assignment's own notebooks: the student template from the reference, and variants of handwritings.

Trusted: works on the course's own files only, imports no student code and executes nothing.
"""

from grader.authoring.canonical import canonical, read_notebook, write_notebook
from grader.authoring.handwriting import Fragment, compose, fragments_of, read_fragments
from grader.authoring.template import make_template, write_template

__all__ = [
    "Fragment",
    "canonical",
    "compose",
    "fragments_of",
    "make_template",
    "read_fragments",
    "read_notebook",
    "write_notebook",
    "write_template",
]
