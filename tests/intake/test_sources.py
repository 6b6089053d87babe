"""What a person gives on the command line: sources and class lists that cannot be read, each with one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from grader.cli.main import main
from grader.errors import UsageError
from grader.intake import IntakeLimits, read_roster, take_in

from .conftest import make_notebook as nb

Make = Callable[..., Path]
UNREADABLE = Path("/proc/self/mem")  # a regular file whose first bytes not even root can read
ROSTER = b"Student,ID,Section,Lab (1)\nBerg Bo,12346,A,\n"

needs_proc = pytest.mark.skipif(not UNREADABLE.is_file(), reason="needs /proc")


def piped(path: Path, data: bytes) -> threading.Thread:
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(data,), daemon=True)
    writer.start()
    return writer


def test_a_class_list_from_a_pipe_is_read_once(tmp_path: Path) -> None:
    writer = piped(tmp_path / "pipe", ROSTER)
    roster = read_roster(tmp_path / "pipe")
    writer.join(10)
    assert [entry.id for entry in roster.entries] == ["12346"] and roster.data == ROSTER


def test_grade_keeps_a_class_list_from_a_pipe(make_folder: Make, tmp_path: Path) -> None:
    source = make_folder({"bergbo_12346_67890_lab.pdf": b"%PDF"})
    piped(tmp_path / "pipe", ROSTER)
    run = tmp_path / "run"
    assert main(["grade", str(source), "--roster", str(tmp_path / "pipe"), "--out", str(run)]) in (0, 3)
    assert (run / "roster.csv").read_bytes() == ROSTER
    assert "Berg Bo" in (run / "scores.csv").read_text()


@needs_proc
@pytest.mark.parametrize("name", ["lab.ipynb", "class.zip", "class"])
def test_an_unreadable_file_is_named(name: str, tmp_path: Path, into: Path) -> None:
    (tmp_path / name).symlink_to(UNREADABLE)
    with pytest.raises(UsageError, match=f"cannot read .*{name}: "):
        take_in([tmp_path / name], into)
    with pytest.raises(UsageError, match=f"cannot read the class list .*{name}: "):
        read_roster(tmp_path / name)


def denied(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Refuse to list one folder, as the system does to others than root."""

    def refusing(original: Callable[..., object]) -> Callable[..., object]:
        def refuse(path: str | os.PathLike[str] = ".") -> object:
            if path in (folder, str(folder)):
                raise PermissionError(13, "Permission denied", str(path))
            return original(path)

        return refuse

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))


def test_an_unreadable_folder_is_named(make_folder: Make, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_folder({"a.ipynb": nb("1"), "closed/b.ipynb": nb("2"), "c.ipynb": nb("3")})
    denied(monkeypatch, source / "closed")
    (notice,) = take_in([source], into).notices
    assert "closed" in notice.text and "cannot be listed" in notice.text
    denied(monkeypatch, source)
    with pytest.raises(UsageError, match=r"cannot read .*class: Permission denied"):
        take_in([source], into)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_that_lists_names_only(make_folder: Make, tmp_path: Path) -> None:
    source = make_folder({"a/lab.ipynb": nb("1"), "b.ipynb": nb("2")}, "names-only")
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o777)
    source.chmod(0o644)
    for folder in tmp_path.parents[:3]:
        folder.chmod(folder.stat().st_mode | 0o055)
    tmp_path.chmod(0o755)
    code = (
        "import os, sys; from pathlib import Path; from grader.intake import take_in; os.setresuid(65534, 65534, 65534)\n"
        "print([n.text for s in take_in([Path(sys.argv[1])], Path(sys.argv[2])).submissions for n in s.notices])"
    )
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "out" / "run")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "UsageError" in ended.stderr and "it cannot be read (Permission denied)" in ended.stderr


def test_a_deeply_nested_folder(make_folder: Make, into: Path) -> None:
    source = make_folder({"a.ipynb": nb("1"), "b.ipynb": nb("2")})
    home = Path.cwd()
    try:
        os.chdir(source)
        for _ in range(1200):
            Path("d").mkdir()
            os.chdir("d")
        deep = take_in([source], into).submissions[2]
    finally:
        os.chdir(home)
        subprocess.run(["rm", "-rf", str(source)], check=True)  # rmtree would recurse too deep
    assert deep.problem is not None and "cannot be listed" in deep.problem


def test_an_import_with_an_absurdly_long_name(make_folder: Make, into: Path) -> None:
    source = make_folder({"lab.ipynb": nb(f"import {'x' * 300}, lora"), "lora.py": b""})
    (submission,) = take_in([source / "lab.ipynb"], into).submissions
    assert len(submission.companions) == 1


def test_an_absurdly_long_anonymous_id(make_zip: Make, into: Path) -> None:
    (submission,) = take_in([make_zip({f"anon_{'a' * 300}_67890_lab.ipynb": nb("1")})], into).submissions
    assert len(submission.id) < 100 and (into / submission.path).is_file()


def test_absurdly_long_names_in_a_zip_cost_no_time(make_zip: Make, into: Path) -> None:
    inner = make_zip({f"{'_1' * 30_000}{n}": b"" for n in range(12)}, "inner.zip")
    deep = make_zip({f"{'a/' * 2_000}{n}.ipynb": nb("1") for n in range(12)}, "deep.zip")
    entries = {"a_111_1000_x.zip": inner.read_bytes(), "b_112_1001_x.zip": deep.read_bytes()}
    started = time.process_time()
    one, two = take_in([make_zip(entries)], into).submissions
    assert time.process_time() - started < 2, "CPU seconds"
    assert one.problem is not None and two.path


def test_notebooks_that_differ_in_nothing_but_their_code(tmp_path: Path, make_zip: Make, into: Path) -> None:
    same = {"bo_12346_67890_a/lab.ipynb": nb("1"), "bo_12346_67890_b/lab.ipynb": nb("2")}
    source = make_zip(same)
    assert take_in([source], into).submissions


@pytest.mark.parametrize("inside", ["", "intake", "submissions/12346"])
def test_the_run_is_not_its_own_source(inside: str, make_zip: Make, tmp_path: Path) -> None:
    run = tmp_path / "run"
    take_in([make_zip({"bo_12346_1_lab.ipynb": nb("1")})], run / "intake", relative_to=run)
    (run / "submissions" / "12346").mkdir(parents=True)
    (run / "submissions" / "12346" / "report.html").write_text("<p>")
    before = sorted(run.rglob("*"))
    with pytest.raises(UsageError, match="belongs to the run"):
        take_in([run / inside], run / "intake", relative_to=run)
    assert sorted(run.rglob("*")) == before


def test_names_that_the_locale_cannot_store(make_folder: Make, tmp_path: Path) -> None:
    source = make_folder({"övning.ipynb": nb("1")})
    code = "import sys; from grader.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "grade", str(source), "--out", str(tmp_path / "run")]
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert ended.returncode == 2 and "PYTHONUTF8=1" in ended.stderr and "Traceback" not in ended.stderr
    assert not (tmp_path / "run").exists()


def test_a_file_above_the_limit_is_left_out(make_folder: Make, into: Path) -> None:
    source = make_folder({"a/lab.ipynb": nb("1"), "a/data.csv": b"x" * 2_000_001, "b/lab.ipynb": nb("2")})
    first, _ = take_in([source], into, limits=IntakeLimits(file_bytes=2_000_000)).submissions
    assert first.companions == () and first.path
    assert "“a/data.csv” was left out because it is larger than 2 MB" in first.notices[0].text


def test_too_many_files_in_a_folder(make_folder: Make, into: Path) -> None:
    source = make_folder({f"{n}.ipynb": nb("1") for n in range(5)})
    with pytest.raises(UsageError, match="more than 4 files"):
        take_in([source], into, limits=IntakeLimits(entries=4))
