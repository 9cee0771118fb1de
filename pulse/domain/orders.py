"""The order: `decide` turns a command into events, `evolve` applies events to the order."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final, Literal, assert_never
from uuid import UUID

import msgspec

from pulse.domain.commands import Command, PlaceOrder, SplitOrder, TimeOutOrder
from pulse.domain.errors import HistoryBroken, OrderNotPlaced, OrderUniqueKeyTaken
from pulse.domain.events import (
    Event,
    OrderCreated,
    SlicesScheduled,
    SplittingFailed,
    TimedOut,
    flat_fields,
)
from pulse.domain.identity import order_id_for
from pulse.domain.order_request import OrderSpec
from pulse.domain.schedule_rules import broken_rules
from pulse.domain.splitting import CURRENT_SPLITTER_VERSION, SplitTerms, split, split_terms_of
from pulse.domain.values import Slice, Trace, Value

OrderState = Literal["PENDING", "COMPLETED", "FAILED"]
"""The state by events alone. A PENDING order with a claim is shown as IN_PROGRESS."""

TIMED_OUT: Final = "TIMED_OUT"
TOO_LATE: Final = "TOO_LATE"
SPLITTING_ERROR: Final = "SPLITTING_ERROR"


class Outcome(Value, frozen=True):
    """What the outcome of an order sets. An order has at most one."""

    state: OrderState
    slices: tuple[Slice, ...] = ()
    failure_reason: str | None = None
    failure_message: str | None = None


class Order(Value, frozen=True):
    """An order as folded from its events; `version` is that of the last one."""

    id: UUID
    version: int
    key_scope: str
    placed_by: str
    spec: OrderSpec
    split_seed: int
    splitter_version: int
    trace_id: str
    created_at: datetime
    updated_at: datetime
    state: OrderState = "PENDING"
    slices: tuple[Slice, ...] = ()
    failure_reason: str | None = None
    failure_message: str | None = None

    @property
    def terms(self) -> SplitTerms:
        """Everything that determines its schedule."""
        return split_terms_of(self.spec, seed=self.split_seed, starts_at=self.created_at)

    @property
    def window_ends_at(self) -> datetime:
        """When the last slice is due."""
        return self.created_at + timedelta(minutes=self.spec.split_config.duration_minutes)


def decide(command: Command, order: Order | None) -> tuple[Event, ...]:
    """The events that this command causes, given the order so far; empty if there is nothing to do.

    An order has one outcome: a command after it causes no event. Placing an order again with the
    same data causes none either.

    Raises:
        OrderUniqueKeyTaken: the key belongs to an order with other data.
        OrderNotPlaced: there is no order to split or time out.
        SplitterUnknown: this code does not have the order's splitter version.
    """
    match command:
        case PlaceOrder():
            return _place(command, order)
        case SplitOrder():
            return tuple(_split(command, pending) for pending in _still_pending(order))
        case TimeOutOrder():
            return tuple(_time_out(command, pending) for pending in _still_pending(order))
        case _:
            assert_never(command)


def evolve(order: Order | None, event: Event) -> Order:
    """The order after this event.

    Raises:
        HistoryBroken: the event cannot follow: it is a second creation, an outcome without an
            order, a second outcome, or it leaves a gap in the versions.
    """
    match event:
        case OrderCreated():
            return _created(order, event)
        case SlicesScheduled() | SplittingFailed() | TimedOut():
            return _with_outcome(order, event, outcome_of(event))
        case _:
            assert_never(event)


def outcome_of(event: SlicesScheduled | SplittingFailed | TimedOut) -> Outcome:
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
    created = OrderCreated(
        originator_id=order_id_for(command.key_scope, key),
        originator_version=1,
        timestamp=command.at,
        recorded_by=command.recorded_by,
        trace=command.trace,
        key_scope=command.key_scope,
        **flat_fields(spec),
        split_seed=f"{command.split_seed:016x}",
        splitter_version=CURRENT_SPLITTER_VERSION,
        placed_by=command.placed_by,
    )
    return (created,)


def _still_pending(order: Order | None) -> tuple[Order, ...]:
    if order is None:
        raise OrderNotPlaced("there is no order in this stream")
    return (order,) if order.state == "PENDING" else ()


def _split(command: SplitOrder, order: Order) -> SlicesScheduled | SplittingFailed:
    worker = command.claim.worker
    common = _next_event(command, order, worker)
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
    """Why it is too late to split the order, or None. Its slices would be due in one burst."""
    first_claimed_at = command.claim.first_claimed_at
    delay = (first_claimed_at - order.created_at).total_seconds()
    if command.claim.claimed_at > order.window_ends_at:
        claimed_after = (command.claim.claimed_at - order.created_at).total_seconds()
        return (
            f"claimed {claimed_after:.1f} s after its creation, when its window of "
            f"{order.spec.split_config.duration_minutes} min had ended"
        )
    if 0 < command.max_split_delay_seconds < delay:
        return (
            f"first claimed {delay:.1f} s after its creation, "
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


def _next_event(command: SplitOrder | TimeOutOrder, order: Order, process: str) -> dict[str, Any]:
    """The fields of every event after the first. It keeps the trace id, with a new request id."""
    source = f"PULSE_BACKGROUND:{process}"
    return {
        "originator_id": order.id,
        "originator_version": order.version + 1,
        "timestamp": command.at,
        "recorded_by": command.recorded_by,
        "trace": Trace(
            trace_id=order.trace_id,
            trace_source=source,
            request_id=command.request_id,
            request_source=source,
        ),
    }


def _created(order: Order | None, event: OrderCreated) -> Order:
    if order is not None or event.originator_version != 1:
        raise HistoryBroken(
            f"OrderCreated at version {event.originator_version} is not the first event"
        )
    return Order(
        id=event.originator_id,
        version=1,
        key_scope=event.key_scope,
        placed_by=event.placed_by,
        spec=event.spec,
        split_seed=int(event.split_seed, 16),
        splitter_version=event.splitter_version,
        trace_id=event.trace.trace_id,
        created_at=event.timestamp,
        updated_at=event.timestamp,
    )


def _with_outcome(order: Order | None, event: Event, outcome: Outcome) -> Order:
    if order is None or order.state != "PENDING" or event.originator_version != order.version + 1:
        raise HistoryBroken(
            f"{type(event).__name__} at version {event.originator_version} of order "
            f"{event.originator_id} does not follow the last event of a pending order"
        )
    return msgspec.structs.replace(
        order,
        version=event.originator_version,
        updated_at=event.timestamp,
        **msgspec.structs.asdict(outcome),
    )
