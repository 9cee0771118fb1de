"""What the page of one order shows about it, besides its history."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple
from uuid import UUID

from pulse.application.event_view import LogEntry
from pulse.application.failures import FAILED_IS_FINAL, what_to_do
from pulse.application.known_halts import NO_HALTS, KnownHalts
from pulse.application.notices import target_text
from pulse.application.past import AsOfQuery
from pulse.domain import (
    OrderCancelled,
    OrderCreated,
    SlicesExpired,
    SlicesReleased,
    SliceState,
    Window,
)
from pulse.http.console.order_filters import ORDERS_PATH, orders_path
from pulse.http.console.pages import utc
from pulse.projections.order_view import OrderView
from pulse.wording import counted, format_duration

_WHOLE_ORDER: Final = "the whole order, before it is split"

Kind = Literal["text", "code", "time", "number"]


class Fact(NamedTuple):
    """A label and its value; `path` is a page about that value."""

    label: str
    value: str | int | datetime
    kind: Kind = "text"
    path: str | None = None


class SliceRow(NamedTuple):
    """A slice in the table. `settled_at` is when it was released, cancelled or expired.

    `delay` is the time from `scheduled_at` to the release; None for a slice that is not released.
    """

    number: int
    quantity: int
    scheduled_at: datetime
    state: SliceState
    settled_at: datetime | None
    delay: str | None


class Command(NamedTuple):
    """A command to copy."""

    label: str
    text: str


class Versions(NamedTuple):
    """The control that steps through the versions of an order.

    `is_past` is whether the page shows the past. The paths are None where there is no such version.
    """

    shown: int
    last: int
    is_past: bool
    first: str | None
    previous: str | None
    following: str | None
    now: str


class Cancellation(NamedTuple):
    """What a cancellation would do to an order."""

    slices: str
    shares: int
    released: int


def facts_of(created: OrderCreated, window: Window | None) -> list[Fact]:
    """What the caller requested, and what Pulse recorded with it.

    `window` is None if the order cannot be read.
    """
    return [*_request_facts(created), *_window_facts(created, window), *_origin_facts(created)]


def _request_facts(created: OrderCreated) -> Iterator[Fact]:
    of_instrument = orders_path(instrument=created.instrument)
    yield Fact("Key", created.order_unique_key, "code")
    yield Fact("Key scope", created.key_scope, "code")
    yield Fact("Instrument", created.instrument, path=of_instrument)
    yield Fact("Side", created.side)
    yield Fact("Total quantity", created.total_quantity, "number")
    yield Fact("Slices", created.num_splits, "number")
    trading = " of trading time" if created.sessions else ""
    yield Fact("Duration", f"{created.duration_minutes} min{trading}")
    yield Fact("Randomised", "quantities and times" if created.randomize else "no, an even split")


def _window_facts(created: OrderCreated, window: Window | None) -> Iterator[Fact]:
    if created.start_at is None:
        yield Fact("Requested start", "none: at acceptance")
    else:
        yield Fact("Requested start", created.start_at, "time")
    requested, applied = created.session_policy, created.applied_policy
    yield Fact("Session policy", requested or f"none requested; {applied} applied")
    yield Fact("Window from", created.window_starts_at, "time")
    if window is not None:
        yield Fact("Window to", window.ends_at, "time")
    if created.sessions:
        yield Fact("Trading sessions", len(created.sessions), "number")


def _origin_facts(created: OrderCreated) -> Iterator[Fact]:
    trace_id = created.trace.trace_id
    yield Fact("Released", "each slice at its time" if created.release else "not by Pulse")
    yield Fact("Placed by", created.placed_by, "code", orders_path(placed_by=created.placed_by))
    yield Fact("Trace id", trace_id, "code", orders_path(trace_id=trace_id))
    yield Fact("Created", created.timestamp, "time")
    yield Fact("Split seed", f"{created.split_seed}, splitter version {created.splitter_version}")


def state_sentences(order: OrderView, known: KnownHalts = NO_HALTS) -> list[str]:
    """What the order waits for, or how it ended, in sentences. Halts stop its releases."""
    match order.order_queue_status:
        case "PENDING":
            return ["It waits for a worker to split it."]
        case "IN_PROGRESS":
            return [f"Worker {order.claimed_by} has claimed it and is splitting it."]
        case "FAILED":
            why = f"{order.failure_reason}: {order.failure_message}."
            return [why, FAILED_IS_FINAL, what_to_do(order.failure_reason)]
        case "CANCELLED":
            return ["It was cancelled before it was split. Nothing of it is released."]
        case "COMPLETED":
            return list(_what_is_left(order, known))


def _what_is_left(order: OrderView, known: KnownHalts) -> Iterator[str]:
    """What Pulse still does with an order that is split."""
    if order.quantities.cancelled:
        yield "Its remaining shares were cancelled after it was split."
    if order.quantities.expired:
        yield f"{counted(order.quantities.expired, 'share')} expired and will never be released."
    scheduled = [s.sequence_number for s in order.slices if s.state == "SCHEDULED"]
    if not scheduled:
        yield "No share remains: the order no longer changes."
    elif order.release:
        yield from _next_release(order, scheduled[0], known)
    else:
        yield "It is split. Pulse does not release its slices: they stay scheduled."


def _next_release(order: OrderView, number: int, known: KnownHalts) -> Iterator[str]:
    """Which slice is released next, or why none is."""
    halts = [h for h in known.in_force if h.target.covers(order.instrument, order.placed_by)]
    if known.fault is not None:
        yield f"It is split. The halts cannot be read, so no slice is released: {known.fault}"
    elif not halts:
        yield f"It is split. Slice {number} is the next to be released."
    else:
        yield (
            f"It is split. Slice {number} and later ones are not released while a halt covers the "
            "order."
        )
    for halt in halts:
        yield (
            f"Releases of {target_text(halt.target)} are halted by {halt.halted_by}, "
            f"since {utc(halt.halted_at)}: {halt.reason}"
        )


def slice_rows(order: OrderView, entries: Sequence[LogEntry]) -> list[SliceRow]:
    """The slices with the times at which they were settled, from the events."""
    settled = dict(_settlements(entries))
    return [
        SliceRow(
            s.sequence_number,
            s.quantity,
            s.scheduled_at,
            s.state,
            settled.get(s.sequence_number),
            _delay(s.scheduled_at, settled.get(s.sequence_number))
            if s.state == "RELEASED"
            else None,
        )
        for s in order.slices
    ]


def _settlements(entries: Iterable[LogEntry]) -> Iterator[tuple[int, datetime]]:
    """The number of each settled slice, and when it was settled."""
    for entry in entries:
        match entry.event:
            case SlicesReleased() as event:
                yield from ((s.sequence_number, event.timestamp) for s in event.slices)
            case SlicesExpired() | OrderCancelled() as event:
                yield from ((number, event.timestamp) for number in event.sequence_numbers)
            case _:
                pass


def _delay(scheduled_at: datetime, settled_at: datetime | None) -> str | None:
    if settled_at is None:
        return None
    milliseconds = round((settled_at - scheduled_at).total_seconds() * 1000)
    if milliseconds < 1000:  # noqa: PLR2004 - a second
        return f"{milliseconds} ms"
    return format_duration(milliseconds / 1000)


def commands_for(
    order_id: UUID, as_of: AsOfQuery, base_url: str, *, with_token: bool
) -> tuple[Command, ...]:
    """The commands that show the same order in a terminal."""
    chosen = {
        name: value if isinstance(value, int) else value.isoformat()
        for name, value in _chosen(as_of)
    }
    query = "".join(f"?{name}={str(value).replace('+', '%2B')}" for name, value in chosen.items())
    url = shlex.quote(f"{base_url}/internal/orders/{order_id}{query}")
    token = ' -H "Authorization: Bearer $PULSE_SERVICE_TOKEN"' if with_token else ""
    options = "".join(f" --{name} {value}" for name, value in chosen.items())
    return (
        Command("curl", f"curl -s{token} {url}"),
        Command("pulse replay", f"pulse replay {order_id}{options}"),
    )


def _chosen(as_of: AsOfQuery) -> Iterator[tuple[str, int | datetime]]:
    values: Mapping[str, int | datetime | None] = {
        "version": as_of.version,
        "position": as_of.position,
        "at": as_of.at,
    }
    for name, value in values.items():
        if value is not None:
            yield name, value


def versions_of(order_id: UUID, shown: int, last: int, *, is_past: bool) -> Versions:
    """The control for an order whose stream ends with the version `last`."""
    now = f"{ORDERS_PATH}/{order_id}"

    def path(version: int) -> str | None:
        return f"{now}?version={version}" if 1 <= version <= last else None

    return Versions(
        shown=shown,
        last=last,
        is_past=is_past,
        first=path(1) if shown > 1 else None,
        previous=path(shown - 1),
        following=path(shown + 1),
        now=now,
    )


def cancellation_of(order: OrderView) -> Cancellation | None:
    """What a cancellation would do now; None if nothing is left to cancel."""
    quantities = order.quantities
    if not quantities.remaining:
        return None
    scheduled = [s.sequence_number for s in order.slices if s.state == "SCHEDULED"]
    first, last = (scheduled[0], scheduled[-1]) if scheduled else (0, 0)
    numbers = f"number {first}" if first == last else f"numbers {first} to {last}"
    return Cancellation(
        slices=f"{counted(len(scheduled), 'slice')}, {numbers}" if scheduled else _WHOLE_ORDER,
        shares=quantities.remaining,
        released=quantities.released,
    )


def reason_not_recorded(entries: Sequence[LogEntry], reason: str | None) -> str | None:
    """The sentence that an earlier cancellation has another reason; None if it has the same."""
    event = next((e.event for e in entries if isinstance(e.event, OrderCancelled)), None)
    if event is None or reason in {None, event.reason}:
        return None
    recorded = "without a reason" if event.reason is None else f"with the reason: {event.reason}"
    return (
        f"this order was already cancelled by {event.cancelled_by}, {utc(event.timestamp)}; "
        f"the new reason was not recorded. The order was cancelled {recorded}"
    )
