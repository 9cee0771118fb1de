"""docs/explanation/reliability.md tells what the fault suite found, of every fault it has."""

from pathlib import Path

from tests.faults import report
from tests.faults.catalogue import CASES
from tests.faults.page import PAGE, ROWS, with_rows

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_tells_the_rows_as_they_were_found() -> None:
    page = (ROOT / PAGE).read_text()
    assert with_rows(page, report.read(ROOT / ROWS)) == page


def test_every_fault_has_its_row_and_its_promise_there() -> None:
    rows = report.read(ROOT / ROWS).rows
    assert {case.name for case in CASES} <= set(rows) <= {*(case.name for case in CASES), "soak"}
    for case in CASES:
        assert rows[case.name].promise == case.promise
