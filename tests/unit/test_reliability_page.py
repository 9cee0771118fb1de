"""docs/reliability.md tells what the fault suite found, of every fault it has."""

from pathlib import Path

from tests.faults import report
from tests.faults.catalogue import BY_ITSELF, CASES
from tests.faults.page import PAGE, ROWS, with_rows

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_tells_the_rows_as_they_were_found() -> None:
    page = (ROOT / PAGE).read_text()
    assert with_rows(page, report.read(ROOT / ROWS)) == page


def test_every_fault_has_its_row_from_a_whole_run() -> None:
    rows = report.read(ROOT / ROWS).rows
    assert list(rows) == [case.name for case in (*CASES, BY_ITSELF)]
    for case in CASES:
        assert not rows[case.name].short
        assert rows[case.name].at_least == case.at_least
        assert rows[case.name].promise == case.promise
