"""The shipped calendar against two packages: where they differ, and why Pulse's is right.

Of `aion-indian-market-calendar` only the data file is read: its code looks up a host when it loads.
"""

import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

import pytest
from holidays import financial_holidays

from pulse.market_calendar import load

CALENDAR = load(None)
YEAR: Final = 2026
ELECTION: Final = date(2026, 1, 15)
BUDGET: Final = date(2026, 2, 1)
MUHURAT: Final = date(2026, 11, 8)

MISSING_IN_HOLIDAYS: Final = {
    ELECTION: "declared on 2026-01-12 (NSE/CMTR/72260, BSE 20260112-8), after the list of the year",
}
OPEN_SUNDAYS: Final = {
    BUDGET: "a live session (NSE/CMTR/72349, BSE 20260116-33); neither package has it",
    MUHURAT: "Muhurat trading (NSE/CMTR/71775, BSE 20251212-8); `holidays` has no sessions",
}


def every_day() -> Iterator[date]:
    on = date(YEAR, 1, 1)
    while on.year == YEAR:
        yield on
        on += timedelta(days=1)


def open_days(exchange: str) -> set[date]:
    return {on for on in every_day() if CALENDAR.day(exchange, on).is_open}


def workdays_without(closed: set[date]) -> set[date]:
    return {on for on in every_day() if on.weekday() < 5 and on not in closed}


def aion() -> Any:
    found = distribution("aion-indian-market-calendar")
    path = found.locate_file("aion_indian_market_calendar/data/holidays_2026.json")
    return json.loads(Path(str(path)).read_bytes())


def aion_events(exchange: str, category: str) -> Iterator[tuple[date, Any]]:
    for event in aion()["events"]:
        if event["category"] == category and f"{exchange}_EQUITY" in event["applies_to"]:
            yield datetime.fromisoformat(event["start"]).date(), event


def hours(opens: Any, closes: Any) -> str:
    return f"{opens[:5]}-{closes[:5]}"


def sessions_of(exchange: str, segment: str, on: date) -> list[str]:
    (found,) = (one for one in CALENDAR.day(exchange, on).segments if one.segment == segment)
    shift = timedelta(hours=5, minutes=30)
    return [f"{one.opens_at + shift:%H:%M}-{one.closes_at + shift:%H:%M}" for one in found.sessions]


@pytest.mark.parametrize("exchange", ["NSE", "BSE"])
def test_the_open_days_differ_from_those_of_holidays_only_as_listed(exchange: str) -> None:
    theirs = workdays_without(set(financial_holidays(exchange, years=YEAR)))
    ours = open_days(exchange)
    assert theirs - ours == set(MISSING_IN_HOLIDAYS)
    assert ours - theirs == set(OPEN_SUNDAYS)


@pytest.mark.parametrize("exchange", ["NSE", "BSE"])
def test_the_open_days_differ_from_those_of_aion_only_as_listed(exchange: str) -> None:
    closed = {on for on, _ in aion_events(exchange, "EXCHANGE_HOLIDAY")}
    special = {on for on, _ in aion_events(exchange, "SPECIAL_TRADING_SESSION")}
    theirs = workdays_without(closed) | special
    ours = open_days(exchange)
    assert theirs - ours == set()
    assert ours - theirs == {BUDGET}


@pytest.mark.parametrize("exchange", ["NSE", "BSE"])
def test_special_sessions_have_the_times_of_aion(exchange: str) -> None:
    special = dict(aion_events(exchange, "SPECIAL_TRADING_SESSION"))
    assert list(special) == [MUHURAT]
    for on, event in special.items():
        theirs = [hours(one["open"], one["close"]) for one in event["session_override"]]
        assert sessions_of(exchange, "EQUITY", on) == theirs


@pytest.mark.parametrize("exchange", ["NSE", "BSE"])
def test_continuous_trading_ends_when_it_does_in_aion(exchange: str) -> None:
    """Aion counts the pre-open session of the NSE, from 09:00, as trading; Pulse does not."""
    rules = aion()["session_rules"][f"{exchange}_EQUITY_FNO_UNDERLYING"]
    assert [rule["effective_from"] for rule in rules] == ["2026-08-03", "2026-12-07"]
    for rule in rules:
        on = date.fromisoformat(rule["effective_from"])
        (theirs,) = (one for one in rule["segments"] if one["kind"] == "continuous")
        assert theirs["open"] == {"NSE": "09:00:00", "BSE": "09:15:00"}[exchange]
        (ours,) = sessions_of(exchange, "EQUITY_WITH_DERIVATIVES", on)
        assert ours == hours("09:15", theirs["close"])
