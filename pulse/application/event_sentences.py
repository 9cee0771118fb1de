"""Describes an event: in a sentence about its order, or in a few words for a list."""

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
    """The event in a sentence, or a phrase if its slices were released or expired.

    Text of callers in it is as stored, so it must still be escaped.
    """
    match event:
        case OrderCreated():
            return (
                f"An order to {event.side} {counted(event.total_quantity, 'share')} of "
                f"{event.instrument} was accepted from {event.placed_by}."
            )
        case SlicesScheduled():
            return (
                f"Worker {event.worker}, which claimed it at {format_time(event.claimed_at)}, "
                f"split it into {_scheduled(event)}."
            )
        case SplittingFailed():
            return (
                f"Worker {event.worker}, which claimed it at {format_time(event.claimed_at)}, "
                f"could not split it: {event.reason}."
            )
        case TimedOut():
            return (
                f"Worker {event.claimed_by} claimed it at {format_time(event.claimed_at)} and did "
                f"not split it within {event.timeout_seconds:g} s of its first claim; "
                f"{event.detected_by} timed it out."
            )
        case OrderCancelled():
            return f"{event.cancelled_by} cancelled what was left of it, {_cancelled(event)}."
        case _:
            return _phrase(event)


def summary_of(event: Event) -> str:  # noqa: PLR0911 - one for each type of event
    """The event in a few words, without who caused it. Text of callers in it is as stored."""
    match event:
        case OrderCreated():
            return (
                f"{event.side} {counted(event.total_quantity, 'share')} of {event.instrument}, "
                f"key {event.order_unique_key}"
            )
        case SlicesScheduled():
            return _scheduled(event)
        case SplittingFailed():
            return f"{event.reason}: {event.message}"
        case TimedOut():
            return f"claimed by {event.claimed_by}"
        case OrderCancelled():
            return _cancelled(event)
        case SlicesReleased():
            return f"{_phrase(event)}, {event.side} {event.instrument}"
        case SlicesExpired():
            return _phrase(event)
        case ReleasesHalted():
            target = event.instrument or event.placed_by or "everything"
            return f"{target}{_reason(event.reason)}"
        case ReleasesResumed():
            return f"{event.halt_id}{_reason(event.reason)}"
        case _:
            assert_never(event)


def _scheduled(event: SlicesScheduled) -> str:
    shares = sum(s.quantity for s in event.slices)
    return f"{counted(len(event.slices), 'slice')} of {shares:,} shares in all"


def _cancelled(event: OrderCancelled) -> str:
    slices = f" in {numbered_slices(event.sequence_numbers)}" * bool(event.sequence_numbers)
    return f"{counted(event.quantity, 'share')}{slices}{_reason(event.reason)}"


def _reason(reason: str | None) -> str:
    return f": {reason}" if reason else ""


def _phrase(event: SlicesReleased | SlicesExpired | ReleasesHalted | ReleasesResumed) -> str:
    """The slices and their shares: an order can have one such event per slice."""
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
