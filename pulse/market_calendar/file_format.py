"""The format of a market calendar file. Times are local to the exchange, to the second."""

from datetime import date
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

FORMAT: Final = 1
MAX_COVERAGE_DAYS: Final = 3_660
MAX_SESSIONS_A_DAY: Final = 5
EARLIEST_DATE: Final = date(2000, 1, 1)
LATEST_DATE: Final = date(2100, 1, 1)
_MAX_SEGMENTS: Final = 5
_MAX_ENTRIES: Final = 10_000

Weekday = Literal["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"]
WEEKDAYS: Final[tuple[Weekday, ...]] = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")

_Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
_Source = Annotated[str, Meta(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
_SegmentName = Annotated[str, Meta(max_length=50, pattern=r"^[A-Z][A-Z0-9_]*\Z")]
_Symbol = Annotated[str, Meta(max_length=46, pattern=r"^[A-Z0-9&-]+\Z")]
_Time = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?\Z")]

EXPECTED: Final = {
    "format": f"the number {FORMAT}",
    "exchanges": "an object with NSE and BSE",
    "NSE": "an object with the calendar of this exchange",
    "BSE": "an object with the calendar of this exchange",
    "time_zone": "the name of a time zone, such as Asia/Kolkata",
    "coverage": "an object with from, before and source",
    "from": "a date, such as 2026-01-01",
    "before": "a date, such as 2027-01-01",
    "date": "a date, such as 2026-01-26",
    "name": "1 to 100 characters; of a segment: A-Z, 0-9 and _, at most 50",
    "source": "1 to 500 characters that say where the entry comes from",
    "segments": f"an array of at most {_MAX_SEGMENTS}",
    "hours": "an array of objects with from, weekdays, sessions and source",
    "weekdays": f"an array of {', '.join(WEEKDAYS)}",
    "sessions": f"an array of at most {MAX_SESSIONS_A_DAY} objects with opens and closes",
    "opens": "a time, such as 09:15 or 09:15:00",
    "closes": "a time, such as 15:30 or 15:30:00",
    "holidays": "an array of objects with date, name and source",
    "special_sessions": "an array of objects with date, name, sessions and source",
    "instruments": "an array of objects with segment, symbols and source",
    "segment": "the name of a segment",
    "symbols": "an array of symbols of A-Z, 0-9, & and -, such as RELIANCE",
}
"""What each field expects, for error messages."""


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An object of the file. An unknown field is an error."""


class Times(_Entry, frozen=True, kw_only=True):
    """One session of a day, half-open: it ends before `closes`."""

    opens: _Time
    closes: _Time


_Sessions = Annotated[tuple[Times, ...], Meta(max_length=MAX_SESSIONS_A_DAY)]


class Hours(_Entry, frozen=True, kw_only=True):
    """The sessions of each of these weekdays, from a date until the next entry of the segment."""

    starts_on: date = msgspec.field(name="from")
    weekdays: tuple[Weekday, ...]
    sessions: _Sessions
    source: _Source


class Segment(_Entry, frozen=True, kw_only=True):
    """Instruments with the same hours."""

    name: _SegmentName
    hours: Annotated[tuple[Hours, ...], Meta(max_length=_MAX_ENTRIES)]


class Holiday(_Entry, frozen=True, kw_only=True):
    """A day without the regular sessions."""

    date: date
    name: _Name
    source: _Source


class SpecialSessions(_Entry, frozen=True, kw_only=True):
    """The sessions of one day, instead of the regular ones; also on a holiday or a weekend.

    Without `segments` they are those of every segment.
    """

    date: date
    name: _Name
    sessions: _Sessions
    segments: tuple[_SegmentName, ...] = ()
    source: _Source


class Mapping(_Entry, frozen=True, kw_only=True):
    """The segment of some instruments of the exchange."""

    segment: _SegmentName
    symbols: Annotated[tuple[_Symbol, ...], Meta(max_length=_MAX_ENTRIES)]
    source: _Source


class Coverage(_Entry, frozen=True, kw_only=True):
    """The dates for which the file is complete, [from, before)."""

    starts_on: date = msgspec.field(name="from")
    before: date
    source: _Source


class Exchange(_Entry, frozen=True, kw_only=True):
    """The calendar of one exchange."""

    time_zone: _Name
    coverage: Coverage
    segments: Annotated[tuple[Segment, ...], Meta(max_length=_MAX_SEGMENTS)]
    holidays: Annotated[tuple[Holiday, ...], Meta(max_length=_MAX_ENTRIES)]
    special_sessions: Annotated[tuple[SpecialSessions, ...], Meta(max_length=_MAX_ENTRIES)]
    instruments: Annotated[tuple[Mapping, ...], Meta(max_length=_MAX_ENTRIES)] = ()


class Exchanges(_Entry, frozen=True, kw_only=True):
    """The exchanges that orders may name."""

    nse: Exchange = msgspec.field(name="NSE")
    bse: Exchange = msgspec.field(name="BSE")


class CalendarFile(_Entry, frozen=True, kw_only=True):
    """The whole file."""

    format: Literal[1]
    exchanges: Exchanges
