"""Where an order's window starts, and which trading sessions it gets, by policy."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.domain import (
    HistoryBroken,
    MarketClosed,
    Order,
    OrderCreated,
    OrderRefused,
    OutsideCoverage,
    PlaceOrder,
    Session,
    SessionPolicy,
    SplitTerms,
    Window,
    decide,
    fold,
    preview,
    require_possible_sessions,
)
from pulse.testing import ListedSessions, check_schedule, place_orders
from tests.support.commands import T0, place_order

MONDAY = T0.replace(hour=0, minute=0)
"""2026-03-02 in UTC; sessions are from 03:45 to 10:00."""
HOLIDAY = 2
"""The Wednesday of that week."""
SPECIAL_SUNDAY = 6


def at(day: int, hour: int, minute: int = 0, second: float = 0) -> datetime:
    """A time on a day of the week that begins on MONDAY."""
    return MONDAY + timedelta(days=day, hours=hour, minutes=minute, seconds=second)


def text(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def session(day: int, *, minutes: int = 375) -> Session:
    opens_at = at(day, 3, 45)
    return Session(opens_at=opens_at, closes_at=opens_at + timedelta(minutes=minutes))


class SessionsOfReliance(ListedSessions):
    """No other instrument trades."""

    def sessions(
        self, instrument: str, starts_at: datetime, until: datetime
    ) -> tuple[Session, ...]:
        found = super().sessions(instrument, starts_at, until)
        return found if instrument == "NSE:RELIANCE" else ()


WEEKDAYS = [session(d) for d in (0, 1, 3, 4, 7, 8, 9, 10, 11)]
SUNDAY = session(SPECIAL_SUNDAY, minutes=60)
CALENDAR = SessionsOfReliance(
    [*WEEKDAYS, SUNDAY], covered_from=MONDAY, covered_before=MONDAY + timedelta(days=12)
)


def order(
    policy: SessionPolicy,
    start_at: datetime,
    minutes: int = 60,
    *,
    calendar: ListedSessions | None = CALENDAR,
    **changes: Any,
) -> PlaceOrder:
    """An order that starts then, placed a minute before."""
    return place_order(
        at=start_at - timedelta(minutes=1),
        start_at=start_at,
        session_policy=policy,
        duration_minutes=minutes,
        calendar=calendar,
        **changes,
    )


def created(command: PlaceOrder) -> OrderCreated:
    (event,) = decide(command, None)
    assert isinstance(event, OrderCreated)
    return event


def placed(command: PlaceOrder) -> Order:
    """The order after its split, whose slices keep every rule."""
    placed = preview(command)
    check_schedule(placed, placed.slices)
    assert placed.window == Window(
        starts_at=placed.slices[0].scheduled_at, ends_at=placed.slices[-1].scheduled_at
    )
    return placed


def window(command: PlaceOrder) -> tuple[datetime, datetime]:
    planned = placed(command).window
    return planned.starts_at, planned.ends_at


def refused(command: PlaceOrder) -> MarketClosed:
    with pytest.raises(MarketClosed) as caught:
        decide(command, None)
    assert caught.value.policy == (command.spec.split_config.session_policy or "NONE")
    return caught.value


# ---- the start


def test_without_start_at_the_window_starts_at_acceptance() -> None:
    event = created(place_order(at=T0))
    assert (event.start_at, event.session_policy) == (None, None)
    assert (event.window_starts_at, event.applied_policy) == (T0, "NONE")
    assert (event.sessions, event.calendar_digest, event.splitter_version) == ((), None, 1)


@pytest.mark.parametrize("seconds", [-1, -0.000001, 0, 1, 30 * 86_400])
def test_a_start_from_a_second_ago_to_thirty_days_ahead_is_accepted(seconds: float) -> None:
    start_at = T0 + timedelta(seconds=seconds)
    event = created(place_order(at=T0, start_at=start_at))
    assert event.start_at == event.window_starts_at == start_at
    order = fold([event])
    assert order is not None
    assert order.window.ends_at == start_at + timedelta(hours=1)


@pytest.mark.parametrize(
    ("start_at", "problem"),
    [
        (T0 - timedelta(seconds=1, microseconds=1), "is in the past"),
        (T0 - timedelta(days=1), "is in the past"),
        (T0 + timedelta(days=30, microseconds=1), "is more than 30 days ahead"),
        (T0 + timedelta(days=31), "is more than 30 days ahead"),
    ],
)
def test_an_earlier_or_later_start_is_refused(start_at: datetime, problem: str) -> None:
    with pytest.raises(OrderRefused) as caught:
        decide(place_order(at=T0, start_at=start_at), None)
    assert (caught.value.code, caught.value.field) == (
        "INVALID_SPLIT_CONFIG",
        "split_config.start_at",
    )
    assert str(caught.value) == (
        f"split_config.start_at {problem}: expected a time from now to 30 days ahead"
    )
    assert caught.value.expected == "a time from now to 30 days ahead"


def test_the_same_order_is_accepted_again_after_its_start() -> None:
    command = order("REJECT", at(0, 5))
    event = created(command)
    later = msgspec.structs.replace(
        command, at=at(20, 0), calendar=None, default_policy="ROLL", split_seed=9
    )
    assert decide(later, fold([event])) == ()


# ---- the default policy


def test_the_default_applies_to_an_order_that_names_no_policy() -> None:
    command = msgspec.structs.replace(
        place_order(at=at(0, 9, 30), calendar=CALENDAR), default_policy="CLIP"
    )
    event = created(command)
    assert (event.session_policy, event.applied_policy) == (None, "CLIP")
    assert window(command) == (at(0, 9, 30), at(0, 9, 59, 59))


def test_an_order_with_policy_none_ignores_sessions_whatever_the_default() -> None:
    command = order("NONE", at(0, 23, 30), calendar=None)
    event = created(msgspec.structs.replace(command, default_policy="REJECT"))
    assert (event.session_policy, event.applied_policy) == ("NONE", "NONE")
    assert window(command) == (at(0, 23, 30), at(1, 0, 30))


@pytest.mark.parametrize("policy", ["REJECT", "CLIP", "ROLL"])
def test_without_a_calendar_only_the_policy_none_is_possible(policy: SessionPolicy) -> None:
    refusal = refused(order(policy, at(0, 5), calendar=None))
    assert refusal.next_window is None
    assert "no calendar" in str(refusal)


# ---- inside a session all policies are alike


@pytest.mark.parametrize("policy", ["REJECT", "CLIP", "ROLL"])
@pytest.mark.parametrize(
    ("start_at", "minutes", "ends_at"),
    [
        (at(0, 3, 45), 60, at(0, 4, 45)),
        (at(0, 5), 60, at(0, 6)),
        (at(0, 8, 59, 59.999999), 60, at(0, 9, 59, 59.999999)),
        (at(0, 9), 60, at(0, 9, 59, 59)),
        (at(0, 3, 45), 375, at(0, 9, 59, 59)),
    ],
)
def test_a_window_inside_a_session_is_kept_and_ends_a_second_before_the_close(
    policy: SessionPolicy, start_at: datetime, minutes: int, ends_at: datetime
) -> None:
    command = order(policy, start_at, minutes)
    assert window(command) == (start_at, ends_at)
    event = created(command)
    assert event.sessions == ((WEEKDAYS[0].opens_at, WEEKDAYS[0].closes_at),)
    assert (event.splitter_version, event.calendar_digest) == (2, CALENDAR.digest)


# ---- REJECT


@pytest.mark.parametrize(
    ("start_at", "minutes", "following"),
    [
        (at(0, 9, 0, 0.000001), 60, (at(1, 3, 45), at(1, 4, 45))),  # crosses the close
        (at(0, 10), 60, (at(1, 3, 45), at(1, 4, 45))),  # at the close
        (at(0, 9, 59, 59), 1, (at(1, 3, 45), at(1, 3, 46))),  # at the last second
        (at(0, 23, 30), 60, (at(1, 3, 45), at(1, 4, 45))),  # across midnight
        (at(0, 2), 60, (at(0, 3, 45), at(0, 4, 45))),  # before the open
        (at(1, 9, 30), 60, (at(3, 3, 45), at(3, 4, 45))),  # before a holiday
        (at(HOLIDAY, 5), 60, (at(3, 3, 45), at(3, 4, 45))),  # on a holiday
        (at(4, 9, 30), 60, (at(6, 3, 45), at(6, 4, 44, 59))),  # the special session on Sunday
        (at(4, 9, 30), 61, (at(7, 3, 45), at(7, 4, 46))),  # the special session is too short
        (at(6, 4, 30), 60, (at(7, 3, 45), at(7, 4, 45))),  # begins on Sunday
        (at(0, 4), 375, (at(1, 3, 45), at(1, 9, 59, 59))),  # a whole session
    ],
)
def test_reject_refuses_a_window_that_is_not_in_one_session_and_names_the_next(
    start_at: datetime, minutes: int, following: tuple[datetime, datetime]
) -> None:
    ends_at = start_at + timedelta(minutes=minutes)
    refusal = refused(order("REJECT", start_at, minutes))
    assert refusal.next_window == Window(starts_at=following[0], ends_at=following[1])
    assert str(refusal).startswith(f"the window from {text(start_at)} to {text(ends_at)} is not ")
    assert str(refusal).endswith(
        " is not inside one trading session of NSE:RELIANCE; use another session_policy, or "
        f"start_at {text(following[0])}, where the window fits"
    )
    again = order("REJECT", following[0], minutes)
    assert window(again) == following


def test_no_next_window_is_named_if_every_session_is_too_short() -> None:
    refusal = refused(order("REJECT", at(0, 3, 45), 376))
    assert refusal.next_window is None
    assert str(refusal).endswith(
        "; no later window of this length is known: use another session_policy"
    )


def test_reject_needs_no_coverage_beyond_the_start() -> None:
    calendar = ListedSessions([session(0)], at(0, 3, 45), at(0, 6))
    assert window(order("REJECT", at(0, 5, 30), calendar=calendar))[1] == at(0, 6, 30)
    assert refused(order("REJECT", at(0, 9, 30), calendar=calendar)).next_window is None


# ---- CLIP


@pytest.mark.parametrize(
    ("start_at", "minutes", "expected"),
    [
        (at(0, 9, 30), 60, (at(0, 9, 30), at(0, 9, 59, 59))),
        (at(0, 9, 59, 54), 60, (at(0, 9, 59, 54), at(0, 9, 59, 59))),  # one second a slice
        (at(0, 2), 60, (at(0, 3, 45), at(0, 4, 45))),  # starts at the open
        (at(0, 10), 60, (at(1, 3, 45), at(1, 4, 45))),
        (at(HOLIDAY, 5), 1440, (at(3, 3, 45), at(3, 9, 59, 59))),
        (at(5, 5), 90, (at(6, 3, 45), at(6, 4, 44, 59))),  # the special session on Sunday
        (at(6, 4, 45), 90, (at(7, 3, 45), at(7, 5, 15))),
    ],
)
def test_clip_ends_the_window_with_its_session(
    start_at: datetime, minutes: int, expected: tuple[datetime, datetime]
) -> None:
    assert window(order("CLIP", start_at, minutes)) == expected


@pytest.mark.parametrize("start_at", [at(0, 9, 59, 54.000001), at(0, 9, 59, 59)])
def test_clip_refuses_less_than_a_second_for_each_slice(start_at: datetime) -> None:
    refusal = refused(order("CLIP", start_at))
    assert refusal.next_window == Window(starts_at=at(1, 3, 45), ends_at=at(1, 4, 45))
    assert str(refusal) == (
        "the trading session of NSE:RELIANCE closes at 2026-03-02T10:00:00Z, which leaves less "
        f"than one second for each of 5 slices from {text(start_at)} on; use another "
        "session_policy, or start_at 2026-03-03T03:45:00Z, where the window fits"
    )


def test_clip_accepts_a_short_window_that_it_does_not_cut() -> None:
    """A hundred slices in a minute are allowed, also in the last minute of a session."""
    for start_at in (at(0, 5), at(0, 9, 59)):
        command = order("CLIP", start_at, 1, num_splits=100, total_quantity=100)
        assert window(command)[0] == start_at


# ---- ROLL


@pytest.mark.parametrize(
    ("start_at", "minutes", "expected", "days"),
    [
        (at(0, 9, 30), 60, (at(0, 9, 30), at(1, 4, 15)), [0, 1]),
        (at(1, 9, 30), 60, (at(1, 9, 30), at(3, 4, 15)), [1, 3]),  # over a holiday
        (at(4, 9, 30), 60, (at(4, 9, 30), at(6, 4, 15)), [4, 6]),  # into the special session
        (at(4, 9, 30), 100, (at(4, 9, 30), at(7, 3, 55)), [4, 6, 7]),  # and over it
        (at(4, 9, 30), 90, (at(4, 9, 30), at(6, 4, 44, 59)), [4, 6]),  # ends with its close
        (at(0, 9, 59, 59), 1, (at(0, 9, 59, 59), at(1, 3, 45, 59)), [0, 1]),  # the last second
        (at(0, 2), 60, (at(0, 3, 45), at(0, 4, 45)), [0]),
        (at(0, 10), 60, (at(1, 3, 45), at(1, 4, 45)), [1]),
        (at(0, 23, 30), 60, (at(1, 3, 45), at(1, 4, 45)), [1]),  # across midnight
        (at(0, 3, 45), 1440, (at(0, 3, 45), at(4, 9, 0)), [0, 1, 3, 4]),
    ],
)
def test_roll_counts_only_time_in_sessions(
    start_at: datetime, minutes: int, expected: tuple[datetime, datetime], days: list[int]
) -> None:
    command = order("ROLL", start_at, minutes)
    assert window(command) == expected
    assert [(opens - MONDAY).days for opens, _ in created(command).sessions] == days


def test_a_session_that_is_looked_up_twice_counts_once() -> None:
    """Sessions are looked up week by week; this one is open when the first week ends."""
    first = Session(opens_at=at(7, 4), closes_at=at(7, 6))
    calendar = ListedSessions([first, session(8)], at(0, 0), at(90, 0))
    command = order("ROLL", at(0, 5), 180, calendar=calendar)
    assert window(command) == (at(7, 4), at(8, 4, 45))
    assert [opens for opens, _ in created(command).sessions] == [at(7, 4), at(8, 3, 45)]


def test_a_window_of_24_hours_rolls_over_ten_days() -> None:
    calendar = ListedSessions([session(day, minutes=144) for day in range(20)])
    command = order("ROLL", at(0, 3, 45), 1440, calendar=calendar, num_splits=20)
    assert window(command) == (at(0, 3, 45), at(9, 6, 8, 59))
    assert len(created(command).sessions) == 10


@pytest.mark.parametrize("policy", ["CLIP", "ROLL"])
def test_an_order_without_a_session_in_62_days_is_refused(policy: SessionPolicy) -> None:
    calendar = ListedSessions([session(90)], at(-30, 0), at(120, 0))
    refusal = refused(order(policy, at(0, 5), calendar=calendar))
    assert refusal.next_window is None
    assert "in the 62 days" in str(refusal)


def test_roll_is_refused_if_the_sessions_are_too_short_together() -> None:
    calendar = ListedSessions([session(0), session(70)], at(-30, 0), at(120, 0))
    refusal = refused(order("ROLL", at(0, 9, 30), 60, calendar=calendar))
    assert str(refusal) == (
        "NSE:RELIANCE has too little trading time in the 62 days from 2026-03-02T09:30:00Z; "
        "no later window of this length is known: use another session_policy"
    )


# ---- coverage


@pytest.mark.parametrize("policy", ["CLIP", "ROLL"])
def test_the_coverage_includes_its_start_and_excludes_its_end(
    policy: SessionPolicy,
) -> None:
    calendar = SessionsOfReliance([session(0)], at(0, 3, 45), at(0, 6))
    assert window(order(policy, at(0, 3, 45), calendar=calendar)) == (at(0, 3, 45), at(0, 4, 45))
    assert isinstance(
        refused(order(policy, at(0, 6), calendar=calendar)).__cause__, OutsideCoverage
    )


@pytest.mark.parametrize(
    ("policy", "start_at", "minutes"),
    [
        ("REJECT", MONDAY - timedelta(seconds=1), 60),
        ("CLIP", MONDAY - timedelta(seconds=1), 60),
        ("ROLL", MONDAY - timedelta(hours=10), 60),
        ("REJECT", at(12, 4), 60),
        ("CLIP", at(11, 10), 60),  # the next session may be beyond the coverage
        ("ROLL", at(11, 9, 30), 60),
    ],
)
def test_a_window_that_the_calendar_does_not_cover_is_refused(
    policy: SessionPolicy, start_at: datetime, minutes: int
) -> None:
    refusal = refused(order(policy, start_at, minutes))
    assert refusal.next_window is None
    assert str(refusal) == (
        "the calendar of trading sessions covers 2026-03-02T00:00:00+00:00 to "
        f"2026-03-14T00:00:00+00:00 only, so the window from {text(start_at)} on cannot be planned"
    )
    assert isinstance(refusal.__cause__, OutsideCoverage)


def test_coverage_is_needed_only_as_far_as_the_window_lasts() -> None:
    assert window(order("ROLL", at(11, 9), 60))[1] == at(11, 9, 59, 59)
    assert window(order("CLIP", at(11, 9, 30), 60))[1] == at(11, 9, 59, 59)


# ---- laws


@st.composite
def orders_with_sessions(draw: st.DrawFn) -> PlaceOrder:
    """Orders of any policy at any time of two weeks."""
    start_at = MONDAY + timedelta(minutes=draw(st.integers(0, 11 * 1440)))
    num_splits = draw(st.sampled_from((2, 5, 100)))
    return order(
        draw(st.sampled_from(("REJECT", "CLIP", "ROLL"))),
        start_at + timedelta(microseconds=draw(st.sampled_from((0, 1, 59_999_999)))),
        draw(st.sampled_from((1, 60, 375, 1440)) | st.integers(1, 1440)),
        num_splits=num_splits,
        total_quantity=draw(st.integers(num_splits, 10_000)),
        randomize=draw(st.booleans()),
        split_seed=draw(st.integers(0, 2**64 - 1)),
    )


@given(orders_with_sessions())
def test_every_window_is_in_sessions_or_refused(command: PlaceOrder) -> None:
    try:
        order = placed(command)
    except MarketClosed:
        return
    config = command.spec.split_config
    assert config.start_at is not None
    assert order.window.starts_at >= config.start_at
    every = [*WEEKDAYS, SUNDAY]
    for s in order.slices:
        assert any(one.opens_at <= s.scheduled_at < one.closes_at for one in every)
    inside = [s for s in every if s.opens_at <= config.start_at < s.closes_at]
    if inside:
        assert order.window.starts_at == config.start_at
    traded = sum(_overlaps(every, order.window), timedelta(0))
    nominal = timedelta(minutes=config.duration_minutes)
    assert traded <= nominal
    if config.session_policy != "CLIP":
        assert nominal - traded <= timedelta(seconds=1)


def _overlaps(sessions: Sequence[Session], window: Window) -> Iterator[timedelta]:
    for one in sessions:
        begins = max(one.opens_at, window.starts_at)
        ends = min(one.closes_at, window.ends_at)
        if begins < ends:
            yield ends - begins


@given(place_orders())
def test_the_event_alone_determines_the_schedule(command: PlaceOrder) -> None:
    event, previewed = created(command), placed(command)
    assert event.terms == previewed.terms
    assert event.window_starts_at.tzinfo is UTC


# ---- recorded sessions that are impossible

POSSIBLE = SplitTerms(
    total_quantity=100,
    num_splits=5,
    duration_minutes=60,
    randomize=True,
    seed=7,
    starts_at=at(0, 9, 30),
    sessions=(session(0), session(1)),
)


def test_possible_sessions_are_accepted() -> None:
    require_possible_sessions(POSSIBLE)
    require_possible_sessions(msgspec.structs.replace(POSSIBLE, starts_at=at(0, 9, 59, 59.999999)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sessions": (session(1), session(0))}, "its trading sessions are not in order"),
        ({"sessions": (session(0), session(0))}, "its trading sessions are not in order"),
        (
            {"sessions": (session(0), Session(opens_at=at(1, 5), closes_at=at(1, 5)))},
            "its trading sessions are not in order",
        ),
        ({"starts_at": at(0, 3, 44)}, "its window does not start in its first trading session"),
        ({"starts_at": at(0, 10)}, "its window does not start in its first trading session"),
        (
            {"sessions": (session(0),), "starts_at": at(0, 9, 59, 54.000001)},
            "its trading sessions are too short for its slices",
        ),
    ],
)
def test_impossible_sessions_are_refused(changes: dict[str, Any], message: str) -> None:
    terms = msgspec.structs.replace(POSSIBLE, **changes)
    with pytest.raises(HistoryBroken, match=f"^{message}$"):
        require_possible_sessions(terms)
    event = msgspec.structs.replace(
        created(order("ROLL", at(0, 9, 30))),
        window_starts_at=terms.starts_at,
        sessions=tuple((s.opens_at, s.closes_at) for s in terms.sessions),
    )
    with pytest.raises(HistoryBroken, match=message):
        fold([event])


def test_a_short_window_that_no_close_cuts_is_possible() -> None:
    """A hundred slices in a minute that ends with the close."""
    terms = msgspec.structs.replace(
        POSSIBLE,
        num_splits=100,
        duration_minutes=1,
        starts_at=at(0, 9, 59),
        sessions=(session(0),),
    )
    require_possible_sessions(terms)


def test_an_unknown_policy_raises_assertion_error() -> None:
    with pytest.raises(AssertionError, match="SKIP"):
        decide(order(cast("SessionPolicy", "SKIP"), at(0, 5)), None)
