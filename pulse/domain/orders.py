"""The order: `decide` turns a command into events, `evolve` applies events to the order."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, Literal, assert_never
from uuid import UUID

import msgspec

from pulse.domain.commands import (
    CancelOrder,
    Claim,
    Command,
    PlaceOrder,
    ReleaseSlices,
    SplitOrder,
    TimeOutOrder,
)
from pulse.domain.errors import (
    HistoryBroken,
    NothingToCancel,
    OrderNotPlaced,
    OrderUniqueKeyTaken,
)
from pulse.domain.events import (
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
    background_event_fields,
    flat_fields,
)
from pulse.domain.identity import order_id_for
from pulse.domain.order_request import OrderSpec
from pulse.domain.releases import DueOrder, due_at, release_due
from pulse.domain.schedule_rules import broken_rules
from pulse.domain.sessions import Session
from pulse.domain.splitting import SplitTerms, split, split_terms_of, splitter_version_for
from pulse.domain.values import (
    SLICE_STATES,
    Quantities,
    Slice,
    SliceState,
    TraceContext,
    Value,
    Window,
)
from pulse.domain.windows import require_possible_sessions, resolve_window

OrderState = Literal["PENDING", "COMPLETED", "FAILED", "CANCELLED"]
"""The state that the events determine. A PENDING order with a claim is shown as IN_PROGRESS.

The state describes splitting: CANCELLED is an order that was cancelled before its split.
"""

TIMED_OUT: Final = "TIMED_OUT"
TOO_LATE: Final = "TOO_LATE"
SPLITTING_ERROR: Final = "SPLITTING_ERROR"

_FAILED_BEFORE: Final = "it failed, so none of its shares will be released; no action is needed"
_SETTLED_BEFORE: Final = (
    "all of its slices are settled; read the order to see how many shares were released"
)


class Outcome(Value, frozen=True):
    """What the outcome of an order sets. An order has at most one."""

    state: OrderState
    slices: tuple[Slice, ...] = ()
    failure_reason: str | None = None
    failure_message: str | None = None


class Order(Value, frozen=True):
    """An order as folded from its events; `version` is that of the last one.

    `settled` has the states of the first slices, in order: slices are settled one after the other.
    `context` is the W3C trace context in which it was placed, None if there was none.
    """

    id: UUID
    version: int
    key_scope: str
    placed_by: str
    spec: OrderSpec
    split_seed: int
    splitter_version: int
    release: bool
    trace_id: str
    created_at: datetime
    updated_at: datetime
    window_starts_at: datetime
    sessions: tuple[Session, ...] = ()
    split_completed_at: datetime | None = None
    state: OrderState = "PENDING"
    slices: tuple[Slice, ...] = ()
    settled: tuple[SliceState, ...] = ()
    failure_reason: str | None = None
    failure_message: str | None = None
    context: TraceContext | None = None

    @property
    def unsettled(self) -> tuple[Slice, ...]:
        """The slices that are still SCHEDULED. They are the last ones of the schedule."""
        return _unsettled(self)

    @property
    def slice_states(self) -> tuple[SliceState, ...]:
        """The state of each slice, in the order of `slices`."""
        return _slice_states(self)

    @property
    def cancelled(self) -> bool:
        """Whether the order was cancelled, before its split or after it."""
        return _is_cancelled(self)

    @property
    def quantities(self) -> Quantities:
        """The shares by state."""
        return _quantities(self)

    @property
    def due_at(self) -> datetime | None:
        """When a releaser has to process this order; None if it has nothing to release."""
        return _due_at(self)

    @property
    def terms(self) -> SplitTerms:
        """Everything that determines its schedule."""
        return split_terms_of(
            self.spec,
            seed=self.split_seed,
            starts_at=self.window_starts_at,
            sessions=self.sessions,
        )

    @property
    def window(self) -> Window:
        """When its first slice is due, and when its last one."""
        return Window(starts_at=self.window_starts_at, ends_at=self.terms.ends_at)


def decide(command: Command, order: Order | None) -> tuple[Event, ...]:
    """The events that this command causes, given the order so far; empty if there is nothing to do.

    An order is split, fails or is cancelled once: SplitOrder and TimeOutOrder after that cause no
    event. Placing an order again with the same data, and cancelling it again, cause none either.

    Raises:
        OrderUniqueKeyTaken: the key belongs to an order with other data.
        OrderRefused, MarketClosed: a new order's window is not possible at this time, or in the
            trading sessions; see `resolve_window`.
        OrderNotPlaced: there is no order in the stream.
        NothingToCancel: the order failed, or all of its slices are settled.
        SplitterUnknown: this code does not have the order's splitter version.
    """
    match command:
        case PlaceOrder():
            return _place(command, order)
        case SplitOrder():
            return tuple(_split(command, pending) for pending in _still_pending(order))
        case TimeOutOrder():
            return tuple(_time_out(command, pending) for pending in _still_pending(order))
        case CancelOrder():
            return _cancel(command, _placed(order))
        case ReleaseSlices():
            return _release(command, _placed(order))
        case _:
            assert_never(command)


def evolve(order: Order | None, event: Event) -> Order:
    """The order after this event.

    Raises:
        HistoryBroken: the event cannot follow: it is a second creation, a second outcome, it leaves
            a gap in the versions, settles anything but the next unsettled slices, has impossible
            trading sessions, or is an event of a halt.
    """
    match event:
        case OrderCreated():
            return _created(order, event)
        case SlicesScheduled() | SplittingFailed() | TimedOut():
            return _with_outcome(_preceding(order, event), event)
        case OrderCancelled():
            return _after_cancel(_preceding(order, event), event)
        case SlicesReleased():
            return _after_release(_preceding(order, event), event)
        case SlicesExpired():
            return _after_expiry(_preceding(order, event), event)
        case ReleasesHalted() | ReleasesResumed():
            raise HistoryBroken(f"{type(event).__name__} is not an event of an order")
        case _:
            assert_never(event)


def preview(command: PlaceOrder) -> Order:
    """The order as it would be if it were placed and split at once. Nothing is recorded.

    Its slices are those that a worker would append to an order with this seed and time. An order
    without slices is FAILED: its schedule breaks a rule, which is a bug.

    Raises:
        OrderRefused, MarketClosed: as `decide`.
    """
    order = fold(decide(command, None))
    split_at_once = SplitOrder(
        claim=Claim(worker="preview", claimed_at=command.at, first_claimed_at=command.at),
        max_split_delay_seconds=0,
        at=command.at,
        request_id=command.trace.request_id,
        recorded_by=command.recorded_by,
    )
    (outcome,) = decide(split_at_once, order)
    return evolve(order, outcome)


def outcome_of(event: SlicesScheduled | SplittingFailed | TimedOut | OrderCancelled) -> Outcome:
    """The outcome that this event gives a pending order."""
    match event:
        case SlicesScheduled():
            return Outcome(state="COMPLETED", slices=event.slices)
        case SplittingFailed():
            return Outcome(
                state="FAILED", failure_reason=event.reason, failure_message=event.message
            )
        case TimedOut():
            message = timed_out_message(event)
            return Outcome(state="FAILED", failure_reason=TIMED_OUT, failure_message=message)
        case OrderCancelled():
            return Outcome(state="CANCELLED")
        case _:
            assert_never(event)


def fold(events: Iterable[Event]) -> Order | None:
    """The order after all these events; None if there are none."""
    order: Order | None = None
    for event in events:
        order = evolve(order, event)
    return order


def timed_out_message(event: TimedOut) -> str:
    """The failure message of a TIMED_OUT order."""
    return (
        f"claimed by {event.claimed_by} and not split within {event.timeout_seconds:g} s; "
        "place it again under a new key if it is still wanted"
    )


def _place(command: PlaceOrder, order: Order | None) -> tuple[Event, ...]:
    spec = command.spec
    key = spec.order_unique_key
    if order is not None:
        if order.spec != spec:
            raise OrderUniqueKeyTaken(key, order.id)
        return ()
    window = resolve_window(spec, command.at, command.default_policy, command.calendar)
    created = OrderCreated(
        originator_id=order_id_for(command.key_scope, key),
        originator_version=1,
        timestamp=command.at,
        recorded_by=command.recorded_by,
        trace=command.trace,
        key_scope=command.key_scope,
        **flat_fields(spec),
        split_seed=f"{command.split_seed:016x}",
        splitter_version=splitter_version_for(window.sessions),
        placed_by=command.placed_by,
        release=command.release,
        window_starts_at=window.starts_at,
        applied_policy=window.policy,
        sessions=tuple(map(msgspec.structs.astuple, window.sessions)),  # as [opens_at, closes_at]
        calendar_digest=window.calendar_digest,
    )
    return (created,)


def _placed(order: Order | None) -> Order:
    if order is None:
        raise OrderNotPlaced("there is no order in this stream")
    return order


def _still_pending(order: Order | None) -> tuple[Order, ...]:
    placed = _placed(order)
    return (placed,) if placed.state == "PENDING" else ()


def _split(command: SplitOrder, order: Order) -> SlicesScheduled | SplittingFailed:
    worker = command.claim.worker
    common = _next_event(command, order, worker, command.context)
    common |= {"worker": worker, "claimed_at": command.claim.claimed_at}
    late = _late_message(command, order)
    if late is not None:
        return SplittingFailed(**common, reason=TOO_LATE, message=late)
    slices = split(order.terms, order.splitter_version)
    broken = broken_rules(order.terms, slices)
    if broken:
        breaches = "; ".join(f"{b.rule}: {b.breach}" for b in broken)
        return SplittingFailed(**common, reason=SPLITTING_ERROR, message=breaches)
    return SlicesScheduled(**common, slices=slices, splitter_version=order.splitter_version)


def _late_message(command: SplitOrder, order: Order) -> str | None:
    """Why it is too late to split the order (slices would be due in one burst), or None."""
    since, event = order.created_at, "its creation"
    if order.window_starts_at > since:
        since, event = order.window_starts_at, "the start of its window"
    delay = (command.claim.first_claimed_at - since).total_seconds()
    if command.claim.claimed_at > order.terms.ends_at:
        claimed_after = (command.claim.claimed_at - since).total_seconds()
        return (
            f"claimed {claimed_after:.1f} s after {event}, when its window of "
            f"{order.spec.split_config.duration_minutes} min had ended"
        )
    if 0 < command.max_split_delay_seconds < delay:
        return (
            f"first claimed {delay:.1f} s after {event}, "
            f"later than the {command.max_split_delay_seconds:g} s allowed"
        )
    return None


def _time_out(command: TimeOutOrder, order: Order) -> TimedOut:
    return TimedOut(
        **_next_event(command, order, command.detected_by),
        claimed_by=command.claim.worker,
        claimed_at=command.claim.claimed_at,
        timeout_seconds=command.timeout_seconds,
        detected_by=command.detected_by,
    )


def _cancel(command: CancelOrder, order: Order) -> tuple[Event, ...]:
    if order.cancelled:
        return ()
    quantities = order.quantities
    if quantities.remaining == 0:
        why = _FAILED_BEFORE if order.state == "FAILED" else _SETTLED_BEFORE
        raise NothingToCancel(order.id, quantities, why)
    cancelled = OrderCancelled(
        originator_id=order.id,
        originator_version=order.version + 1,
        timestamp=command.at,
        recorded_by=command.recorded_by,
        trace=command.trace,
        sequence_numbers=tuple(s.sequence_number for s in order.unsettled),
        quantity=quantities.remaining,
        reason=command.reason,
        cancelled_by=command.cancelled_by,
    )
    return (cancelled,)


def _release(command: ReleaseSlices, order: Order) -> tuple[Event, ...]:
    due = order.due_at
    if due is None or due > command.at:
        return ()
    return release_due(
        command,
        DueOrder(
            order_id=order.id,
            version=order.version,
            order_unique_key=order.spec.order_unique_key,
            instrument=order.spec.instrument,
            side=order.spec.side,
            placed_by=order.placed_by,
            trace_id=order.trace_id,
            unsettled=order.unsettled,
        ),
    )


def _next_event(
    command: SplitOrder | TimeOutOrder,
    order: Order,
    process: str,
    context: TraceContext | None = None,
) -> dict[str, Any]:
    return background_event_fields(
        order_id=order.id,
        version=order.version + 1,
        trace_id=order.trace_id,
        at=command.at,
        request_id=command.request_id,
        recorded_by=command.recorded_by,
        process=process,
        context=context or order.context,
    )


# Properties delegate to functions because the mutation tests do not change properties.


def _unsettled(order: Order) -> tuple[Slice, ...]:
    return order.slices[len(order.settled) :]


def _slice_states(order: Order) -> tuple[SliceState, ...]:
    scheduled: tuple[SliceState, ...] = ("SCHEDULED",)
    return order.settled + scheduled * len(order.unsettled)


def _is_cancelled(order: Order) -> bool:
    return order.state == "CANCELLED" or "CANCELLED" in order.settled


def _quantities(order: Order) -> Quantities:
    total = order.spec.total_quantity
    match order.state:
        case "PENDING":
            return Quantities(remaining=total)
        case "FAILED":
            return Quantities(remaining=0, expired=total)
        case "CANCELLED":
            return Quantities(remaining=0, cancelled=total)
        case "COMPLETED":
            shares: dict[SliceState, int] = dict.fromkeys(SLICE_STATES, 0)
            for place, state in enumerate(order.slice_states):
                shares[state] += order.slices[place].quantity
            return Quantities(
                remaining=shares["SCHEDULED"],
                released=shares["RELEASED"],
                cancelled=shares["CANCELLED"],
                expired=shares["EXPIRED"],
            )
        case _:
            assert_never(order.state)


def _due_at(order: Order) -> datetime | None:
    if not order.release or not order.unsettled:
        return None
    settled = len(order.settled)
    released = order.slices[settled - 1] if order.settled[-1:] == ("RELEASED",) else None
    return due_at(order.slices[settled], released, order.updated_at)


def _created(order: Order | None, event: OrderCreated) -> Order:
    if order is not None or event.originator_version != 1:
        raise HistoryBroken(
            f"OrderCreated at version {event.originator_version} is not the first event"
        )
    if event.sessions:
        require_possible_sessions(event.terms)
    return Order(
        id=event.originator_id,
        version=1,
        key_scope=event.key_scope,
        placed_by=event.placed_by,
        spec=event.spec,
        split_seed=int(event.split_seed, 16),
        splitter_version=event.splitter_version,
        release=event.release,
        trace_id=event.trace.trace_id,
        context=event.trace.context,
        created_at=event.timestamp,
        updated_at=event.timestamp,
        window_starts_at=event.window_starts_at,
        sessions=event.trading_sessions,
    )


def _preceding(order: Order | None, event: Event) -> Order:
    """The order before this event. The event must have the next version."""
    if order is None or event.originator_version != order.version + 1:
        raise HistoryBroken(
            f"{type(event).__name__} at version {event.originator_version} of order "
            f"{event.originator_id} does not follow the order's last event"
        )
    return order


def _with_outcome(
    order: Order, event: SlicesScheduled | SplittingFailed | TimedOut | OrderCancelled
) -> Order:
    _require(order, event, order.state == "PENDING", "the order already has an outcome")
    outcome = outcome_of(event)
    completed_at = event.timestamp if outcome.state == "COMPLETED" else None
    changed = msgspec.structs.asdict(outcome)
    return _after(order, event, split_completed_at=completed_at, **changed)


def _after_cancel(order: Order, event: OrderCancelled) -> Order:
    numbers, quantity = event.sequence_numbers, event.quantity
    if order.state == "PENDING":
        whole = (numbers, quantity) == ((), order.spec.total_quantity)
        _require(order, event, whole, "it does not cancel the whole order")
        return _with_outcome(order, event)
    all_left = len(numbers) == len(order.unsettled)
    _require(order, event, all_left, "it does not cancel every unsettled slice")
    return _with_settled(order, event, "CANCELLED", numbers, quantity)


def _after_release(order: Order, event: SlicesReleased) -> Order:
    _require(order, event, order.release, "the slices of this order are not released")
    spec = order.spec
    copied = (event.order_unique_key, event.instrument, event.side)
    same = copied == (spec.order_unique_key, spec.instrument, spec.side)
    _require(order, event, same, "its key, instrument or side is not the order's")
    planned = event.slices == order.unsettled[: len(event.slices)]
    _require(order, event, planned, "its slices are not the next unsettled ones")
    numbers = tuple(s.sequence_number for s in event.slices)
    quantity = sum(s.quantity for s in event.slices)
    return _with_settled(order, event, "RELEASED", numbers, quantity)


def _after_expiry(order: Order, event: SlicesExpired) -> Order:
    _require(order, event, order.release, "the slices of this order are not released")
    return _with_settled(order, event, "EXPIRED", event.sequence_numbers, event.quantity)


def _with_settled(
    order: Order, event: Event, state: SliceState, numbers: tuple[int, ...], quantity: int
) -> Order:
    """The order after this event, which settles the next slices: these numbers, this quantity."""
    settled = order.unsettled[: len(numbers)]
    _require(order, event, numbers != (), "it settles no slice")
    following = numbers == tuple(s.sequence_number for s in settled)
    _require(order, event, following, "its slices are not the next unsettled ones")
    shares = sum(s.quantity for s in settled)
    _require(order, event, quantity == shares, f"its slices have {shares} shares, not {quantity}")
    return _after(order, event, settled=order.settled + (state,) * len(numbers))


def _after(order: Order, event: Event, **changed: Any) -> Order:  # noqa: ANN401 - any fields
    return msgspec.structs.replace(
        order, version=event.originator_version, updated_at=event.timestamp, **changed
    )


def _require(order: Order, event: Event, holds: bool, otherwise: str) -> None:  # noqa: FBT001 - as an assertion
    if not holds:
        raise HistoryBroken(
            f"{type(event).__name__} at version {event.originator_version} of order {order.id} "
            f"cannot follow: {otherwise} (the order is {order.state}, {len(order.settled)} of its "
            f"{len(order.slices)} slices are settled)"
        )
