"""A small Canvas: the part of its REST API that the grader uses, over HTTP, with faults that a test switches on.

By Canvas's documentation: pages by opaque `Link` headers, two generations of rate limiting, uploads in three steps, comments that are
added by every request, attachments of the current attempt only.
"""

from __future__ import annotations

import contextlib
import email.parser
import email.policy
import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "7~a-secret-token"
COURSE, ASSIGNMENT = 12, 98765


@dataclass
class Upload:
    """One file of a student."""

    id: int
    name: str
    data: bytes
    size: int | None = None
    """What Canvas says it has, if that is not its length."""


@dataclass
class Student:
    """A student with a submission."""

    id: int
    name: str
    sortable: str
    uploads: list[Upload] = field(default_factory=list)
    late: bool = False
    excused: bool = False
    score: float | None = None
    deduction: float = 0.0
    group: tuple[int, str] | None = None
    comments: list[dict[str, Any]] = field(default_factory=list)
    rubric: dict[str, float] = field(default_factory=dict)
    kind: str | None = None
    body: str = ""
    anonymous_id: str | None = None


Fault = Callable[["Canvas", str, str, int], "int | None"]
"""(canvas, method, path, number of the request) -> None, a status to answer with, -1 to drop before or -2 after it was done."""


@dataclass
class Canvas:
    """The state of one assignment in one course."""

    students: list[Student]
    title: str = "Lab 2: LoRA"
    points: float | None = 9.0
    rubric: list[dict[str, Any]] | None = None
    groups: bool = False
    individually: bool = False
    page: int = 2
    """Entries per page, whatever is asked for."""
    token: str = TOKEN
    fault: Fault | None = None
    url: str = ""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """(method, path, Authorization) of all requests."""
    files: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    pending: dict[str, tuple[str, int]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def student(self, user: int) -> Student:
        return next(student for student in self.students if student.id == user)

    def members(self, student: Student) -> list[Student]:
        """All whose score a request for one of them sets."""
        if not self.groups or self.individually or student.group is None:
            return [student]
        return [other for other in self.students if other.group == student.group]

    # ------------------------------------------------------------ what is answered

    def assignment(self) -> dict[str, Any]:
        return {
            "id": ASSIGNMENT, "course_id": COURSE, "name": self.title, "points_possible": self.points, "rubric": self.rubric,
            "group_category_id": 5 if self.groups else None, "grade_group_students_individually": self.individually,
            "anonymous_grading": any(student.anonymous_id for student in self.students),
        }  # fmt: skip

    def submission(self, student: Student, include: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {
            "id": 10_000 + student.id, "user_id": student.id, "late": student.late, "excused": student.excused,
            "entered_score": student.score, "score": None if student.score is None else student.score - student.deduction,
            "submission_type": student.kind or ("online_upload" if student.uploads else None), "body": student.body, "url": student.body,
            "attachments": [
                {"id": u.id, "display_name": u.name, "filename": u.name, "size": len(u.data) if u.size is None else u.size,
                 "url": f"{self.url}/files/{u.id}/download?verifier=abc"}
                for u in student.uploads
            ],
        }  # fmt: skip
        if student.anonymous_id:
            del found["user_id"]
            found["anonymous_id"] = student.anonymous_id
        if "user" in include and not student.anonymous_id:
            found["user"] = {"id": student.id, "name": student.name, "sortable_name": student.sortable}
        if "group" in include:
            found["group"] = {"id": student.group[0], "name": student.group[1]} if student.group else {"id": None}
        if "submission_comments" in include:
            found["submission_comments"] = [{"id": c["id"], "comment": c["comment"]} for c in student.comments]
        return found

    def grade(self, student: Student, form: dict[str, list[str]]) -> tuple[int, Any]:
        """Carry out `PUT .../submissions/:user`, or by anonymous id: every request adds its comment."""
        rubric = {key[18:-9]: float(v[0]) for key, v in form.items() if key.startswith("rubric_assessment[")}
        if rubric and not {one["id"] for one in self.rubric or ()} & set(rubric):
            return 400, {"message": "invalid rubric_assessment"}
        together = form.get("comment[group_comment]") == ["true"]
        files = [int(one) for one in form.get("comment[file_ids][]", ())]
        if any(one not in self.files for one in files):
            return 400, {"message": "no such file"}
        for one in self.members(student):
            if "submission[posted_grade]" in form:
                one.score = float(form["submission[posted_grade]"][0])
            one.rubric |= rubric
            if "comment[text_comment]" in form and (one is student or together):
                text = form["comment[text_comment]"][0]
                one.comments.append({"id": len(one.comments), "comment": text, "files": [self.files[n] for n in files]})
        return 200, self.submission(student, [])

    def begin_upload(self, form: dict[str, list[str]]) -> tuple[int, Any]:
        key = f"k{len(self.pending)}"
        self.pending[key] = (form["name"][0], int(form["size"][0]))
        return 200, {
            "upload_url": f"{self.url}/inst-fs/{key}",
            "upload_params": {"filename": form["name"][0], "token": key},
        }

    def end_upload(self, key: str, parts: list[tuple[str, bytes]]) -> tuple[int, Any]:
        name, size = self.pending[key]
        if [part for part, _ in parts][-1:] != ["file"] or dict(parts)["token"] != key.encode():
            return 400, {"message": "all upload_params first, and the file last"}
        data = dict(parts)["file"]
        if len(data) != size:
            return 400, {"message": "size differs"}
        number = 500 + len(self.files)
        self.files[number] = (name, data)
        return 201, {"id": number, "url": f"{self.url}/files/{number}/download", "display_name": name}

    def answer(self, method: str, path: str, query: dict[str, list[str]], form: Any) -> tuple[int, Any]:
        """Status and JSON (or bytes) for a request that got through."""
        include = query.get("include[]", []) + query.get("include", [])
        base = rf"/api/v1/courses/{COURSE}"
        place = rf"{base}/assignments/{ASSIGNMENT}"
        if path == base:
            return 200, {"id": COURSE, "name": "DAT450"}
        if path == place:
            return 200, self.assignment()
        if path == f"{base}/sections":
            return 200, [{"id": 1, "name": "LP2"}, {"id": 2, "name": "GU"}]
        if path in (f"{base}/users", f"{base}/search_users"):
            return 200, [
                {"id": s.id, "name": s.name, "sortable_name": s.sortable, "login_id": f"u{s.id}",
                 "enrollments": [{"course_section_id": 1 + s.id % 2}]}
                for s in self.students
            ]  # fmt: skip
        if path == f"{place}/submissions":
            return 200, [self.submission(student, include) for student in self.students]
        for student in self.students:  # who is anonymous is found by no other id
            kind, name = (
                ("anonymous_submissions", student.anonymous_id) if student.anonymous_id else ("submissions", student.id)
            )
            if path == f"{place}/{kind}/{name}":
                return self.grade(student, form) if method == "PUT" else (200, self.submission(student, include))
            if path == f"{place}/submissions/{name}/comments/files":  # Canvas has none for anonymous ones
                return self.begin_upload(form)
        if match := re.fullmatch(r"/inst-fs/(\w+)", path):
            return self.end_upload(match[1], form)
        if match := re.fullmatch(r"/files/(\d+)/download", path):
            uploads = [u for s in self.students for u in s.uploads if u.id == int(match[1])]
            return (200, uploads[0].data) if uploads else (404, {"errors": []})
        return 404, {"errors": [{"message": "The specified resource does not exist."}]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # head and body in one packet, else each request waits for an acknowledgement
    disable_nagle_algorithm = True
    server: Any

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        canvas: Canvas = self.server.canvas
        split = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(split.query)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with canvas.lock:
            number = len(canvas.requests)
            canvas.requests.append((self.command, split.path, self.headers.get("Authorization", "")))
            fault = canvas.fault(canvas, self.command, split.path, number) if canvas.fault else None
            if fault == -1:
                self.close_connection = True
                return
            status, answer = self._answer(canvas, split.path, query, body, fault)
            if fault == -2:
                self.close_connection = True
                return
            self._send(canvas, split.path, query, status, answer)

    def _answer(self, canvas: Canvas, path: str, query: Any, body: bytes, fault: int | None) -> tuple[int, Any]:
        if fault is not None and fault > 0:
            return fault, b"403 Forbidden (Rate Limit Exceeded)" if fault == 403 else {"errors": [{"message": "no"}]}
        if path.startswith("/api/") and self.headers.get("Authorization") != f"Bearer {canvas.token}":
            return 401, {"errors": [{"message": "Invalid access token."}]}
        form: Any = urllib.parse.parse_qs(body.decode()) if b"=" in body[:200] else {}
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("multipart/"):
            whole = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
                b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body
            )
            form = [
                (part.get_param("name", header="content-disposition"), part.get_payload(decode=True))
                for part in whole.iter_parts()
            ]
        return canvas.answer(self.command, path, query, form)

    def _send(self, canvas: Canvas, path: str, query: Any, status: int, answer: Any) -> None:
        link = ""
        if isinstance(answer, list):
            at = int(query.get("cursor", ["0"])[0], 16)
            if at + canvas.page < len(answer):
                further = {**query, "cursor": f"{at + canvas.page:x}"}
                again = urllib.parse.urlencode(further, doseq=True)
                link = f'<{canvas.url}{path}?{again}>; rel="next"'
            answer = answer[at : at + canvas.page]
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if link:
            self.send_header("link", link)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Bearer realm="canvas-lms"')
        if status == 429:
            self.send_header("Retry-After", "3")
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = _serve  # noqa: N815


@contextlib.contextmanager
def serving(canvas: Canvas) -> Iterator[Canvas]:
    """Serve a Canvas on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.canvas = canvas  # type: ignore[attr-defined]
    canvas.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield canvas
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
