"""The faults of `tests/faults.py` still fit the code: `python -m tests.faults` puts each in, which takes its time."""

import pytest

from tests.faults import FAULTS, ROOT, Fault


def test_names_are_unique() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_stands_once_in_its_file(fault: Fault) -> None:
    assert (ROOT / fault.file).read_text(encoding="utf-8").count(fault.old) == 1
    assert all((ROOT / test.partition("::")[0]).exists() for test in fault.tests)
    row = f"| {fault.name} | {fault.feature} | `{fault.file}` |"
    assert row in (ROOT / "docs/testing.md").read_text(encoding="utf-8"), "the table shows which tier catches it"
