"""What a kernel hands out for a clean box: taken without following what lies in the way, and read by the next kernel only."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from grader.inside.rebuild import _probed, probe_inputs
from grader.inside.tensors import HANDED, read_tensors
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
        handed = first.kernel.handed_out()
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


@pytest.mark.attack
def test_a_file_with_holes_is_not_read(tmp_path):
    """Reading fills a hole, and where the file system is full that ends the clean kernel."""
    pytest.importorskip("torch")  # which it finds where it is imported
    with (tmp_path / "tensors").open("wb") as file:
        file.truncate(4 << 20)
    with pytest.raises(ValueError, match="holes"):
        read_tensors(str(tmp_path / "tensors"), [[1 << 20]])
    (tmp_path / "tensors").write_bytes(bytes(4 << 10))
    assert [tensor.shape for tensor in read_tensors(str(tmp_path / "tensors"), [[1 << 10]]).values()] == [(1 << 10,)]


@pytest.mark.attack
def test_a_layer_of_hundreds_of_tensors_is_explained_in_time():
    """Trying all of them took the cube of their number: hours, in a clean kernel."""
    torch, width = pytest.importorskip("torch"), 24
    weight, bias = torch.randn(width, width), torch.randn(width)
    A, B = torch.randn(width, width), torch.randn(width, width)
    own = {"weight": weight, "bias": bias, "A": A, "B": B}
    own |= {f"more{number}": torch.randn(width) for number in range(400)}
    own |= {f"huge{number}": torch.zeros(1).expand(1 << 40) for number in range(10)}
    x = probe_inputs(5, width)
    seen = (x @ weight.double().T + bias.double() + 0.5 * (x @ A.double().T @ B.double().T)).numpy()
    layer = _probed(own, seen, 5, (width, width), [weight, bias], 1e-4)
    assert layer is not None
    assert (layer.base, layer.base_bias, layer.factors[::2]) == ("weight", "bias", ("A", "B"))
    assert layer.gap < 1e-4
