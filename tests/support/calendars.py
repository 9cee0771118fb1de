"""Market calendar files for tests: small, valid, and easy to change."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from pulse.market_calendar import MarketCalendar
from pulse.market_calendar.reading import parse

WORKDAYS: Final = ["MON", "TUE", "WED", "THU", "FRI"]
SOURCE: Final = "a test"
NAME: Final = "the market calendar test.json"


def times(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    """Sessions of one day."""
    return [{"opens": opens, "closes": closes} for opens, closes in pairs]


def hours(starts_on: str = "2026-01-01", *pairs: tuple[str, str]) -> dict[str, Any]:
    """The hours of every workday from a date on; by default 09:15 to 15:30."""
    sessions = times(*(pairs or [("09:15", "15:30")]))
    return {"from": starts_on, "weekdays": WORKDAYS, "sessions": sessions, "source": SOURCE}


def segment(name: str = "EQUITY", *entries: dict[str, Any]) -> dict[str, Any]:
    """A segment, by default with the default hours."""
    return {"name": name, "hours": list(entries or [hours()])}


def holiday(on: str, name: str = "A holiday") -> dict[str, Any]:
    """A holiday."""
    return {"date": on, "name": name, "source": SOURCE}


def special(on: str, *pairs: tuple[str, str], segments: tuple[str, ...] = ()) -> dict[str, Any]:
    """Special sessions of `segments`, by default of all."""
    entry = {"date": on, "name": "Special", "sessions": times(*pairs), "source": SOURCE}
    return entry | ({"segments": list(segments)} if segments else {})


def mapping(segment_name: str, *symbols: str) -> dict[str, Any]:
    """The segment of some instruments."""
    return {"segment": segment_name, "symbols": list(symbols), "source": SOURCE}


def exchange(**changes: Any) -> dict[str, Any]:
    """An exchange that is open on every workday of 2026, with these fields instead."""
    return {
        "time_zone": "Asia/Kolkata",
        "coverage": {"from": "2026-01-01", "before": "2027-01-01", "source": SOURCE},
        "segments": [segment()],
        "holidays": [],
        "special_sessions": [],
    } | changes


def calendar_file(nse: Any = None, bse: Any = None) -> dict[str, Any]:
    """A whole file."""
    exchanges = {"NSE": exchange() if nse is None else nse, "BSE": bse or exchange()}
    return {"format": 1, "exchanges": exchanges}


def text_of(file: Any) -> str:
    """The file's text, one value a line."""
    return json.dumps(file, indent=2)


def calendar_of(**nse: Any) -> MarketCalendar:
    """A calendar whose NSE has these fields instead of the default ones."""
    return parse(text_of(calendar_file(exchange(**nse))).encode(), NAME)


def utc(text: str) -> datetime:
    """A time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def in_mumbai(calendar: MarketCalendar, on: str, instrument: str = "NSE:TCS") -> list[str]:
    """The sessions that overlap this date of UTC+05:30, as texts such as `09:15-15:30`."""
    begins = datetime.combine(date.fromisoformat(on), datetime.min.time(), UTC)
    begins -= timedelta(hours=5, minutes=30)
    found = calendar.sessions(instrument, begins, begins + timedelta(days=1))
    shift = timedelta(hours=5, minutes=30)
    return [f"{s.opens_at + shift:%H:%M}-{s.closes_at + shift:%H:%M}" for s in found]
