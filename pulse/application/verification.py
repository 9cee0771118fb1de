"""Verification of the log: derives every stored schedule again and compares it byte for byte.

It only reads the log. Each schedule is compared with the order's creation (its seed and splitter
version) and checked by every rule of `SCHEDULE_RULES`. Each event of the order must follow those
before it (see `evolve`), and have the bytes that Pulse writes; so must each event of a halt.
Deleted streams, deleted last events of a stream, and a history that was replaced as a whole cannot
be detected.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from itertools import chain
from typing import Final, Literal
from uuid import UUID

import msgspec
import structlog

from pulse.application.in_process import InProcessOrders
from pulse.application.orders import OrderNotFound
from pulse.domain import (
    HALTS_STREAM_ID,
    BrokenRule,
    Event,
    Halts,
    HistoryBroken,
    Order,
    OrderCreated,
    OrderRefused,
    Slice,
    SlicesScheduled,
    SplitTerms,
    SplitterUnknown,
    broken_rules,
    evolve,
    evolve_halts,
    fold,
    order_id_for,
    require_possible_sessions,
    require_valid_order,
    split,
    splitter_version_for,
)
from pulse.eventstore import EventMapper, EventStore, EventTooNew, EventUnreadable, RecordedEvent
from pulse.projections.lists import MAX_ORDERS_A_PAGE, OrderQuery
from pulse.projections.parking import ParkedOrder

_log = structlog.get_logger(__name__)

MAX_PAGE_EVENTS: Final = 1000
_BEFORE_EVERY_POSITION: Final = -(2**63)

ScheduleFault = Literal["DIFFERS", "BREAKS_RULE", "CANNOT_FOLLOW", "UNREADABLE", "NEWER_CODE"]
"""What can be wrong with an order that has a schedule.

CANNOT_FOLLOW: a later event releases, expires or cancels other slices or shares than are left.
NEWER_CODE: the order was not verified, and may be right.
"""

Obstacle = Literal["PARKED", "UNREADABLE", "NEWER_CODE"]


class ScheduleFinding(msgspec.Struct, frozen=True):
    """What is wrong with an order that has a schedule, or with the stream of halts.

    `position` is that of the event at fault in the log; that of the schedule, if the order cannot
    be read or derived.
    """

    order_id: UUID
    position: int
    fault: ScheduleFault
    detail: str
    broken_rules: tuple[BrokenRule, ...] = ()


class Unverified(msgspec.Struct, frozen=True):
    """An order that was not verified; `position` is that of the event that prevents it."""

    order_id: UUID
    position: int
    obstacle: Obstacle
    detail: str

    @classmethod
    def parked(cls, order: ParkedOrder) -> "Unverified":
        """A parked order."""
        return cls(order.order_id, order.position, "PARKED", order.reason)


class Verified(msgspec.Struct, frozen=True):
    """A verified page of the log, which ends at `position`; the whole log ends at `end`.

    `slices` counts the slices of schedules that could be derived. `unverified` has orders that have
    an unreadable event but no schedule; what is wrong with a schedule is a finding.
    """

    position: int
    end: int
    schedules: int
    slices: int
    findings: tuple[ScheduleFinding, ...]
    unverified: tuple[Unverified, ...]


async def verify_log(store: EventStore) -> AsyncIterator[Verified]:
    """Verify the log, page by page, up to its end at the time of the call.

    Raises:
        DatabaseUnavailable: it cannot be read.
    """
    position, end = _BEFORE_EVERY_POSITION, await store.end()
    while position < end:
        page = await store.read_log(after=position, limit=MAX_PAGE_EVENTS)
        records = [record for record in page if record.position <= end]
        if not records:
            return
        position = records[-1].position
        yield await _verify(store, records, end)


async def verify_order(store: EventStore, order_id: UUID) -> Verified:
    """Verify one order, which need not have a schedule.

    Raises:
        OrderNotFound: there is no such order.
        DatabaseUnavailable: it cannot be read.
    """
    stream = await store.read_stream(order_id)
    if not stream:
        raise OrderNotFound(str(order_id))
    return await _verify(store, stream, stream[-1].position)


async def newest_terms(
    store: EventStore, orders: InProcessOrders, max_orders: int
) -> list[SplitTerms]:
    """The split terms of the newest orders, at most `max_orders`. Unreadable orders are left out.

    Raises:
        DatabaseUnavailable: they cannot be read.
    """
    terms: list[SplitTerms] = []
    before: int | None = None
    while len(terms) < max_orders:
        limit = min(MAX_ORDERS_A_PAGE, max_orders - len(terms))
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
    """Refuse a creation that Pulse cannot have accepted, such as one altered to a billion slices.

    Raises:
        HistoryBroken: the creation was altered; the error says how.
    """
    if created.originator_id != order_id_for(created.key_scope, created.order_unique_key):
        raise HistoryBroken("its id is not derived from its key")
    if created.timestamp.utcoffset() != timedelta(0):
        raise HistoryBroken("its time is not in UTC")
    if created.splitter_version < 1:
        raise HistoryBroken(f"there was never a splitter version {created.splitter_version}")
    try:
        require_valid_order(created.spec)
    except OrderRefused as refusal:
        raise HistoryBroken(f"Pulse never accepted such an order: {refusal}") from None
    _require_accepted_window(created)


def _require_accepted_window(created: OrderCreated) -> None:
    sessions, policy = created.sessions, created.applied_policy
    times = [created.window_starts_at, *chain.from_iterable(sessions)]
    if any(time.utcoffset() != timedelta(0) for time in times):
        raise HistoryBroken("a time of its window is not in UTC")
    if policy != (created.session_policy or policy):
        raise HistoryBroken(f"{created.session_policy} was asked for and {policy} applied")
    if bool(sessions) != (policy != "NONE") or bool(sessions) != bool(created.calendar_digest):
        raise HistoryBroken(f"its trading sessions do not belong to the policy {policy}")
    if splitter_version_for(created.trading_sessions) > created.splitter_version:
        raise HistoryBroken("its splitter version does not know trading sessions")
    asked = created.timestamp if created.start_at is None else created.start_at
    moved = created.window_starts_at != asked
    if moved and (not sessions or created.window_starts_at != max(asked, sessions[0][0])):
        raise HistoryBroken("its window does not start where it must")
    if sessions:
        require_possible_sessions(created.terms)


async def _verify(store: EventStore, records: Sequence[RecordedEvent], end: int) -> Verified:
    unread = [found for record in records if (found := _obstacle(store.mapper, record))]
    scheduled = [record for record in records if record.topic == SlicesScheduled.TOPIC]
    order_ids = {record.originator_id for record in scheduled} | {o.order_id for o in unread}
    streams = await store.read_streams(list(order_ids)) if order_ids else {}
    slices = 0
    findings: list[ScheduleFinding] = []
    for record in scheduled:
        try:
            finding, count = _verify_schedule(store.mapper, streams[record.originator_id], record)
        except Exception as error:  # noqa: BLE001 - one altered order must not hide the others
            finding, count = _finding(record, *_unreadable_reason(error, record)), 0
        slices += count
        findings += [finding] if finding is not None else []
    findings += await _verify_halts(store, records)
    unverified = tuple(
        found
        for found in unread
        if all(record.topic != SlicesScheduled.TOPIC for record in streams[found.order_id])
    )
    position = records[-1].position
    return Verified(position, end, len(scheduled), slices, tuple(findings), unverified)


async def _verify_halts(
    store: EventStore, records: Sequence[RecordedEvent]
) -> list[ScheduleFinding]:
    """What is wrong with the events of halts among these records."""
    own = [
        record
        for record in records
        if record.originator_id == HALTS_STREAM_ID and store.mapper.owns(record.topic)
    ]
    if not own:
        return []
    stream = await store.read_stream(HALTS_STREAM_ID)
    halts, checked = Halts(), {record.position for record in own}
    findings: list[ScheduleFinding] = []
    for record in stream:
        if not store.mapper.owns(record.topic):
            continue
        try:
            event = store.mapper.event_of(record)
            halts = evolve_halts(halts, event)
        except (EventTooNew, EventUnreadable):
            break  # listed as unverified; what follows cannot be compared
        except HistoryBroken as error:
            findings.append(_finding(record, "CANNOT_FOLLOW", str(error)))
            break
        if altered := _first_altered_byte(store.mapper, [event], [record]):
            findings.append(_finding(altered[0], "DIFFERS", altered[1]))
    return [finding for finding in findings if finding.position in checked]


def _obstacle(mapper: EventMapper, record: RecordedEvent) -> Unverified | None:
    """Why the event cannot be read, or None. Events of other programs are skipped."""
    if not mapper.owns(record.topic):
        return None
    try:
        event = mapper.event_of(record)
        if isinstance(event, OrderCreated):
            require_accepted(event)
    except Exception as error:  # noqa: BLE001 - one altered order must not hide the others
        return Unverified(record.originator_id, record.position, *_unreadable_reason(error, record))
    return None


def _unreadable_reason(
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
) -> tuple[ScheduleFinding | None, int]:
    """What is wrong with this schedule's order, if anything, and how many slices it has."""
    own = [one for one in stream if mapper.owns(one.topic)]
    events = [mapper.event_of(one) for one in own]
    created, scheduled, order = _split_order(events, until=own.index(record) + 1)
    derived = split(created.terms, created.splitter_version)
    broken = broken_rules(created.terms, scheduled.slices)
    finding = None
    if difference := _first_difference(created, scheduled, derived):
        finding = _finding(record, "DIFFERS", difference, broken)
    elif out_of_place := _first_out_of_place(order, events, own):
        finding = _finding(out_of_place[0], "CANNOT_FOLLOW", out_of_place[1])
    elif altered := _first_altered_byte(mapper, events, own):
        finding = _finding(altered[0], "DIFFERS", altered[1], broken)
    elif broken:
        breach = f"{broken[0].rule}: {broken[0].breach}"
        finding = _finding(record, "BREAKS_RULE", breach, broken)
    return finding, len(scheduled.slices)


def _split_order(
    events: Sequence[Event], until: int
) -> tuple[OrderCreated, SlicesScheduled, Order]:
    """The creation, the schedule, and the order after these two, the first `until` events.

    Raises:
        HistoryBroken: these are not the events of such an order, or its creation was altered.
    """
    for event in events[:1]:
        if isinstance(event, OrderCreated):
            require_accepted(event)
    order = fold(events[:until])
    match events[:until]:
        case (OrderCreated() as created, SlicesScheduled() as scheduled) if order is not None:
            return created, scheduled, order
        case _:
            raise HistoryBroken("the order has a schedule but no creation before it")


def _first_out_of_place(
    order: Order, events: Sequence[Event], own: Sequence[RecordedEvent]
) -> tuple[RecordedEvent, str] | None:
    """The first event after the schedule that cannot follow, and why; None if all can."""
    for event, record in zip(events[order.version :], own[order.version :], strict=True):
        try:
            order = evolve(order, event)
        except HistoryBroken as error:
            return record, str(error)
    return None


def _first_difference(
    created: OrderCreated, scheduled: SlicesScheduled, derived: Sequence[Slice]
) -> str | None:
    """The first difference between stored and derived schedule, or None."""
    stored = scheduled.slices
    for one, other in zip(stored, derived, strict=False):
        if one != other:
            number = other.sequence_number
            return f"slice {number} is stored as {_slice_text(one)}, derived {_slice_text(other)}"
    if len(stored) != len(derived):
        return f"{len(stored)} slices are stored, {len(derived)} derived"
    if scheduled.splitter_version != created.splitter_version:
        return (
            f"stored with splitter version {scheduled.splitter_version}, "
            f"but the creation has {created.splitter_version}"
        )
    return None


def _first_altered_byte(
    mapper: EventMapper, events: Sequence[Event], own: Sequence[RecordedEvent]
) -> tuple[RecordedEvent, str] | None:
    """The first event whose bytes are not those that Pulse writes, and from which byte on."""
    for event, record in zip(events, own, strict=True):
        written = mapper.state_as_stored(event, record)
        if written != record.state:
            pairs = enumerate(zip(written, record.state, strict=False))
            place = next((i for i, (one, other) in pairs if one != other), len(written))
            return record, (
                f"every slice is as derived, but the stored bytes of {type(event).__name__} at "
                f"version {event.originator_version} differ from its encoding, from byte "
                f"{place + 1} on"
            )
    return None


def _slice_text(s: Slice) -> str:
    at = msgspec.to_builtins(s.scheduled_at)
    return f"number {s.sequence_number}, {s.quantity} shares at {at}"


def _finding(
    record: RecordedEvent, fault: ScheduleFault, detail: str, broken: tuple[BrokenRule, ...] = ()
) -> ScheduleFinding:
    return ScheduleFinding(record.originator_id, record.position, fault, detail, broken)
