"""Every error the grader raises on purpose, and whose business it is.

```
GraderError
├── UsageError            the person at the keyboard can fix it: wrong path, wrong option
├── DeclarationError      the author of an assignment can fix it: duplicate id, unknown dependency
├── SubmissionError       the file a student handed in is not what it should be; never stops a batch
├── EvidenceError         what came out of the box is absent, malformed or too large; never a pass
└── InfrastructureError   ours or the machine's; a submission it touches "needs review", never a zero
    ├── BundleError       the bundle (model, data, thresholds) is missing, damaged or incomplete
    ├── SandboxError      the box could not be built, or broke
    ├── LmsError          the learning platform cannot be reached, or refuses
    ├── GuardError        judging or rendering what a submission brought ended badly
    ├── EngineError       the workers that run submissions cannot be had, or are not equal
    └── StoreError        the run directory cannot be read or written
```
"""

from __future__ import annotations

__all__ = [
    "BundleError",
    "DeclarationError",
    "EngineError",
    "EvidenceError",
    "GraderError",
    "GuardError",
    "InfrastructureError",
    "LmsError",
    "SandboxError",
    "StoreError",
    "SubmissionError",
    "UsageError",
]


class GraderError(Exception):
    """Root of the tree; its text is written for the person who reads it, and says what to do."""


class UsageError(GraderError):
    """A wrong path, option or combination of options."""


class DeclarationError(GraderError):
    """An assignment is declared wrongly; raised when it is imported, naming the check and the fix."""


class SubmissionError(GraderError):
    """A submitted file cannot be used; becomes a line in the report of that submission."""


class EvidenceError(GraderError):
    """Evidence is absent, malformed, too large or of a wrong type."""


class InfrastructureError(GraderError):
    """The grader or its machine failed; the student is not to blame."""


class BundleError(InfrastructureError):
    """A bundle is missing, damaged or incomplete."""


class SandboxError(InfrastructureError):
    """The box could not be built or did not keep its contract."""


class LmsError(InfrastructureError):
    """The learning platform cannot be reached, refuses, or does not answer as it is documented to."""


class GuardError(InfrastructureError):
    """Work on what a submission brought, in a process of its own, ended badly; its text is to be read after "it"."""


class EngineError(InfrastructureError):
    """No fit worker is to be had: the engine cannot be reached, or a worker is not what the coordinator is."""


class StoreError(InfrastructureError):
    """The run directory cannot be read or written."""
