"""The shipped calendar: what it covers, the days that are easily wrong, and a source everywhere."""

import json
import re
from datetime import timedelta
from importlib import resources
from typing import Any

import pytest

from pulse.domain.sessions import OutsideCoverage
from pulse.market_calendar import load
from tests.support.calendars import in_mumbai, utc

CALENDAR = load(None)
FILE: Any = json.loads((resources.files("pulse.market_calendar") / "nse-bse.json").read_bytes())
SOURCE = re.compile(
    r"(date: )?"
    r"(NSE circular NSE/CMTR/\d+|BSE notice \d{8}-\d+|SEBI circular HO/\S+) of \d{4}-\d\d-\d\d, "
    r"as quoted by third parties(; times: package \S+, version [\d.]+, which marks them as "
    r"provisional|: the holidays of 2026\. No list for 2027 was known on 2026-11-29)?"
    r"|package \S+, version [\d.]+ \((NSE|XBOM)\)"
)
DAYS = [
    ("2026-01-01", ["09:15-15:30"]),
    ("2026-01-15", []),  # election
    ("2026-01-26", []),
    ("2026-02-01", ["09:15-15:30"]),  # a Sunday: Union Budget
    ("2026-07-31", ["09:15-15:30"]),
    ("2026-08-03", ["09:15-15:15"]),  # the closing auction begins
    ("2026-08-15", []),
    ("2026-11-08", ["18:15-19:15"]),  # a Sunday: Muhurat trading
    ("2026-11-09", ["09:15-15:15"]),
    ("2026-11-10", []),
    ("2026-12-04", ["09:15-15:15"]),
    ("2026-12-07", ["09:15-15:30"]),  # the closing auction moves behind the old close
    ("2026-12-25", []),
    ("2026-12-31", ["09:15-15:30"]),
]


@pytest.mark.parametrize("exchange", ["NSE", "BSE"])
@pytest.mark.parametrize(("on", "expected"), DAYS)
def test_a_day_has_its_sessions(exchange: str, on: str, expected: list[str]) -> None:
    assert in_mumbai(CALENDAR, on, f"{exchange}:RELIANCE") == expected


@pytest.mark.parametrize("exchange", ["NSE", "BSE"])
def test_the_shipped_calendar_covers_2026_and_no_other_year(exchange: str) -> None:
    begins, ends = utc("2025-12-31T18:30:00"), utc("2026-12-31T18:30:00")
    sessions = CALENDAR.sessions(f"{exchange}:RELIANCE", begins, ends)
    assert len(sessions) == 261 - 16 + 2
    for starts_at, until in (
        (begins - timedelta(seconds=1), ends),
        (begins, ends + timedelta(seconds=1)),
    ):
        with pytest.raises(OutsideCoverage):
            CALENDAR.sessions(f"{exchange}:RELIANCE", starts_at, until)


def test_every_entry_has_a_source_of_a_known_form() -> None:
    sources = list(sources_in(FILE))
    for exchange in FILE["exchanges"].values():
        hours = sum(len(segment["hours"]) for segment in exchange["segments"])
        entries = hours + len(exchange["holidays"]) + len(exchange["special_sessions"])
        assert entries == 4 + 20 + 2
    assert len(sources) == 2 * (1 + 4 + 20 + 2)
    assert [source for source in sources if not SOURCE.fullmatch(source)] == []


def sources_in(value: Any) -> list[str]:
    if isinstance(value, list):
        return [source for entry in value for source in sources_in(entry)]
    if isinstance(value, dict):
        own = [value["source"]] if "source" in value else []
        return own + [source for entry in value.values() for source in sources_in(entry)]
    return []


def test_both_exchanges_have_the_same_days() -> None:
    nse, bse = (
        [(holiday["date"]) for holiday in FILE["exchanges"][name]["holidays"]]
        for name in ("NSE", "BSE")
    )
    assert nse == bse == sorted(nse)
