"""Which sessions an instrument gets: segment, holidays, special sessions, coverage, boundaries."""

from datetime import date, datetime, timedelta

import pytest

from pulse.domain.sessions import OutsideCoverage, SessionCalendar
from pulse.errors import PulseError
from tests.support.calendars import (
    calendar_of,
    exchange,
    holiday,
    hours,
    in_mumbai,
    mapping,
    segment,
    special,
    utc,
)

OPENS = utc("2026-03-02T03:45:00")
CLOSES = utc("2026-03-02T10:00:00")
MICROSECOND = timedelta(microseconds=1)
TWO_SEGMENTS = [
    segment("EQUITY"),
    segment("DERIVATIVES", hours("2026-01-01"), hours("2026-08-03", ("09:20", "15:15"))),
]
MAPPED = [mapping("EQUITY", "TCS"), mapping("DERIVATIVES", "RELIANCE", "M&M")]


@pytest.mark.parametrize(
    ("starts_at", "until", "count"),
    [
        (OPENS, CLOSES, 1),
        (OPENS, OPENS + MICROSECOND, 1),
        (OPENS - MICROSECOND, OPENS, 0),
        (OPENS - MICROSECOND, OPENS + MICROSECOND, 1),
        (CLOSES - MICROSECOND, CLOSES, 1),
        (CLOSES, CLOSES + MICROSECOND, 0),
        (OPENS, OPENS, 0),
        (CLOSES, OPENS, 0),
    ],
)
def test_ranges_and_sessions_are_half_open(
    starts_at: datetime, until: datetime, count: int
) -> None:
    found = calendar_of().sessions("NSE:TCS", starts_at, until)
    assert len(found) == count


def test_a_market_calendar_is_a_calendar_of_the_domain() -> None:
    calendar: SessionCalendar = calendar_of()
    assert len(calendar.digest) == 64


def test_a_session_is_returned_whole_and_in_utc() -> None:
    middle = utc("2026-03-02T06:00:00")
    (found,) = calendar_of().sessions("NSE:TCS", middle, middle + MICROSECOND)
    assert (found.opens_at, found.closes_at) == (OPENS, CLOSES)


def test_a_mapped_instrument_has_the_sessions_of_its_segment() -> None:
    calendar = calendar_of(segments=TWO_SEGMENTS, instruments=MAPPED)
    assert in_mumbai(calendar, "2026-09-01", "NSE:TCS") == ["09:15-15:30"]
    assert in_mumbai(calendar, "2026-09-01", "NSE:RELIANCE") == ["09:20-15:15"]
    assert in_mumbai(calendar, "2026-09-01", "NSE:M&M") == ["09:20-15:15"]
    assert calendar.segment_of("NSE:M&M") == "DERIVATIVES"
    assert calendar.segment_of("NSE:INFY") is None
    assert calendar.segment_of("BSE:TCS") is None


def test_an_instrument_that_is_not_mapped_gets_the_earliest_close_of_the_day() -> None:
    calendar = calendar_of(segments=TWO_SEGMENTS)
    assert in_mumbai(calendar, "2026-07-31") == ["09:15-15:30"]
    assert in_mumbai(calendar, "2026-08-03") == ["09:20-15:15"]


def test_an_unmapped_instrument_does_not_trade_while_a_segment_is_closed() -> None:
    calendar = calendar_of(
        segments=TWO_SEGMENTS,
        special_sessions=[special("2026-03-01", ("10:00", "11:00"), segments=("EQUITY",))],
        instruments=MAPPED,
    )
    assert in_mumbai(calendar, "2026-03-01", "NSE:TCS") == ["10:00-11:00"]
    assert in_mumbai(calendar, "2026-03-01", "NSE:INFY") == []


def test_hours_with_a_break_are_intersected_part_by_part() -> None:
    segments = [
        segment("A", hours("2026-01-01", ("09:00", "12:00"), ("13:00", "16:00"))),
        segment("B", hours("2026-01-01", ("09:30", "13:30"), ("15:00", "17:00"))),
    ]
    assert in_mumbai(calendar_of(segments=segments), "2026-03-02") == [
        "09:30-12:00",
        "13:00-13:30",
        "15:00-16:00",
    ]


def test_a_holiday_and_a_weekend_have_no_session() -> None:
    calendar = calendar_of(holidays=[holiday("2026-03-03")])
    assert in_mumbai(calendar, "2026-03-02") == ["09:15-15:30"]
    assert in_mumbai(calendar, "2026-03-03") == []
    assert in_mumbai(calendar, "2026-03-07") == []


def test_special_sessions_replace_the_regular_ones_on_any_day() -> None:
    calendar = calendar_of(
        holidays=[holiday("2026-03-03")],
        special_sessions=[
            special("2026-03-02", ("10:00", "11:00")),
            special("2026-03-03", ("18:15", "19:15")),
            special("2026-03-08", ("09:15", "10:00"), ("11:30", "12:30")),
        ],
    )
    assert in_mumbai(calendar, "2026-03-02") == ["10:00-11:00"]
    assert in_mumbai(calendar, "2026-03-03") == ["18:15-19:15"]
    assert in_mumbai(calendar, "2026-03-08") == ["09:15-10:00", "11:30-12:30"]


def test_the_whole_coverage_can_be_asked_for() -> None:
    begins, ends = utc("2025-12-31T18:30:00"), utc("2026-12-31T18:30:00")
    assert len(calendar_of().sessions("NSE:TCS", begins, ends)) == 261


@pytest.mark.parametrize(
    ("starts_at", "until"),
    [
        ("2025-12-31T18:29:59.999999", "2026-03-01T00:00:00"),
        ("2026-03-01T00:00:00", "2026-12-31T18:30:00.000001"),
        ("2027-03-01T00:00:00", "2027-03-02T00:00:00"),
    ],
)
def test_a_time_outside_the_coverage_is_refused(starts_at: str, until: str) -> None:
    with pytest.raises(OutsideCoverage) as refused:
        calendar_of().sessions("NSE:TCS", utc(starts_at), utc(until))
    assert refused.value.covered_from == utc("2025-12-31T18:30:00")
    assert refused.value.covered_before == utc("2026-12-31T18:30:00")


def test_a_day_is_in_the_exchanges_own_time_zone() -> None:
    new_york = exchange(time_zone="America/New_York")
    calendar = calendar_of(**new_york)
    winter, summer = (calendar.day("NSE", date(2026, month, 2)) for month in (3, 6))
    assert winter.segments[0].sessions[0].opens_at == utc("2026-03-02T14:15:00")
    assert summer.segments[0].sessions[0].opens_at == utc("2026-06-02T13:15:00")
    assert calendar.today("NSE", utc("2026-03-02T04:59:59")) == date(2026, 3, 1)


def test_a_day_names_its_holiday_its_special_sessions_and_their_sources() -> None:
    calendar = calendar_of(
        segments=TWO_SEGMENTS,
        holidays=[holiday("2026-03-03", "Holi")],
        special_sessions=[
            special("2026-03-03", ("18:15", "19:15"), segments=("EQUITY",)) | {"source": "a notice"}
        ],
    )
    day = calendar.day("NSE", date(2026, 3, 3))
    assert (day.holiday, day.is_open) == ("Holi", True)
    equity, derivatives, not_mapped = day.segments
    assert (equity.special, len(equity.sessions), equity.source) == ("Special", 1, "a notice")
    assert (derivatives.special, derivatives.sessions, derivatives.source) == (None, (), "a test")
    assert (not_mapped.segment, not_mapped.sessions) == (None, ())
    assert not calendar.day("NSE", date(2026, 3, 7)).is_open
    with pytest.raises(OutsideCoverage):
        calendar.day("NSE", date(2027, 1, 1))


def test_an_unknown_exchange_is_named() -> None:
    with pytest.raises(PulseError, match="no exchange has the name MCX"):
        calendar_of().day("MCX", date(2026, 3, 3))
