"""What every box must withstand, tried on this host: the list behind `grader doctor`, and part of the test suite.

Trusted code; each check starts boxes of its own and runs harmless attempts in them. A check fails with the sentence that says what
got through. The grader's own files, processes and sockets stand in for what a submission must not reach.
"""

from grader.sandbox.conformance import attempts
from grader.sandbox.conformance.suite import CHECKS, Finding, canary, conform, examine, host_facts

__all__ = ["CHECKS", "Finding", "attempts", "canary", "conform", "examine", "host_facts"]
