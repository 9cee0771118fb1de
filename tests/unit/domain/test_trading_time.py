"""Splitter version 2: version 1 in trading time, mapped to the clock.

The mapping is stated here again as a walk over the sessions, so that a fault in it would show.
"""

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.domain import (
    CURRENT_SPLITTER_VERSION,
    SCHEDULE_RULES,
    SPLITTERS,
    Session,
    SplitTerms,
    split_v1,
    split_v2,
    splitter_version_for,
)
from pulse.domain.schedule_rules import slices_are_in_sessions
from pulse.domain.trading_time import offset_of, time_at
from pulse.testing import (
    SPLITTER_LAWS,
    Sample,
    check_schedule,
    edge_sizes,
    sample_of,
    split_terms,
    split_terms_with_sessions,
)
from pulse.testing.splitter_laws import Law

KEPT: dict[str, list[str]] = {rule.__name__: [] for rule in SCHEDULE_RULES}
MICROSECOND = timedelta(microseconds=1)
OPEN = datetime(2026, 3, 2, 3, 45, tzinfo=UTC)


def in_trading_time(terms: SplitTerms) -> SplitTerms:
    """The same terms without sessions."""
    return msgspec.structs.replace(terms, sessions=())


@given(split_terms_with_sessions())
def test_every_schedule_with_sessions_keeps_the_rules(terms: SplitTerms) -> None:
    slices = split_v2(terms)
    assert {rule.__name__: list(rule(terms, slices)) for rule in SCHEDULE_RULES} == KEPT


@given(split_terms_with_sessions() | split_terms_with_sessions(size=edge_sizes()))
def test_times_strictly_increase_on_the_clock_and_lie_inside_sessions(terms: SplitTerms) -> None:
    times = [s.scheduled_at for s in split_v2(terms)]
    assert all(one < other for one, other in pairwise(times))
    for at in times:
        assert any(s.opens_at <= at < s.closes_at for s in terms.sessions)
    assert (times[0], times[-1]) == (terms.starts_at, terms.ends_at)


@given(split_terms_with_sessions())
def test_time_in_trading_is_within_thirty_percent_of_even(terms: SplitTerms) -> None:
    interval = terms.duration_microseconds / (terms.num_splits - 1)
    for i, s in enumerate(split_v2(terms)):
        traded = sum(
            (min(s.scheduled_at, one.closes_at) - max(one.opens_at, terms.starts_at)) / MICROSECOND
            for one in terms.sessions
            if one.opens_at < s.scheduled_at
        )
        assert abs(traded - i * interval) <= 0.3 * interval + 1


@given(split_terms_with_sessions())
def test_quantities_and_offsets_are_those_of_version_1_in_trading_time(terms: SplitTerms) -> None:
    slices = split_v2(terms)
    alone = in_trading_time(terms)
    if terms.duration_microseconds == alone.duration_microseconds:
        one = split_v1(alone)
        assert [s.quantity for s in slices] == [s.quantity for s in one]
        offsets = [(s.scheduled_at - terms.starts_at) // MICROSECOND for s in one]
        assert [terms.offset_of(s.scheduled_at) for s in slices] == offsets
    for s in slices:
        assert terms.time_at(terms.offset_of(s.scheduled_at)) == s.scheduled_at


@given(split_terms())
def test_without_sessions_both_versions_are_alike(terms: SplitTerms) -> None:
    assert split_v2(terms) == split_v1(terms)
    assert terms.ends_at == terms.starts_at + timedelta(minutes=terms.duration_minutes)


@given(split_terms_with_sessions())
def test_a_schedule_with_sessions_has_every_share(terms: SplitTerms) -> None:
    slices = split_v2(terms)
    check_schedule(terms, slices)
    least, most = terms.quantity_bounds
    assert sum(s.quantity for s in slices) == terms.total_quantity
    assert all(least <= s.quantity <= most for s in slices)


@cache
def sample_in_sessions() -> Sample:
    days = [OPEN + timedelta(days=day) for day in range(3)]
    terms = SplitTerms(
        total_quantity=1_025,
        num_splits=10,
        duration_minutes=60,
        randomize=True,
        seed=0,
        starts_at=OPEN + timedelta(hours=1),
        sessions=tuple(Session(opens_at=at, closes_at=at + timedelta(minutes=85)) for at in days),
    )
    return sample_of(split_v2, terms, range(1500))


@pytest.mark.many_cases
@pytest.mark.parametrize("law", SPLITTER_LAWS, ids=lambda law: law.__name__)
def test_the_laws_hold_in_trading_time(law: Law) -> None:
    assert list(law(sample_in_sessions())) == []


def test_new_orders_are_split_by_version_2_only_with_sessions() -> None:
    assert SPLITTERS[2] is split_v2
    assert CURRENT_SPLITTER_VERSION == 2
    assert splitter_version_for(()) == 1
    assert splitter_version_for([Session(opens_at=OPEN, closes_at=OPEN + MICROSECOND)]) == 2


TWO_DAYS = (
    Session(opens_at=OPEN, closes_at=OPEN + timedelta(hours=6)),
    Session(opens_at=OPEN + timedelta(days=1), closes_at=OPEN + timedelta(days=1, hours=6)),
)
TERMS = SplitTerms(
    total_quantity=100,
    num_splits=3,
    duration_minutes=120,
    randomize=False,
    seed=0,
    starts_at=OPEN + timedelta(hours=5),
    sessions=TWO_DAYS,
)
HOUR = 3_600_000_000


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (0, TERMS.starts_at),
        (HOUR - 1, TWO_DAYS[0].closes_at - MICROSECOND),
        (HOUR, TWO_DAYS[1].opens_at),
        (2 * HOUR, TWO_DAYS[1].opens_at + timedelta(hours=1)),
        (7 * HOUR - 1, TWO_DAYS[1].closes_at - MICROSECOND),
    ],
)
def test_an_offset_on_a_close_belongs_to_the_next_open(offset: int, expected: datetime) -> None:
    assert TERMS.time_at(offset) == expected
    assert TERMS.offset_of(expected) == offset


def test_an_offset_after_the_last_session_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^the sessions end before this offset$"):
        time_at(TWO_DAYS, TERMS.starts_at, 7 * HOUR)


@pytest.mark.parametrize(
    ("at", "offset"),
    [
        (TERMS.starts_at - MICROSECOND, -1),
        (OPEN - timedelta(days=1), -29 * HOUR),
        (TWO_DAYS[0].closes_at, HOUR),
        (TWO_DAYS[1].opens_at - MICROSECOND, HOUR),
        (TWO_DAYS[1].closes_at, 7 * HOUR),
        (TWO_DAYS[1].closes_at + MICROSECOND, 7 * HOUR + 1),
    ],
)
def test_a_time_outside_the_sessions_has_an_offset_too(at: datetime, offset: int) -> None:
    assert TERMS.offset_of(at) == offset


@given(st.integers(0, 7 * HOUR - 1))
def test_time_and_offset_are_inverse(offset: int) -> None:
    at = TERMS.time_at(offset)
    assert TERMS.offset_of(at) == offset
    assert any(s.opens_at <= at < s.closes_at for s in TWO_DAYS)


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [(59, 59 * 60), (60, 60 * 60 - 1), (61, 60 * 60 - 1), (1440, 60 * 60 - 1)],
)
def test_a_window_that_reaches_the_close_ends_a_second_before_it(
    minutes: int, expected: int
) -> None:
    terms = msgspec.structs.replace(TERMS, duration_minutes=minutes, sessions=TWO_DAYS[:1])
    assert terms.duration_microseconds == expected * 1_000_000
    assert terms.ends_at == TERMS.starts_at + timedelta(seconds=expected)


def test_a_slice_outside_every_session_is_named() -> None:
    first, second, third = split_v2(TERMS)
    assert second.scheduled_at == TWO_DAYS[1].opens_at
    late = msgspec.structs.replace(second, scheduled_at=TWO_DAYS[0].closes_at)
    (breach,) = slices_are_in_sessions(TERMS, [first, late, third])
    assert breach == "slice 2 is at 2026-03-02T09:45:00+00:00, outside every session"
    assert list(slices_are_in_sessions(in_trading_time(TERMS), [first, late, third])) == []


@pytest.mark.parametrize(
    ("hours", "traded"), [(-1, -1), (0, 0), (0.5, 0.5), (1, 1), (24, 1), (30, 2), (49, 3), (50, 4)]
)
def test_an_offset_is_a_whole_number_of_microseconds(hours: float, traded: float) -> None:
    """Also before the start, between two sessions and after the last one."""
    days = [OPEN + timedelta(days=day) for day in range(3)]
    sessions = [Session(opens_at=at, closes_at=at + timedelta(hours=1)) for at in days]
    offset = offset_of(sessions, OPEN, OPEN + timedelta(hours=hours))
    assert (type(offset), offset) == (int, traded * 3_600_000_000)
