"""Trading time: the time that passes inside trading sessions, from the start of a window.

Offsets are in microseconds of trading time. Without sessions all time is trading time. With
sessions, the first one contains the start, and they are in order and do not overlap.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from pulse.domain.sessions import Session

CLOSING_MICROSECONDS: Final = 1_000_000
"""A window that would end at a close ends this much earlier, since no trade is made at a close."""

_MICROSECOND: Final = timedelta(microseconds=1)


def duration_in(sessions: Sequence[Session], starts_at: datetime, microseconds: int) -> int:
    """The length of a window of this many microseconds, cut where the sessions end.

    A window that reaches the last close ends one second before that close.
    """
    if not sessions:
        return microseconds
    available = sum(_length(session, starts_at) for session in sessions)
    return microseconds if microseconds < available else available - CLOSING_MICROSECONDS


def time_at(sessions: Sequence[Session], starts_at: datetime, offset: int) -> datetime:
    """The time on the clock. An offset on a close belongs to the next open.

    Raises:
        ValueError: the sessions end before this offset.
    """
    if not sessions:
        return starts_at + offset * _MICROSECOND
    for session in sessions:
        length = _length(session, starts_at)
        if offset < length:
            return max(session.opens_at, starts_at) + offset * _MICROSECOND
        offset -= length
    raise ValueError("the sessions end before this offset")


def offset_of(sessions: Sequence[Session], starts_at: datetime, at: datetime) -> int:
    """The trading time from the start to this time. Between two sessions it does not increase.

    Before the start it is negative. After the last close it increases with the clock.
    """
    if not sessions or at < starts_at:
        return (at - starts_at) // _MICROSECOND
    offset = 0
    for session in sessions:
        opens_at = max(session.opens_at, starts_at)
        if at < session.closes_at:
            return offset + (max(at, opens_at) - opens_at) // _MICROSECOND
        offset += _length(session, starts_at)
    return offset + (at - sessions[-1].closes_at) // _MICROSECOND


def _length(session: Session, starts_at: datetime) -> int:
    """The microseconds of the session after the start."""
    return (session.closes_at - max(session.opens_at, starts_at)) // _MICROSECOND
