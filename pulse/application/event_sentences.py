"""What an event says about its order, in a sentence."""

from collections.abc import Callable
from datetime import datetime
from typing import assert_never

from pulse.domain import (
    Event,
    OrderCancelled,
    OrderCreated,
    ReleasesHalted,
    ReleasesResumed,
    SlicesExpired,
    SlicesReleased,
    SlicesScheduled,
    SplittingFailed,
    TimedOut,
)
from pulse.wording import counted, numbered_slices


def sentence_of(event: Event, format_time: Callable[[datetime], str]) -> str:
    """The event in a sentence. Text of callers in it is as stored, so it must still be escaped."""
    match event:
        case OrderCreated():
            return (
                f"An order to {event.side} {counted(event.total_quantity, 'share')} of "
                f"{event.instrument} was accepted from {event.placed_by}."
            )
        case SlicesScheduled():
            shares = sum(s.quantity for s in event.slices)
            return (
                f"Worker {event.worker}, which claimed it at {format_time(event.claimed_at)}, "
                f"split it into {counted(len(event.slices), 'slice')} of {shares:,} shares in all."
            )
        case SplittingFailed():
            return (
                f"Worker {event.worker}, which claimed it at {format_time(event.claimed_at)}, "
                f"could not split it: {event.reason}."
            )
        case TimedOut():
            return (
                f"Worker {event.claimed_by} claimed it at {format_time(event.claimed_at)} and did "
                f"not split it; {event.timeout_seconds:g} s after its first claim "
                f"{event.detected_by} timed it out."
            )
        case OrderCancelled():
            slices = f" in {numbered_slices(event.sequence_numbers)}" * bool(event.sequence_numbers)
            why = f": {event.reason}" if event.reason else ""
            what = f"{counted(event.quantity, 'share')}{slices}"
            return f"{event.cancelled_by} cancelled what was left of it, {what}{why}."
        case _:
            return _short_sentence(event)


def _short_sentence(
    event: SlicesReleased | SlicesExpired | ReleasesHalted | ReleasesResumed,
) -> str:
    """The sentence of an event that an order can have for each slice."""
    match event:
        case SlicesReleased():
            numbers = [s.sequence_number for s in event.slices]
            quantity = sum(s.quantity for s in event.slices)
            return f"{numbered_slices(numbers)}, {counted(quantity, 'share')}"
        case SlicesExpired():
            slices = numbered_slices(event.sequence_numbers)
            return f"{slices}, {counted(event.quantity, 'share')}: {event.reason}"
        case ReleasesHalted() | ReleasesResumed():
            return "An event of a halt, which does not belong to an order."
        case _:
            assert_never(event)
