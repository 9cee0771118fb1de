"""The auditor's proof: every stored schedule derived again and compared, byte for byte.

Reads the log alone and writes nothing. What it holds against each schedule is the order's own
creation (its seed, its splitter version) and every rule of `SCHEDULE_RULES`. What was taken out of
the log, or put in place of a whole history, it cannot see.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import timedelta
from typing import Final, Literal
from uuid import UUID

import msgspec
import structlog

from pulse.application.in_process import InProcessOrders
from pulse.application.orders import OrderNotFound
from pulse.domain import (
    BrokenRule,
    Event,
    HistoryBroken,
    OrderCreated,
    OrderRefused,
    Slice,
    SlicesScheduled,
    SplitTerms,
    SplitterUnknown,
    broken_rules,
    fold,
    order_id_for,
    require_valid_order,
    split,
)
from pulse.eventstore import EventMapper, EventStore, EventTooNew, EventUnreadable, RecordedEvent
from pulse.projections.lists import MAX_ORDERS_A_PAGE, OrderQuery
from pulse.projections.parking import ParkedOrder

_log = structlog.get_logger(__name__)

PAGE: Final = 1000
_BEFORE_EVERY_POSITION: Final = -(2**63)

Fault = Literal["DIFFERS", "BREAKS_RULE", "UNREADABLE", "NEWER_CODE"]
"""What can be wrong with a stored schedule. NEWER_CODE is no fault of it: nothing was proved."""

Obstacle = Literal["PARKED", "UNREADABLE", "NEWER_CODE"]


class Finding(msgspec.Struct, frozen=True):
    """What is wrong with one order's schedule; `position` is that of its event in the log."""

    order_id: UUID
    position: int
    fault: Fault
    detail: str
    broken_rules: tuple[BrokenRule, ...] = ()


class Unverified(msgspec.Struct, frozen=True):
    """An order that was not verified; `position` is that of the event at which it is stuck."""

    order_id: UUID
    position: int
    obstacle: Obstacle
    detail: str

    @classmethod
    def parked(cls, order: ParkedOrder) -> "Unverified":
        """An order that the projection has set aside."""
        return cls(order.order_id, order.position, "PARKED", order.reason)


class Verified(msgspec.Struct, frozen=True):
    """A part of the log that was verified: it ends at `position` of `end`.

    `slices` counts those of the schedules that could be derived. `unverified` has the events that
    cannot be read of orders without a schedule; what is wrong with a schedule is a finding.
    """

    position: int
    end: int
    schedules: int
    slices: int
    findings: tuple[Finding, ...]
    unverified: tuple[Unverified, ...]


async def verify_log(store: EventStore) -> AsyncIterator[Verified]:
    """Verify the log, part by part, up to where it ended when this began.

    Raises:
        DatabaseUnavailable: it cannot be read.
    """
    position, end = _BEFORE_EVERY_POSITION, await store.end()
    while position < end:
        page = await store.read_log(after=position, limit=PAGE)
        records = [record for record in page if record.position <= end]
        if not records:
            return
        position = records[-1].position
        yield await _verify(store, records, end)


async def verify_order(store: EventStore, order_id: UUID) -> Verified:
    """Verify one order, whose schedule may not exist.

    Raises:
        OrderNotFound: there is no such order.
        DatabaseUnavailable: it cannot be read.
    """
    stream = await store.read_stream(order_id)
    if not stream:
        raise OrderNotFound(str(order_id))
    return await _verify(store, stream, stream[-1].position)


async def newest_terms(store: EventStore, orders: InProcessOrders, most: int) -> list[SplitTerms]:
    """What the newest orders, at most so many, ask of a splitter; impossible ones are left out.

    Raises:
        DatabaseUnavailable: they cannot be read.
    """
    terms: list[SplitTerms] = []
    before: int | None = None
    while len(terms) < most:
        limit = min(MAX_ORDERS_A_PAGE, most - len(terms))
        page = await orders.orders(OrderQuery(limit=limit, before=before))
        streams = await store.read_streams([order.order_id for order in page.orders])
        for order in page.orders:
            for record in streams.get(order.order_id, ())[:1]:
                event = None if _obstacle(store.mapper, record) else store.mapper.event_of(record)
                terms += [event.terms] if isinstance(event, OrderCreated) else []
        before = page.next_before
        if before is None:
            break
    return terms


def require_accepted(created: OrderCreated) -> None:
    """Refuse what no order can have been: altered to a billion slices, say.

    Raises:
        HistoryBroken: it says what cannot be.
    """
    if created.originator_id != order_id_for(created.key_scope, created.order_unique_key):
        raise HistoryBroken("its id does not follow from its key")
    if created.timestamp.utcoffset() != timedelta(0):
        raise HistoryBroken("its time is not in UTC")
    if created.splitter_version < 1:
        raise HistoryBroken(f"there never was a splitter version {created.splitter_version}")
    try:
        require_valid_order(created.spec)
    except OrderRefused as refusal:
        raise HistoryBroken(f"no such order was ever accepted: {refusal}") from None


async def _verify(store: EventStore, records: Sequence[RecordedEvent], end: int) -> Verified:
    unread = [found for record in records if (found := _obstacle(store.mapper, record))]
    scheduled = [record for record in records if record.topic == SlicesScheduled.TOPIC]
    order_ids = {record.originator_id for record in scheduled} | {o.order_id for o in unread}
    streams = await store.read_streams(list(order_ids)) if order_ids else {}
    slices = 0
    findings: list[Finding] = []
    for record in scheduled:
        try:
            finding, count = _verify_schedule(store.mapper, streams[record.originator_id], record)
        except Exception as error:  # noqa: BLE001 - one altered order must not hide the others
            finding, count = _finding(record, *_why_unread(error, record)), 0
        slices += count
        findings += [finding] if finding is not None else []
    unverified = tuple(
        found
        for found in unread
        if all(record.topic != SlicesScheduled.TOPIC for record in streams[found.order_id])
    )
    position = records[-1].position
    return Verified(position, end, len(scheduled), slices, tuple(findings), unverified)


def _obstacle(mapper: EventMapper, record: RecordedEvent) -> Unverified | None:
    """What keeps the event from being read, if anything; other programs' events are no orders."""
    if not mapper.owns(record.topic):
        return None
    try:
        event = mapper.event_of(record)
        if isinstance(event, OrderCreated):
            require_accepted(event)
    except Exception as error:  # noqa: BLE001 - one altered order must not hide the others
        return Unverified(record.originator_id, record.position, *_why_unread(error, record))
    return None


def _why_unread(
    error: Exception, record: RecordedEvent
) -> tuple[Literal["UNREADABLE", "NEWER_CODE"], str]:
    match error:
        case EventTooNew() | SplitterUnknown():
            return "NEWER_CODE", str(error)
        case EventUnreadable() | HistoryBroken():
            return "UNREADABLE", str(error)
        case _:
            order_id = str(record.originator_id)
            _log.error("verification.crashed", order_id=order_id, exc_info=error)
            return "UNREADABLE", type(error).__name__


def _verify_schedule(
    mapper: EventMapper, stream: Sequence[RecordedEvent], record: RecordedEvent
) -> tuple[Finding | None, int]:
    """What is wrong with this schedule, if anything, and how many slices it has."""
    created, scheduled = _creation_and_schedule(mapper.events_of(stream))
    derived = split(created.terms, created.splitter_version)
    broken = broken_rules(created.terms, scheduled.slices)
    difference = _first_difference(created, scheduled, derived) or _first_altered_byte(
        mapper, (created, scheduled), stream
    )
    if difference is not None:
        return _finding(record, "DIFFERS", difference, broken), len(scheduled.slices)
    if broken:
        breach = f"{broken[0].rule}: {broken[0].breach}"
        return _finding(record, "BREAKS_RULE", breach, broken), len(scheduled.slices)
    return None, len(scheduled.slices)


def _creation_and_schedule(events: Iterable[Event]) -> tuple[OrderCreated, SlicesScheduled]:
    """The two events of a COMPLETED order.

    Raises:
        HistoryBroken: they do not follow each other, or the creation is not one that Pulse takes.
    """
    history = tuple(events)
    for event in history[:1]:
        if isinstance(event, OrderCreated):
            require_accepted(event)
    fold(history)
    match history:
        case (OrderCreated() as created, SlicesScheduled() as scheduled):
            return created, scheduled
        case _:
            raise HistoryBroken("the order has a schedule and no creation before it")


def _first_difference(
    created: OrderCreated, scheduled: SlicesScheduled, derived: Sequence[Slice]
) -> str | None:
    """The first slice that is not as it is derived; None where every one is."""
    stored = scheduled.slices
    for one, other in zip(stored, derived, strict=False):
        if one != other:
            number = other.sequence_number
            return f"slice {number} is stored as {_in_words(one)}, derived {_in_words(other)}"
    if len(stored) != len(derived):
        return f"{len(stored)} slices are stored, {len(derived)} derived"
    if scheduled.splitter_version != created.splitter_version:
        return (
            f"stored as of splitter version {scheduled.splitter_version}, "
            f"the creation asks for {created.splitter_version}"
        )
    return None


def _first_altered_byte(
    mapper: EventMapper, events: Iterable[Event], stream: Sequence[RecordedEvent]
) -> str | None:
    """The first byte that is not as Pulse writes the two events; None where every one is."""
    own = [record for record in stream if mapper.owns(record.topic)]
    for event, record in zip(events, own, strict=True):
        written = mapper.to_stored_event(event).state
        if written != record.state:
            pairs = enumerate(zip(written, record.state, strict=False))
            place = next((i for i, (one, other) in pairs if one != other), len(written))
            return (
                f"every slice is as derived, but {type(event).__name__} is stored in other bytes "
                f"than it is written in, from byte {place + 1} on"
            )
    return None


def _in_words(s: Slice) -> str:
    at = msgspec.to_builtins(s.scheduled_at)
    return f"number {s.sequence_number}, {s.quantity} shares at {at}"


def _finding(
    record: RecordedEvent, fault: Fault, detail: str, broken: tuple[BrokenRule, ...] = ()
) -> Finding:
    return Finding(record.originator_id, record.position, fault, detail, broken)
