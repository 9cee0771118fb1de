"""Times as callers write them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.rfc3339 import parse_time

AT = datetime(2026, 11, 28, 10, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-28T10:00:00.123456Z",
        "2026-11-28T15:30:00.123456+05:30",
        "2026-11-28t10:00:00.123456000z",
        "2026-11-28T10:00:00.123455001Z",
        "2026-11-28T10:00:00.1234550000000000000000000001-00:00",
    ],
)
def test_any_offset_and_any_number_of_digits_are_read(text: str) -> None:
    assert parse_time(text) == AT
    assert parse_time(text).tzinfo is UTC


def test_rounding_carries_into_the_next_year_but_not_beyond_the_last_one() -> None:
    assert parse_time("2026-12-31T23:59:59.9999991Z") == datetime(2027, 1, 1, tzinfo=UTC)
    assert parse_time("9999-12-31T23:59:59.9999991Z") == datetime.max.replace(tzinfo=UTC)


@given(st.integers(0, 10**9 - 1), st.integers(0, 10**6 - 1))
def test_a_time_rounded_to_microseconds_is_the_same_bound_as_the_written_one(
    nanoseconds: int, stored: int
) -> None:
    bound = parse_time(f"2026-11-28T10:00:00.{nanoseconds:09d}Z")
    time = datetime(2026, 11, 28, 10, 0, 0, stored, tzinfo=UTC)
    assert (time >= bound) == (stored * 1000 >= nanoseconds)
    assert (time < bound) == (stored * 1000 < nanoseconds)


@pytest.mark.parametrize(
    "text",
    [
        *("", "2026-11-28", "2026-11-28T10:00:00", "2026-11-28T10:00:00.Z", "2026-11-28 10:00:00Z"),
        *("2026-13-01T00:00:00Z", "0001-01-01T00:00:00+05:30", "2026-11-28T10:00:00.1Z\n"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever part is at fault
        parse_time(text)
