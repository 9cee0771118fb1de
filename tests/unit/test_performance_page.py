"""docs/performance.md tells what the benchmarks found, of every part they have."""

from pathlib import Path

from benchmarks.catalogue import BY_ITSELF, PARTS
from benchmarks.page import FOUND, PAGE, with_results
from benchmarks.report import read

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_tells_the_results_as_they_were_found() -> None:
    page = (ROOT / PAGE).read_text()
    assert with_results(page, read(ROOT / FOUND)) == page


def test_every_part_has_its_results_there() -> None:
    assert PARTS.keys() - BY_ITSELF <= read(ROOT / FOUND).parts.keys() <= PARTS.keys()


def test_every_ratio_is_of_one_round() -> None:
    """Of as many rounds as were asked for, at least five."""
    for part in read(ROOT / FOUND).parts.values():
        for comparison in part.comparisons:
            for beside in comparison.beside:
                assert len(beside.ratios) == len(comparison.subject.figures) == part.rounds >= 5
