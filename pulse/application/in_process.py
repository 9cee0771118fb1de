"""The use cases in this process, on its own event store."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, cast
from uuid import UUID

import msgspec

from pulse import metrics
from pulse.application.callers import Caller
from pulse.application.clock_watch import ClockOff
from pulse.application.event_view import (
    TOPICS,
    EventType,
    EventView,
    LogEntry,
    event_view,
    log_entry,
)
from pulse.application.list_reads import ListReads
from pulse.application.log_cursors import page_of_log
from pulse.application.log_reader import EventQuery, LogRange, LogReader
from pulse.application.orders import (
    CursorRefused,
    EntryPage,
    EntryPageBefore,
    EventPage,
    OrderNotFound,
    OrderPreview,
    OwnOrderPage,
    OwnOrderQuery,
    Placed,
)
from pulse.application.origin import Clock, Origin, SplitSeeds
from pulse.application.own_cursors import OwnCursorKey, decode_own_cursor, encode_own_cursor
from pulse.domain import (
    HALTS_STREAM_ID,
    CancelOrder,
    Event,
    HistoryBroken,
    MarketClosed,
    NothingToCancel,
    OrderRefused,
    OrderSpec,
    PlaceOrder,
    SessionCalendar,
    SessionPolicy,
    Trace,
    decide,
    evolve,
    order_id_for,
    preview,
)
from pulse.errors import PulseError
from pulse.eventstore import (
    AFTER_LOG,
    AppendOutcomeUnknown,
    EventMapper,
    EventStore,
    EventUnreadable,
    Positions,
    RecordedEvent,
    VersionTaken,
)
from pulse.postgres import DatabaseUnavailable
from pulse.projections.lists import (
    OrderPage,
    OrderQuery,
    SlicePage,
    SliceQuery,
    read_orders,
    read_slices,
)
from pulse.projections.order_view import FoldedStream, OrderReader, OrderView, view_of
from pulse.projections.queue_history import QueueHistory

MAX_RECORDING_DIFFERENCE: Final = timedelta(seconds=15)
"""How far an order's `created_at` may be from the time at which the log recorded it.

An order waits at most 5 s for its append and 4 s for the lock of the log. A process accepts no
orders while its clock is further from the database's than PULSE_MAX_CLOCK_OFFSET_SECONDS, by
default 1 s.
"""

_MAX_READ_BACKS = 32
_ORDERS_BETWEEN_YIELDS = 50
_WINDOW_REFUSALS: Final = (OrderRefused, MarketClosed)
"""What `decide` raises for a new order, depending on the time, the calendar and the settings."""

_UNREADABLE: Final = (
    "its events cannot be read, so Pulse neither splits nor releases it: report it to the operator"
)
_FOREIGN: Final = (
    "another program wrote to its stream, so Pulse neither splits nor releases it: report it to "
    "the operator"
)
_PARKED: Final = (
    "it is parked, so Pulse neither splits nor releases it: ask the operator to repair it, then "
    "cancel it"
)


class InProcessOrders:
    """`Orders` on the log, and the other queries of the internal API about orders.

    Only the primary key of the log makes order keys unique. Every method raises DatabaseUnavailable
    if nothing can be read now.

    `clock` gives the time of each order; if it raises ClockOff the order is refused.
    `require_served` is called before every use case and raises DatabaseUnavailable if this process
    may not use the database. The CLI passes none: it checks the schema when it opens the database.
    `release_slices` is whether the slices of orders placed here are released at their times.
    `session_policy` applies to orders that name none; `calendar` has the trading sessions that the
    policies other than NONE need. `component` names this part of Pulse in `recorded_by` of the
    events. `lists` reads the lists of orders and slices; without it they are read on the primary.
    """

    def __init__(  # noqa: PLR0913 - all dependencies of the use cases, passed once
        self,
        store: EventStore,
        reader: OrderReader,
        clock: Clock,
        origin: Origin,
        *,
        require_served: Callable[[], None] = lambda: None,
        release_slices: bool = True,
        session_policy: SessionPolicy = "NONE",
        calendar: SessionCalendar | None = None,
        component: str = "api",
        lists: ListReads | None = None,
    ) -> None:
        self._store = store
        self._reader = reader
        self._clock = clock
        self._require_served = require_served
        self._release_slices = release_slices
        self._session_policy: SessionPolicy = session_policy
        self._calendar = calendar
        self._recorded_by = origin.recorded_by(component)
        self._seeds = SplitSeeds()
        self._lists = lists or ListReads(reader.database, store.end)
        self.log = LogReader(store, QueueHistory(reader.database, store.mapper))
        """Reads ranges of the log."""
        self._read_backs = asyncio.Semaphore(_MAX_READ_BACKS)

    @property
    def mapper(self) -> EventMapper:
        """Converts between events and their stored form."""
        return self._store.mapper

    async def place(self, requested: OrderSpec, caller: Caller, trace: Trace) -> Placed:
        """Append the order's creation; if its version is taken, compare with the stored order."""
        self._require_served()
        command = self._command(requested, caller, trace, self._seeds.next())
        try:
            (created,) = decide(command, None)
        except _WINDOW_REFUSALS as refusal:
            return await self._stored_order_or_raise(command, refusal)
        try:
            position = await self._store.append(created)
        except VersionTaken as taken:
            return await self._stored_order(command, taken)
        key = requested.order_unique_key
        return Placed(created.originator_id, key, created=True, position=position)

    async def place_each(
        self, requested: Sequence[OrderSpec], caller: Caller, trace: Trace
    ) -> list[Placed | Exception]:
        """For each order, what `place` would return or raise, in as few statements as possible.

        If two orders have the same key, the first gets it.
        """
        try:
            self._require_served()
            commands = [self._command(one, caller, trace, self._seeds.next()) for one in requested]
        except (ClockOff, DatabaseUnavailable) as error:
            return [error] * len(requested)
        created: dict[int, Event] = {}
        refused: dict[int, PulseError] = {}
        for number, command in enumerate(commands):
            try:
                (created[number],) = decide(command, None)
            except _WINDOW_REFUSALS as refusal:
                refused[number] = refusal
            if number % _ORDERS_BETWEEN_YIELDS == 0:
                await asyncio.sleep(0)
        outcomes = await self._store.append_each(list(created.values()))
        known = {
            number: self._stored_order_or_raise(commands[number], refusal)
            for number, refusal in refused.items()
        }
        results: dict[int, Placed | Exception] = {}
        for (number, event), outcome in zip(created.items(), outcomes, strict=True):
            command = commands[number]
            if isinstance(outcome, VersionTaken):
                known[number] = self._stored_order(command, outcome)
            elif isinstance(outcome, Exception):
                results[number] = outcome
            else:
                key, (position,) = command.spec.order_unique_key, cast("Positions", outcome)
                placed = Placed(event.originator_id, key, created=True, position=position)
                results[number] = placed
        found = await asyncio.gather(*known.values(), return_exceptions=True)
        results |= zip(known, cast("list[Placed | Exception]", found), strict=True)
        return [results[number] for number in range(len(commands))]

    async def _stored_order(self, command: PlaceOrder, taken: VersionTaken) -> Placed:
        """The stored order, if it has the same data.

        The number of concurrent reads is bounded: a retried batch needs up to a thousand.

        Raises:
            AppendOutcomeUnknown: it cannot be read now.
        """
        order_id = taken.originator_id
        try:
            async with self._read_backs:
                known = await self._reader.as_created(order_id)
        except DatabaseUnavailable as error:
            raise AppendOutcomeUnknown(f"the stored order cannot be read: {error}") from error
        if known is None:
            raise AssertionError(f"version 1 of {order_id} was taken, yet its stream is empty")
        decide(command, known.order)
        key = command.spec.order_unique_key
        return Placed(order_id, key, created=False, position=known.position)

    async def _stored_order_or_raise(self, command: PlaceOrder, refusal: PulseError) -> Placed:
        """The stored order, if there is one. A retry must not be refused because time has passed.

        Raises:
            OrderUniqueKeyTaken: it has other data.
            AppendRefused, AppendOutcomeUnknown: it is not confirmed by the replicas.
            DatabaseUnavailable: it cannot be read now.
            PulseError: the refusal, if there is no order with this key.
        """
        key = command.spec.order_unique_key
        order_id = order_id_for(command.key_scope, key)
        async with self._read_backs:
            known = await self._reader.as_created(order_id)
        if known is None:
            raise refusal
        decide(command, known.order)
        await self._store.confirm(known.last)
        return Placed(order_id, key, created=False, position=known.position)

    def preview(
        self, requested: OrderSpec, split_seed: int | None, caller: Caller, trace: Trace
    ) -> OrderPreview:
        """The schedule that the order would get if it were placed now. Stores and reads nothing.

        Its key is not looked up. Without a seed a random one is used, as for an order.

        Raises:
            OrderRefused, MarketClosed: a new order would be refused too.
            ClockOff: the times would be wrong; an order would be refused too.
            PreviewFailed: the schedule breaks a rule, which is a bug.
        """
        self._require_served()
        seed = self._seeds.next() if split_seed is None else split_seed
        return OrderPreview.of(preview(self._command(requested, caller, trace, seed)))

    def _command(
        self, requested: OrderSpec, caller: Caller, trace: Trace, split_seed: int
    ) -> PlaceOrder:
        return PlaceOrder(
            spec=requested,
            key_scope=caller.key_scope,
            placed_by=caller.placed_by,
            split_seed=split_seed,
            release=self._release_slices,
            at=self._clock(),
            recorded_by=self._recorded_by,
            trace=trace,
            default_policy=self._session_policy,
            calendar=self._calendar,
        )

    async def order(
        self,
        order_id: UUID,
        caller: Caller,
        trace: Trace | None = None,  # noqa: ARG002 - of the protocol, used over HTTP
    ) -> OrderView:
        """Read an order from its stream, so it is found even if the projection lags."""
        self._require_served()
        await self._require_owner(order_id, caller)
        view = await self._reader.view(order_id)
        if view is None:
            raise OrderNotFound(str(order_id))
        return view

    async def cancel(
        self, order_id: UUID, reason: str | None, caller: Caller, trace: Trace
    ) -> OrderView:
        """Append the cancellation; after a conflict decide again from the stream.

        Each conflict means that the stream has one more event of Pulse. An order has few of them,
        so this ends.
        """
        self._require_served()
        await self._require_owner(order_id, caller)
        while True:
            stream = await self._stream_to_cancel(order_id)
            command = CancelOrder(
                reason=reason,
                cancelled_by=caller.placed_by,
                at=self._clock(),
                recorded_by=self._recorded_by,
                trace=trace,
            )
            events = decide(command, stream.order)
            if not events:
                await self._store.confirm(stream.last)
                return view_of(stream.order, stream.position)
            await self._require_cancellable(stream)
            (cancelled,) = events
            try:
                position = await self._store.append(cancelled)
            except VersionTaken:
                continue
            metrics.count_outcome("OrderCancelled")
            return view_of(evolve(stream.order, cancelled), position)

    async def _stream_to_cancel(self, order_id: UUID) -> FoldedStream:
        try:
            stream = await self._reader.folded(order_id)
        except (EventUnreadable, HistoryBroken) as error:
            raise NothingToCancel(order_id, None, _UNREADABLE) from error
        if stream is None:
            raise OrderNotFound(str(order_id))
        return stream

    async def _require_cancellable(self, stream: FoldedStream) -> None:
        """Refuse to cancel an order that Pulse neither splits nor releases."""
        order = stream.order
        if stream.version > order.version:
            raise NothingToCancel(order.id, order.quantities, _FOREIGN)
        if await self._reader.parked_position(order.id) is not None:
            raise NothingToCancel(order.id, order.quantities, _PARKED)

    async def history(
        self,
        order_id: UUID,
        caller: Caller,
        trace: Trace | None = None,  # noqa: ARG002 - of the protocol, used over HTTP
    ) -> Sequence[EventView]:
        """Read an order's events from its stream, as they are stored."""
        records = await self._records(order_id, caller)
        return [event_view(record, self._store.mapper) for record in records]

    async def entries(self, order_id: UUID, caller: Caller) -> Sequence[LogEntry]:
        """The history of an order, each event also decoded.

        Raises:
            OrderNotFound: there is none, or it belongs to another caller.
        """
        records = await self._records(order_id, caller)
        return [log_entry(record, self._store.mapper) for record in records]

    async def parked_position(self, order_id: UUID) -> int | None:
        """The position of the event that could not be applied; None if the order is not parked."""
        self._require_served()
        return await self._reader.parked_position(order_id)

    async def _records(self, order_id: UUID, caller: Caller) -> Sequence[RecordedEvent]:
        self._require_served()
        _require_order_id(order_id)
        await self._require_owner(order_id, caller)
        records = await self._store.read_stream(order_id)
        if not records:
            raise OrderNotFound(str(order_id))
        return records

    async def orders(self, query: OrderQuery) -> OrderPage:
        """A page of orders, newest first, read from the projection in one snapshot.

        `created_from` and `created_before` are also turned into positions, by the times at which
        the log recorded its events. An order that was recorded more than
        MAX_RECORDING_DIFFERENCE before or after its `created_at` may be missing.

        Raises:
            CursorRefused: the cursor is of another log, `query.log_id`.
            PositionNotReached: the queue does not reflect `query.min_position` in time.
            PositionBeyondLog: the log ends before it.
        """
        self._require_served()
        reads = self._lists.not_older_than(query.min_position)
        reading = read_orders(reads, await self._with_positions(query))
        return await page_of_log(self._store, reading, query.log_id)

    @property
    def pages_may_be_older(self) -> bool:
        """Whether there is a replica.

        With one, a page can be older than the page before it, unless its cursor prevents that.
        """
        return self._lists.has_replica

    async def own_orders(
        self,
        query: OwnOrderQuery,
        caller: Caller,
        trace: Trace | None = None,  # noqa: ARG002 - of the protocol, used over HTTP
    ) -> OwnOrderPage:
        """Read the orders from the projection. A page examines only orders of the caller.

        They are read on the primary: a caller of the gateway cannot name a position.
        """
        self._require_served()
        if caller.is_internal:
            raise AssertionError("an internal caller has no orders of its own")
        key = query.order_unique_key
        wanted = OrderQuery(
            limit=query.limit,
            order_queue_status=query.order_queue_status,
            instrument=query.instrument,
            order_id=None if key is None else order_id_for(caller.key_scope, key),
            placed_by=caller.placed_by,
            created_from=query.created_from,
            created_before=query.created_before,
            before=await self._position_before(query, caller),
            of_caller_only=True,
        )
        page = await read_orders(self._reader.database, await self._with_positions(wanted))
        orders = tuple(o for o in page.orders if caller.may_read(o.order_id, o.order_unique_key))
        last = page.last_examined
        cursor = None
        if last is not None and page.log_id is not None:
            cursor = encode_own_cursor(query, caller, OwnCursorKey.after(last, page.log_id))
        return OwnOrderPage(orders, cursor, page.as_of_position)

    async def _position_before(self, query: OwnOrderQuery, caller: Caller) -> int | None:
        """The position of creation of the order in the cursor."""
        place = decode_own_cursor(query, caller)
        if place is None:
            return None
        if not place.is_of(await self._store.log_id()):
            raise CursorRefused(CursorRefused.OF_EARLIER_LOG)
        try:
            await self._require_owner(place.order_id, caller)
        except OrderNotFound:
            raise CursorRefused(CursorRefused.NOT_OF_THIS_LIST) from None
        records = await self._store.read_stream(place.order_id)
        if not records:  # the id is derived from an empty key, so it belongs to no order
            raise CursorRefused(CursorRefused.NOT_OF_THIS_LIST)
        return records[0].position

    async def _with_positions(self, query: OrderQuery) -> OrderQuery:
        times = [
            time
            for time in (
                _moved(query.created_from, -MAX_RECORDING_DIFFERENCE),
                _moved(query.created_before, MAX_RECORDING_DIFFERENCE),
            )
            if time is not None
        ]
        if not times:
            return query
        positions = await self._store.positions_at(times)
        if query.created_from is not None:
            query = msgspec.structs.replace(query, since=positions[0])
        if query.created_before is not None:
            before = positions[-1] if query.before is None else min(query.before, positions[-1])
            query = msgspec.structs.replace(query, before=before)
        return query

    async def slices(self, query: SliceQuery) -> SlicePage:
        """A page of slices by time, read from the projection; errors as `orders`."""
        self._require_served()
        reads = self._lists.not_older_than(query.min_position)
        return await page_of_log(self._store, read_slices(reads, query), query.log_id)

    async def events(self, query: EventQuery, limit: int) -> EventPage:
        """A page of the log, in commit order.

        Raises:
            PositionBeyondLog: `query.after` is beyond the end of the log.
        """
        self._require_served()
        page = await self.log.first_page(query, limit)
        events = tuple(event_view(record, self._store.mapper) for record in page.records)
        return EventPage(page.log_id, events, page.next_after)

    async def entries_after(self, query: EventQuery, limit: int) -> EntryPage:
        """A page of the log, in commit order, each event also decoded.

        Raises:
            PositionBeyondLog: `query.after` is beyond the end of the log.
        """
        self._require_served()
        page = await self.log.first_page(query, limit)
        return EntryPage(self._entries(page.records), page.next_after)

    async def entries_before(
        self, before: int | None, event_type: EventType | None, limit: int
    ) -> EntryPageBefore:
        """The events before a position, or the latest, newest first.

        With a type, at most 10,000 events are scanned, so a page may be short and not the last one.
        """
        self._require_served()
        page = await self._store.read_log_before(
            before=AFTER_LOG if before is None else before,
            limit=limit,
            topics=None if event_type is None else [TOPICS[event_type]],
        )
        return EntryPageBefore(self._entries(page.records), page.next_before)

    def _entries(self, records: Sequence[RecordedEvent]) -> tuple[LogEntry, ...]:
        return tuple(log_entry(record, self._store.mapper) for record in records)

    async def log_range(self, query: EventQuery) -> LogRange:
        """The range of the log that a query selects, for an export.

        Raises:
            PositionBeyondLog: `query.after` is beyond the end of the log.
        """
        self._require_served()
        return await self.log.range_of(query)

    async def _require_owner(self, order_id: UUID, caller: Caller) -> None:
        """Check the owner before the history is read.

        Another caller's order is indistinguishable from one that does not exist, also by the time
        that the answer takes.
        """
        _require_order_id(order_id)
        if not caller.is_internal:
            key = await self._reader.key_of(order_id)
            if not caller.may_read(order_id, key):
                raise OrderNotFound(str(order_id))


def _require_order_id(order_id: UUID) -> None:
    """Refuse the id of the stream of halts, which is not an order."""
    if order_id == HALTS_STREAM_ID:
        raise OrderNotFound(str(order_id))


def _moved(time: datetime | None, by: timedelta) -> datetime | None:
    """The time moved by `by`; unchanged if `datetime` cannot represent the result."""
    try:
        return None if time is None else time + by
    except OverflowError:
        return time
