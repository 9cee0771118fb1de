"""The window of an order: when it starts, and the trading sessions that it needs.

The window is resolved once, when the order is accepted, and recorded in OrderCreated. A refusal
here depends on the time or the calendar. A retry must not be refused for that, so an existing order
with the same key is looked up before the refusal is returned.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, Literal, assert_never

import msgspec

from pulse.domain.errors import HistoryBroken, MarketClosed, OrderRefused
from pulse.domain.order_request import INVALID_SPLIT_CONFIG, OrderSpec
from pulse.domain.sessions import OutsideCoverage, Session, SessionCalendar
from pulse.domain.splitting import MICROSECONDS_PER_MINUTE, SplitTerms
from pulse.domain.trading_time import CLOSING_MICROSECONDS
from pulse.domain.values import SessionPolicy, Value, Window

MAX_START_AHEAD: Final = timedelta(days=30)
MAX_START_PAST: Final = timedelta(seconds=1)
"""How long ago `start_at` may be, since a request takes time to arrive."""

MAX_LOOK_AHEAD: Final = timedelta(days=62)
"""How far ahead sessions are searched."""

_LOOKED_UP_AT_ONCE: Final = timedelta(days=7)
_MICROSECOND: Final = timedelta(microseconds=1)
_CLOSING: Final = CLOSING_MICROSECONDS * _MICROSECOND
_SECOND: Final = timedelta(seconds=1)
_NO_CALENDAR: Final = "Pulse has no calendar of trading sessions: use session_policy NONE"
START_EXPECTED: Final = f"a time from now to {MAX_START_AHEAD.days} days ahead"


_PolicyWithSessions = Literal["REJECT", "CLIP", "ROLL"]


class ResolvedWindow(Value, frozen=True):
    """When the first slice is due, and the sessions that the window needs, oldest first.

    Under the policy NONE there are no sessions, and `calendar_digest` is None.
    """

    starts_at: datetime
    policy: SessionPolicy
    sessions: tuple[Session, ...] = ()
    calendar_digest: str | None = None


def resolve_window(
    spec: OrderSpec,
    at: datetime,
    default_policy: SessionPolicy,
    calendar: SessionCalendar | None,
) -> ResolvedWindow:
    """The window of an order that is accepted at this time.

    It starts at `start_at`, by default at the time of acceptance. Under CLIP and ROLL a start
    outside sessions moves to the next open.

    Raises:
        OrderRefused: `start_at` is in the past, or too far ahead.
        MarketClosed: the window does not fit the sessions under the policy, or the calendar does
            not cover it.
    """
    config = spec.split_config
    policy = config.session_policy or default_policy
    starts_at = at if config.start_at is None else _checked_start(config.start_at, at)
    if policy == "NONE":
        return ResolvedWindow(starts_at=starts_at, policy=policy)
    if calendar is None:
        raise MarketClosed(_NO_CALENDAR, policy, None)
    window = _RequestedWindow(
        instrument=spec.instrument,
        starts_at=starts_at,
        duration=timedelta(minutes=config.duration_minutes),
        num_splits=config.num_splits,
        policy=policy,
        calendar=calendar,
    )
    try:
        sessions = _sessions_for(window)
    except OutsideCoverage as error:
        problem = f"{error}, so the window from {_text(starts_at)} on cannot be planned"
        raise MarketClosed(problem, policy, None) from error
    return ResolvedWindow(
        starts_at=max(starts_at, sessions[0].opens_at),
        policy=policy,
        sessions=sessions,
        calendar_digest=calendar.digest,
    )


def require_possible_sessions(terms: SplitTerms) -> None:
    """Refuse recorded sessions that no window can have. There must be at least one.

    Raises:
        HistoryBroken: they are not in order or overlap, the first does not contain the start of
            the window, or they are too short for its slices.
    """
    sessions = terms.sessions
    bounds = [bound for s in sessions for bound in (s.opens_at, s.closes_at)]
    in_order = bounds == sorted(bounds) and all(s.opens_at < s.closes_at for s in sessions)
    if not in_order:
        raise HistoryBroken("its trading sessions are not in order")
    if not sessions[0].opens_at <= terms.starts_at < sessions[0].closes_at:
        raise HistoryBroken("its window does not start in its first trading session")
    whole = terms.duration_minutes * MICROSECONDS_PER_MINUTE - CLOSING_MICROSECONDS
    shortest = min(whole, terms.num_splits * _SECOND // _MICROSECOND)
    if terms.duration_microseconds < shortest:
        raise HistoryBroken("its trading sessions are too short for its slices")


class _RequestedWindow(Value, frozen=True):
    instrument: str
    starts_at: datetime
    duration: timedelta
    num_splits: int
    policy: _PolicyWithSessions
    calendar: SessionCalendar


def _checked_start(start_at: datetime, at: datetime) -> datetime:
    if start_at < at - MAX_START_PAST:
        problem = "is in the past"
    elif start_at > at + MAX_START_AHEAD:
        problem = f"is more than {MAX_START_AHEAD.days} days ahead"
    else:
        return start_at
    raise OrderRefused(INVALID_SPLIT_CONFIG, "split_config.start_at", START_EXPECTED, problem)


def _sessions_for(window: _RequestedWindow) -> tuple[Session, ...]:
    match window.policy:
        case "REJECT":
            return (_whole_session(window),)
        case "CLIP":
            return (_clipping_session(window),)
        case "ROLL":
            return tuple(_enough_sessions(window))
        case _:
            assert_never(window.policy)


def _whole_session(window: _RequestedWindow) -> Session:
    """The session that contains the whole window."""
    starts_at = window.starts_at
    found = window.calendar.sessions(window.instrument, starts_at, starts_at + _MICROSECOND)
    if found and starts_at + window.duration <= found[0].closes_at:
        return found[0]
    ends_at = _text(starts_at + window.duration)
    raise _closed(
        window,
        f"the window from {_text(starts_at)} to {ends_at} is not inside one trading session of "
        f"{window.instrument}",
    )


def _clipping_session(window: _RequestedWindow) -> Session:
    """The session at the start, or the next one."""
    session = next(_sessions_from(window), None)
    if session is None:
        raise _closed(window, _sessions_too_short(window))
    starts_at = max(window.starts_at, session.opens_at)
    available = session.closes_at - starts_at
    if window.duration > available and available - _CLOSING < window.num_splits * _SECOND:
        raise _closed(
            window,
            f"the trading session of {window.instrument} closes at {_text(session.closes_at)}, "
            f"which leaves less than one second for each of {window.num_splits} slices from "
            f"{_text(starts_at)} on",
        )
    return session


def _enough_sessions(window: _RequestedWindow) -> Iterator[Session]:
    """The sessions from the start on that together last as long as the window."""
    missing = window.duration
    for session in _sessions_from(window):
        yield session
        missing -= session.closes_at - max(window.starts_at, session.opens_at)
        if missing <= timedelta(0):
            return
    raise _closed(window, _sessions_too_short(window))


def _closed(window: _RequestedWindow, problem: str) -> MarketClosed:
    following = _next_window(window)
    if following is None:
        advice = "no later window of this length is known: use another session_policy"
    else:
        starts_at = _text(following.starts_at)
        advice = f"use another session_policy, or start_at {starts_at}, where the window fits"
    return MarketClosed(f"{problem}; {advice}", window.policy, following)


def _sessions_too_short(window: _RequestedWindow) -> str:
    return (
        f"{window.instrument} has too little trading time in the {MAX_LOOK_AHEAD.days} days from "
        f"{_text(window.starts_at)}"
    )


def _next_window(window: _RequestedWindow) -> Window | None:
    """The next window of the requested length inside one session; None if none is known."""
    try:
        for session in _sessions_from(window):
            starts_at = max(window.starts_at, session.opens_at)
            ends_at = starts_at + window.duration
            if ends_at <= session.closes_at:
                closing = _CLOSING if ends_at == session.closes_at else timedelta(0)
                return Window(starts_at=starts_at, ends_at=ends_at - closing)
    except OutsideCoverage:
        pass
    return None


def _sessions_from(window: _RequestedWindow) -> Iterator[Session]:
    """The session at the start and those that follow within MAX_LOOK_AHEAD, oldest first.

    Raises:
        OutsideCoverage: the calendar ends before that, or does not cover the start.
    """
    since, end = window.starts_at, window.starts_at + MAX_LOOK_AHEAD
    while since < end:
        until = min(since + _LOOKED_UP_AT_ONCE, end)
        found, fault = _covered_sessions(window, since, until)
        for session in found:
            if session.opens_at >= since or since == window.starts_at:  # else yielded before
                yield session
        if fault is not None:
            raise fault
        since = until


def _covered_sessions(
    window: _RequestedWindow, since: datetime, until: datetime
) -> tuple[tuple[Session, ...], OutsideCoverage | None]:
    """The sessions in the covered part of the range, and the error if a part is not covered."""
    look_up = window.calendar.sessions
    try:
        return look_up(window.instrument, since, until), None
    except OutsideCoverage as error:
        if not error.covered_from <= since < error.covered_before:
            return (), error
        return look_up(window.instrument, since, error.covered_before), error


def _text(time: datetime) -> str:
    return str(msgspec.to_builtins(time))
