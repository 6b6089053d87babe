"""The zip of reports that Canvas takes back by "Upload Submissions". Trusted; names in it come from students."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass

from grader.intake.names import safe_file_name, slug
from grader.lms.gradebook import csv_text
from grader.records import Submission

__all__ = ["FeedbackZip", "canvas_feedback_zip"]


@dataclass(frozen=True, slots=True)
class FeedbackZip:
    """The archive, and what is in it."""

    data: bytes
    """The zip file."""
    manifest: str
    """CSV: entry, user, attachment, sha256, submission; to be kept beside the zip."""
    left_out: tuple[str, ...]
    """Who gets no file this way, and why."""


def canvas_feedback_zip(files: Iterable[tuple[Submission, str, bytes]]) -> FeedbackZip:
    """Pack files, each with the submission that it answers and a name, as Canvas finds the student by it.

    That is `<name>_<user id>_<attachment id>_<file name>`; needed are the Canvas user id (or anonymous id) and the attachment id.
    The same input gives the same bytes. Canvas accepts a file only for an upload that is still the student's current one, and
    only one file per upload: of several for one attachment the first is packed.
    """
    out = io.BytesIO()
    rows = [["entry", "user", "attachment", "sha256", "submission"]]
    left_out: list[str] = []
    seen: set[str] = set()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for submission, name, content in sorted(files, key=lambda file: (file[0].id, file[1])):
            user = submission.anonymous_id or next(iter(submission.student_ids), "")
            attachment = submission.attachment_id or ""
            if reason := _obstacle(submission, user, taken=attachment in seen):
                left_out.append(f"{submission.display_name}: {name}: {reason}.")
                continue
            seen.add(attachment)
            entry = f"{_owner(submission)}_{user}_{attachment}_{safe_file_name(name)}"
            info = zipfile.ZipInfo(entry)  # with its fixed date of 1980
            info.external_attr = 0o644 << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
            digest = hashlib.sha256(content).hexdigest()
            rows.append([entry, user, attachment, digest, submission.id])
    return FeedbackZip(out.getvalue(), csv_text(rows), tuple(left_out))


def _obstacle(submission: Submission, user: str, *, taken: bool) -> str:
    if not user:
        return "no Canvas id is known for this submission"
    if not submission.attachment_id:
        return "nothing was uploaded that Canvas could attach it to"
    if not submission.anonymous_id and not user.isdigit():
        return f"{user} is not a Canvas user id"
    return "another file is packed for the same upload" if taken else ""


def _owner(submission: Submission) -> str:
    """Return letters only: Canvas takes the first two all-digit tokens as ids, and skips names that begin with `link`."""
    if submission.anonymous_id:
        return "anon"
    letters = re.sub(r"[^a-z]", "", slug(submission.display_name))
    return f"x{letters}" if letters in ("", "anon") or letters.startswith("link") else letters
