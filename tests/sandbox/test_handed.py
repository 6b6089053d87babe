"""What a kernel hands out for a clean box: taken without following what lies in the way, and read by the next kernel only."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from grader.inside.tensors import HANDED
from grader.sandbox.contract import BoxSpec
from grader.sandbox.handed import HandedOut
from grader.sandbox.pool import KernelPool
from grader.sandbox.session import KernelSession

from .conftest import SMALL, box_missing


def link(place: Path) -> None:
    place.symlink_to("/etc/hostname")


@pytest.mark.attack
@pytest.mark.parametrize(
    "put", [link, os.mkfifo, Path.mkdir, lambda place: place.symlink_to("nowhere"), lambda place: None],
    ids=["link", "pipe", "folder", "dangling", "nothing"],
)  # fmt: skip
def test_what_is_no_file_is_not_taken(tmp_path, put):
    (tmp_path / "box").mkdir()
    put(tmp_path / "box" / HANDED)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with HandedOut.take(tmp_path, "box", tmp_path / "keep") as handed:
        assert handed.descriptor < 0
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.attack
def test_a_folder_that_is_a_link_is_not_entered(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / HANDED).write_text("x")
    (tmp_path / "box").symlink_to(tmp_path / "real")
    assert HandedOut.take(tmp_path, "box", tmp_path / "keep").descriptor < 0


WRITE = f"with open({HANDED!r}, 'w') as file: file.write('from another box')"
READ = "import os\nfound = get_ipython().kernel.parent.descriptors['handed']\nprint(os.pread(found, 99, 0).decode())"
CHANGE = "os.write(found, b'x')"


async def passed_on(pool: KernelPool) -> list[str]:
    async with KernelSession(pool, BoxSpec(), SMALL) as first:
        await first.run_cell(WRITE, 0)
        handed = first.handed_out()
    with handed:
        async with KernelSession(pool, BoxSpec(), SMALL, handed) as second:
            ran = [await second.run_cell(source, 0) for source in (READ, CHANGE)]
        return [ran[0].output.strip(), ran[1].error.name]


@pytest.mark.box
@pytest.mark.parametrize("mode", ["warm", pytest.param("cold", marks=pytest.mark.slow), "none"])
def test_a_file_outlives_its_box_and_is_read_only(mode, warm_pool):
    if mode != "none" and (why := box_missing()):
        pytest.skip(why)
    if mode == "warm":
        assert asyncio.run(passed_on(warm_pool)) == ["from another box", "OSError"]
        return
    with KernelPool(mode, preload=()) as pool:
        assert asyncio.run(passed_on(pool)) == ["from another box", "OSError"]
