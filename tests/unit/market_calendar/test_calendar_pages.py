"""The documentation of the market calendar against the code: its example, its coverage."""

import re

from pulse.market_calendar import load
from pulse.market_calendar.reading import parse
from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "reference" / "market-calendar.md").read_text(encoding="utf-8")


def test_the_example_is_a_valid_file() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert parse(example.encode(), "the example").coverage("NSE")[0].year == 2027


def test_the_page_states_the_coverage_of_the_shipped_file() -> None:
    starts_on, before = load(None).coverage("NSE")
    assert (str(starts_on), str(before)) == ("2026-01-01", "2027-01-01")
    assert "2026-01-01 to 2026-12-31" in " ".join(PAGE.split())
