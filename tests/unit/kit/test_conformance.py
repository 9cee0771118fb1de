"""The conformance files are what the code writes, and have what other implementations need."""

import json

import pytest

from pulse.domain import (
    SCHEDULE_RULES,
    SPLITTERS,
)
from tests.conformance.files import DIRECTORY, contents_of, file_of
from tests.conformance.vectors import vectors

PAGE = DIRECTORY / "README.md"
FILES = {version: contents_of(version) for version in SPLITTERS}
FILE = FILES[1]
EVERY_VERSION = pytest.mark.parametrize("splitter_version", SPLITTERS)


@EVERY_VERSION
def test_writing_the_file_again_changes_nothing(splitter_version: int) -> None:
    lines = "".join(f"{line}\n" for line in vectors(splitter_version))
    assert lines == file_of(splitter_version).read_text(encoding="utf-8")


@EVERY_VERSION
def test_there_are_at_least_five_hundred_different_schedules(
    splitter_version: int,
) -> None:
    schedules = FILES[splitter_version]["schedules"]
    assert len(schedules) >= 500
    assert len({json.dumps(case) for case in schedules}) == len(schedules)
    assert all(("sessions" in case) == (splitter_version == 2) for case in schedules)


def test_every_rule_is_broken_alone_or_with_as_few_others_as_possible() -> None:
    """A time outside the window and a time not increasing always break another rule too."""
    cases = [case for file in FILES.values() for case in file["broken_schedules"]]
    alone = {tuple(case["broken_rules"]) for case in cases}
    for rule in SCHEDULE_RULES:
        most = 2 if rule.__name__ == "times_increase_in_window" else 1
        assert any(rule.__name__ in broken and len(broken) <= most for broken in alone), rule
    assert () in alone


def test_every_code_of_a_refusal_occurs_and_so_do_accepted_orders() -> None:
    assert {case["code"] for case in FILE["invalid_orders"]} == {
        "INVALID_REQUEST",
        "INVALID_INSTRUMENT",
        "INVALID_QUANTITY",
        "INVALID_SPLIT_CONFIG",
    }
    assert len(FILE["accepted_orders"]) >= 15


def test_the_page_lists_every_rule_in_order() -> None:
    page = PAGE.read_text(encoding="utf-8")
    places = [page.index(f"| `{rule.__name__}` |") for rule in SCHEDULE_RULES]
    assert places == sorted(places)
