"""Canvas's REST API by the library `canvasapi` (the extra `canvas`): patient where that is safe, and never telling its token.

Trusted; what comes back is written by students in part. `canvasapi` has neither time-outs nor retries, so it gets a session that has.
Rate limits: 429 with Retry-After, and until 2025 403 with the body `403 Forbidden (Rate Limit Exceeded)`; such a request was
not carried out, and may be repeated whatever it was. A request that was lost on the way, or that a server failed on, may have been
carried out: only those that read are repeated here.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from canvasapi import Canvas
from canvasapi.exceptions import CanvasException, Forbidden, InvalidAccessToken, ResourceDoesNotExist, Unauthorized

from grader.errors import LmsError, UsageError

__all__ = ["TOKEN", "URL", "connect", "course_and_assignment", "get", "pause", "read_token", "speaking"]

URL, TOKEN = "CANVAS_API_URL", "CANVAS_API_TOKEN"
"""Environment variables with the address of Canvas (`https://canvas.example.edu`) and an access token (Account → Settings)."""
_SERVICE = "dat450-grader"
_TIMEOUT = (10.0, 60.0)
_TRIES = 6
_LONGEST_PAUSE = 60.0
_WORDS = {
    InvalidAccessToken: f"Canvas does not take the access token (expired or revoked?); make a new one for {TOKEN}",
    Unauthorized: "Canvas does not let this token at {what}",
    ResourceDoesNotExist: "Canvas does not find {what}, or hides it from this token",
    Forbidden: "Canvas forbids it for {what}: {why}",
    CanvasException: "Canvas refused for {what}: {why}",
    requests.HTTPError: "{why} for {what}: its servers have failed; try again later",
    requests.RequestException: "Canvas could not be reached for {what} ({kind})",
}
"""What is said of each kind of error; the first that fits."""


class PatientSession(requests.Session):  # type: ignore[misc]  # requests has no types
    """A session with time-outs that waits when it is told to slow down, and asks again what only reads."""

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request; waits up to six times. Raises what `requests` raises when the last try fails, too.

        An answer of the server's own failure is a `requests.HTTPError`, since what it did before is not known.
        """
        kwargs.setdefault("timeout", _TIMEOUT)
        reads = str(method).upper() == "GET"
        if kwargs.get("files"):  # an open file is at its end when it is sent again
            kwargs["files"] = {name: (Path(file.name).name, file.read()) for name, file in kwargs["files"].items()}
        for number in range(_TRIES):
            last, told = number == _TRIES - 1, ""
            try:
                response = super().request(method, url, *args, **kwargs)
                told = response.headers.get("Retry-After", "")
                if response.status_code >= 500:
                    raise requests.HTTPError(f"Canvas answered with {response.status_code}", response=response)
                slow_down = response.status_code == 429 or (
                    response.status_code == 403 and "rate limit exceeded" in response.text.lower()
                )
                if last or not slow_down:
                    return response
            except (requests.ConnectionError, requests.Timeout, requests.HTTPError):
                if last or not reads:
                    raise
            time.sleep(pause(number, told))
        raise AssertionError("the last try returns or raises")


def pause(number: int, told: str = "") -> float:
    """Seconds to wait before the next try: what the server says, else one, two, four ... with some luck in it."""
    wanted = float(told) if told.strip().isdecimal() else 2.0**number * random.uniform(0.7, 1.3)
    return min(wanted, _LONGEST_PAUSE)


def read_token(url: str) -> str:
    """The access token for a Canvas: from the environment, else from the keyring. Raises UsageError where there is none."""
    if token := os.environ.get(TOKEN, "").strip():
        return token
    with contextlib.suppress(ImportError):
        import keyring

        with contextlib.suppress(keyring.errors.KeyringError):
            if token := (keyring.get_password(_SERVICE, url) or "").strip():
                return token
    raise UsageError(
        f"no access token: make one in Canvas (Account → Settings → New Access Token) and put it into {TOKEN}, or into the"
        f" keyring with `keyring set {_SERVICE} {url}`"
    )


def connect() -> Canvas:
    """A client for the Canvas that the environment names. Raises UsageError for an address that is none or is not encrypted."""
    url = os.environ.get(URL, "").strip().rstrip("/").removesuffix("/api/v1")
    if not url.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
        raise UsageError(
            f"{URL} is {url or 'not set'}; it has to be the address of your Canvas: https://canvas.example.edu"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an address on this machine, without encryption
        canvas = Canvas(url, read_token(url))
    canvas._Canvas__requester._session = PatientSession()  # there is no public way
    return canvas


def course_and_assignment(canvas: Canvas, course: str, assignment: str) -> tuple[Any, Any]:
    """The course and the assignment of these ids. Raises LmsError where there are none for this token."""
    with speaking(f"course {course}"):
        found = canvas.get_course(course)
    with speaking(f"assignment {assignment} of course {course}"):
        return found, found.get_assignment(assignment)


def get(canvas: Canvas, url: str) -> bytes | None:
    """The bytes at an address that Canvas gave, None where nothing is there any more; the token goes to Canvas only. Raises LmsError."""
    requester = canvas._Canvas__requester
    own = url.startswith(requester.original_url + "/")
    with speaking("a file"), contextlib.suppress(ResourceDoesNotExist):
        return bytes(requester.request("GET", _url=url, use_auth=own).content)
    return None


@contextlib.contextmanager
def speaking(what: str) -> Iterator[None]:
    """Turn what went wrong on the way to Canvas into a LmsError with a sentence; the token is in none of them."""
    try:
        yield
    except (CanvasException, requests.RequestException) as error:
        words = next(words for kind, words in _WORDS.items() if isinstance(error, kind))
        raise LmsError(words.format(what=what, why=str(error)[:200], kind=type(error).__name__)) from error
