"""The parts of the sandbox that need no box: limits, environment, filter, control-group files, what is cut from outputs."""

from __future__ import annotations

import contextlib
import math
import struct
import tempfile
from dataclasses import fields, replace
from pathlib import Path

import pytest

from grader.cli.common import machine
from grader.errors import SandboxError, UsageError
from grader.inside.seccomp import DENIED, program
from grader.records import CellError
from grader.sandbox.cgroup import ControlGroup, allowance
from grader.sandbox.contract import BoxSpec, Limits, Outcome
from grader.sandbox.environment import environment
from grader.sandbox.host import _mount_script, choose
from grader.sandbox.outputs import CellOutputs, error_of, plain, symptom


@pytest.mark.parametrize("name", [f.name for f in fields(Limits)])
def test_a_limit_must_be_positive(name):
    with pytest.raises(ValueError, match=name):
        replace(Limits(), **{name: 0})


def test_the_wall_clock_is_a_net_above_the_cpu_clock():
    with pytest.raises(ValueError, match="wall_seconds"):
        Limits(cpu_seconds=10, wall_seconds=5)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a//b", "", "a/./b", "a\\..\\b", "a\0b"])
def test_no_file_leaves_the_work_folder(name):
    with pytest.raises(ValueError, match="work folder"):
        BoxSpec(files={name: b""})


def test_every_outcome_has_its_own_sentence():
    assert len({outcome.sentence for outcome in Outcome}) == len(Outcome)


def test_nothing_is_inherited_into_the_environment_of_a_box(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "secret")
    values = environment()
    assert "SECRET_TOKEN" not in values
    assert values["HF_HOME"] == "/box/.hf"
    moved = environment("/somewhere/else", isolated=False)
    assert moved["HF_HOME"] == "/somewhere/else/.hf"
    assert not [name for name, value in moved.items() if value.startswith("/box")]


def run_filter(code: bytes, arch: int, number: int, *arguments: int) -> int:
    """Interpret a classic BPF program on one system call."""
    data = struct.pack("<iIQ6Q", number, arch, 0, *(list(arguments) + [0] * 6)[:6])
    instructions = list(struct.iter_unpack("HBBI", code))
    at, accumulator = 0, 0
    while True:
        kind, yes, no, value = instructions[at]
        if kind == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
            at += 1
        elif kind == 0x06:
            return value
        else:
            holds = {0x15: accumulator == value, 0x45: bool(accumulator & value), 0x35: accumulator >= value}[kind]
            at += 1 + (yes if holds else no)


CALLS = ("read", "clone", "clone3", "socket", "socketpair", "kill", "tkill", "tgkill")
MACHINES = {
    "x86_64": (0xC000003E, dict(zip(CALLS, (0, 56, 435, 41, 53, 62, 200, 234), strict=True))),
    "aarch64": (0xC00000B7, dict(zip(CALLS, (63, 220, 435, 198, 199, 129, 130, 131), strict=True))),
}
ALLOW, KILL, EPERM, ENOSYS, EAFNOSUPPORT = 0x7FFF0000, 0x80000000, 0x50001, 0x50026, 0x50061
NOTHING_DONE = 0x50000


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_decides_as_it_says(machine):
    code = program(42, machine)
    arch, calls = MACHINES[machine]
    assert run_filter(code, arch, calls["read"]) == ALLOW
    assert run_filter(code, 0x40000003, calls["read"]) == KILL
    for name, numbers in DENIED.items():
        number = numbers[0 if machine == "x86_64" else 1]
        if number is not None:
            assert run_filter(code, arch, number) == EPERM, name
    assert run_filter(code, arch, calls["clone3"]) == ENOSYS
    assert run_filter(code, arch, calls["clone"], 17) == ALLOW
    assert run_filter(code, arch, calls["clone"], 0x10000000 | 17) == EPERM
    for call in ("socket", "socketpair"):
        verdicts = {family: run_filter(code, arch, calls[call], family, 1, 0) for family in (1, 2, 10, 16, 17, 38, 40)}
        assert verdicts == {
            1: ALLOW,
            2: ALLOW,
            10: ALLOW,
            16: ALLOW,
            17: EAFNOSUPPORT,
            38: EAFNOSUPPORT,
            40: EAFNOSUPPORT,
        }
        assert run_filter(code, arch, calls[call], 16, 3, 9) == EAFNOSUPPORT
    if machine == "x86_64":
        assert run_filter(code, arch, 0x40000000 | 59) == EPERM
    assert run_filter(code, arch, 424) == ENOSYS  # pidfd_send_signal
    for call, second in (("kill", ()), ("tkill", ()), ("tgkill", (7,))):
        for target in (42, 2**32 - 42, 0, 2**32 - 1):
            assert [run_filter(code, arch, calls[call], target, *second, signal) for signal in (9, 15, 2, 11)] == [
                NOTHING_DONE, NOTHING_DONE, ALLOW, ALLOW,
            ]  # fmt: skip
        assert run_filter(code, arch, calls[call], 43, *second, 9) == ALLOW


def test_a_machine_without_a_table_has_no_filter():
    assert program(42, "riscv64") == b""


def test_control_group_version_2_writes_its_files(tmp_path):
    # the file names only: a real tree is used by the box tests where the host has one
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    (tmp_path / "user").mkdir()
    group = ControlGroup.create(Limits(memory_bytes=100, disk_bytes=50, processes=7), "g", tmp_path, "0::/user\n")
    assert group is not None
    assert group.unified
    folder = tmp_path / "user" / "g"
    assert {group.memory, group.pids, group.cpu} == {folder}
    assert (folder / "memory.max").read_text() == "150"
    assert (folder / "pids.max").read_text() == "8"
    assert (folder.parent / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    (folder / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    (folder / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert group.cpu_seconds() == 2.5
    assert group.kills() == (2, 0)
    (folder / "memory.events").write_text("low 0\noom 0\noom_kill 2\n")  # a group above had no memory left
    assert group.kills() == (0, 2)
    assert group.refused_forks() == 0


def test_where_no_group_can_be_made_nothing_is_left(tmp_path):
    assert ControlGroup.create(Limits(), "g", tmp_path, "4:memory:/\n3:pids:/\n2:cpuacct:/\n") is None
    assert list(tmp_path.iterdir()) == []


def files(folder, **texts):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name.replace("_", ".", 1)).write_text(text)


def test_a_container_or_job_has_what_its_groups_leave_it(tmp_path):
    files(tmp_path, cgroup_controllers="cpu memory", memory_stat="anon 1\n")
    files(tmp_path / "job", cpu_max="150000 100000\n", memory_max="max\n", memory_stat="anon 5\n")
    inner = {"memory_max": "1000\n", "memory_stat": "anon 250\nfile 600\nshmem 50\n"}
    files(tmp_path / "job" / "step", cpu_max="max 100000\n", **inner)
    assert allowance(tmp_path, "0::/job/step\n") == (1.5, 700)
    assert allowance(tmp_path, "0::/job\n") == (1.5, math.inf)
    assert allowance(tmp_path, "0::/\n") == (math.inf, math.inf)
    files(tmp_path / "job" / "step", cpu_max="no number", memory_max="no number")
    assert allowance(tmp_path, "0::/job/step\n") == (1.5, math.inf)


def test_groups_of_version_1_limit_cores_and_memory(tmp_path):
    files(
        tmp_path / "memory" / "job",
        memory_limit_in_bytes="1000\n",
        memory_stat="rss 1\ntotal_rss 900\ntotal_shmem 200\n",
    )
    files(tmp_path / "cpu" / "job", cpu_cfs_quota_us="50000\n", cpu_cfs_period_us="100000\n")
    lines = "4:memory:/job\n3:cpu,cpuacct:/job\n"
    assert allowance(tmp_path, lines) == (0.5, 0)
    files(tmp_path / "cpu" / "job", cpu_cfs_quota_us="-1\n")
    assert allowance(tmp_path, lines) == (math.inf, 0)
    assert allowance(tmp_path / "none", lines) == (math.inf, math.inf)
    assert allowance(tmp_path, "nonsense") == (math.inf, math.inf)


def test_part_of_a_core_is_one_worker(monkeypatch):
    for place in ("grader.sandbox.cgroup", "grader.cli.common"):
        monkeypatch.setattr(f"{place}.allowance", lambda: (0.5, 10**9))
    assert machine() == (1, 10**9)
    for place in ("grader.sandbox.cgroup", "grader.cli.common"):
        monkeypatch.setattr(f"{place}.allowance", lambda: (math.inf, math.inf))
    cores, memory = machine()
    assert cores >= 1
    assert 0 < memory < 2**60


def test_an_unknown_mode_is_the_callers_mistake():
    with pytest.raises(UsageError, match="auto, warm, cold, none"):
        choose("docker")


def test_the_mode_without_isolation_is_never_chosen_by_itself(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(SandboxError, match="apt install bubblewrap"):
        choose("auto")
    assert choose("none") == "none"


@pytest.fixture
def open_folder():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def test_a_closed_folder_is_opened_only_as_far_as_needed(open_folder):
    closed = open_folder / "closed"
    wanted = closed / "lib" / "python"
    wanted.mkdir(parents=True)
    closed.chmod(0o700)
    script = _mount_script([wanted, Path("/usr")], (65534, 65534))
    assert f"hidden {closed}" in script
    assert f"mkdir -p {wanted}" in script
    assert "/usr" not in script


def test_a_closed_folder_that_is_itself_needed_is_refused(open_folder):
    closed = open_folder / "venv"
    closed.mkdir(mode=0o700)
    with pytest.raises(SandboxError, match="chmod"):
        _mount_script([closed], (65534, 65534))


def test_text_is_made_plain_and_short():
    assert plain("\x1b[31mred\x1b[0m\x07", 100) == "red"
    cut = plain("a" * 1000 + "end", 100)
    assert len(cut) < 200
    assert cut.endswith("end")
    assert "left out" in cut


@pytest.mark.parametrize(
    ("content", "name", "traceback"),
    [
        ({"status": "error"}, "Exception", ""),
        ({"status": "error", "ename": 3, "evalue": [], "traceback": {}}, "Exception", ""),
        ({"status": "error", "ename": "E", "traceback": ["a", 5]}, "E", "a"),
    ],
)
def test_forged_error_is_read_as_text(content, name, traceback):
    error = error_of({"content": content})
    assert (error.name, error.traceback) == (name, traceback)
    assert error_of({"content": None}) is None


@pytest.mark.parametrize("part", ["ename", "evalue", "traceback"])
def test_an_error_of_lists_in_lists_is_told_as_any(part):
    """As deep as JSON can be read, but too deep for a text of it: that was a fault of ours, for a person to look at."""
    deep: list[object] = []
    for _level in range(5_000):
        deep = [deep]
    error = error_of({"content": {"status": "error", part: deep}})
    assert (error.name, error.message, error.traceback) == ("Exception", "", "")


@pytest.mark.parametrize(
    "content", [{}, {"data": 3}, {"data": {"text/plain": ["b"]}}, {"text": 5}, {"data": {}, "transient": 1}]
)
@pytest.mark.parametrize("kind", ["stream", "display_data", "update_display_data", "comm_open"])
def test_outputs_of_any_shape_are_taken_or_dropped(kind, content):
    outputs = CellOutputs()
    outputs.take("stream", {"text": "a\n"})
    with contextlib.suppress(TypeError, KeyError, AttributeError):
        outputs.take(kind, content)
    assert outputs.text == "a\n"


def test_outputs_without_a_text_are_named():
    outputs = CellOutputs()
    outputs.take("display_data", {"data": {"image/png": "..."}, "transient": None})
    assert outputs.text == "(a figure or widget)\n"


def test_errors_that_speak_of_a_limit():
    assert symptom(CellError("RuntimeError", "can't start new thread", "")) is Outcome.PROCESS_LIMIT
    assert symptom(CellError("OSError", "[Errno 28] No space left on device", "")) is Outcome.DISK_LIMIT
    assert symptom(CellError("MemoryError", "", "")) is Outcome.OUT_OF_MEMORY
    assert symptom(CellError("ValueError", "x", "")) is None
