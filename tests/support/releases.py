"""Laws of releases: when slices are released and expire."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise, zip_longest
from typing import Final

from pulse.domain import Event, Slice, SlicesExpired, SlicesReleased, expires_at

SECOND: Final = timedelta(seconds=1)


def limits_of(slices: tuple[Slice, ...], max_delay_seconds: float) -> dict[int, datetime]:
    """The time from which each slice can no longer be released, by number."""
    successors = zip_longest(slices, slices[1:])
    return {s.sequence_number: expires_at(s, n, max_delay_seconds) for s, n in successors}


def release_times(history: Iterable[Event]) -> dict[int, datetime]:
    """When each released slice was released, by number."""
    return {
        s.sequence_number: event.timestamp
        for event in history
        if isinstance(event, SlicesReleased)
        for s in event.slices
    }


def check_release_times(
    history: Iterable[Event], slices: tuple[Slice, ...], max_delay_seconds: float
) -> None:
    """Check that slices are released only within their time, and expire only after it.

    Neighbours that are planned at least a second apart must be released at least a second apart, or
    at most a tenth of a second closer than planned.
    """
    events = tuple(history)
    limits, released = limits_of(slices, max_delay_seconds), release_times(events)
    for s in slices:
        at = released.get(s.sequence_number)
        assert at is None or s.scheduled_at <= at < limits[s.sequence_number], s
    for event in events:
        if isinstance(event, SlicesExpired):
            for number in event.sequence_numbers:
                assert limits[number] <= event.timestamp, number
    for one, other in pairwise(slices):
        if {one.sequence_number, other.sequence_number} <= released.keys():
            distance = released[other.sequence_number] - released[one.sequence_number]
            planned = other.scheduled_at - one.scheduled_at
            kept = min(SECOND, planned - SECOND / 10)
            assert planned < SECOND or distance >= kept, (one, other, distance)
