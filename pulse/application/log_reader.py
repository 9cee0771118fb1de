"""Reads pages of the log, filtered by type, order and recorded time, for the API and exports."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from pulse.application.event_view import TOPICS, EventType
from pulse.domain import HALTS_STREAM_ID, OrderCreated
from pulse.errors import PulseError
from pulse.eventstore import EventMapper, EventStore, LogPage, RecordedEvent
from pulse.projections.queue_history import QueueHistory

_MAX_PAGE_EVENTS: Final = 500
_MIN_PAGE_EVENTS: Final = 16
_PAGE_BYTES: Final = 512 * 1024
"""The target size of the states in a page, so that large events do not use up the memory."""

_ORDERS_PER_PAGE: Final = 100
_MICROSECOND: Final = timedelta(microseconds=1)

Admission = AbstractAsyncContextManager[Any]


class LogReplaced(PulseError):
    """The log was replaced by another one during the export."""

    def __init__(self) -> None:
        super().__init__("the log was replaced by another one during the export")


class EventQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Selects events: those after a position, of one type, of one order, recorded in a period.

    `recorded_from` is inclusive, `recorded_before` exclusive. If the database's clock was set
    back, an event counts as recorded at the latest time of the events up to it. None means no
    filter, and no limit.
    """

    limit: int | None = None
    after: int = 0
    type: EventType | None = None
    order_id: UUID | None = None
    recorded_from: datetime | None = None
    recorded_before: datetime | None = None


class LogRange(msgspec.Struct, frozen=True, kw_only=True):
    """The events that a query selects, between two positions of the log `log_id`."""

    log_id: UUID
    after: int
    until: int
    limit: int | None
    topic: str | None
    order_id: UUID | None


class LogReader:
    """Reads ranges of the log. Every method raises DatabaseUnavailable if it cannot be read."""

    def __init__(self, store: EventStore, history: QueueHistory) -> None:
        self._store = store
        self._history = history

    @property
    def mapper(self) -> EventMapper:
        """Converts between events and their stored form."""
        return self._store.mapper

    async def range_of(self, query: EventQuery) -> LogRange:
        """The range that a query selects, up to the log's end as it is now.

        Raises:
            PositionBeyondLog: the log ends before `query.after`.
            HistoryIncomplete: with a filter by time: too many events are not summed up yet.
        """
        page = await self._store.read_log_page(after=query.after, limit=1)
        after, until = query.after, await self._store.end()
        if query.recorded_from is not None:
            after = max(after, await self._last_before(query.recorded_from))
        if query.recorded_before is not None:
            until = min(until, await self._last_before(query.recorded_before))
        return LogRange(
            log_id=page.log_id,
            after=after,
            until=until,
            limit=query.limit,
            topic=None if query.type is None else TOPICS[query.type],
            order_id=query.order_id,
        )

    async def first_page(self, query: EventQuery, limit: int) -> LogPage:
        """A page of the events that a query selects. A filter by time or order costs more reads.

        Raises:
            PositionBeyondLog, HistoryIncomplete: as `range_of`.
        """
        if (query.order_id, query.recorded_from, query.recorded_before) == (None, None, None):
            topic = None if query.type is None else TOPICS[query.type]
            return await self._store.read_log_page(after=query.after, limit=limit, topic=topic)
        wanted = await self.range_of(query)
        return await self.page(wanted, wanted.after, limit)

    async def page(self, wanted: LogRange, after: int, limit: int) -> LogPage:
        """Up to `limit` events of the range after a position.

        Like a page of the whole log, it may be empty and not the last one. The range ends where
        `next_after` equals its `until`.

        Raises:
            LogReplaced: this is not the log of the range.
        """
        if after >= wanted.until:
            return LogPage(wanted.log_id, (), after)
        if wanted.order_id is not None:
            return await self._page_of_order(wanted, wanted.order_id, after, limit)
        page = await self._store.read_log_page(after=after, limit=limit, topic=wanted.topic)
        if page.log_id != wanted.log_id:
            raise LogReplaced
        records = page.records
        if page.next_after > wanted.until:
            records = tuple(r for r in records if r.position <= wanted.until)
        return LogPage(page.log_id, records, min(page.next_after, wanted.until))

    async def pages(
        self, wanted: LogRange, admission: Admission | None = None
    ) -> AsyncGenerator[LogPage]:
        """The whole range in pages, at most `wanted.limit` events in all.

        The next page is read while the caller works on one. A connection is held only for a read.
        Reads wait for `admission`.

        Raises:
            LogReplaced: the log was replaced meanwhile.
        """
        admission = admission or nullcontext()
        left = wanted.limit
        size = _MIN_PAGE_EVENTS

        async def read(after: int, limit: int) -> LogPage:
            async with admission:
                return await self.page(wanted, after, limit)

        after = wanted.after
        reading = asyncio.ensure_future(read(after, _within(size, left)))
        try:
            while after < wanted.until and left != 0:
                page = await reading
                after = page.next_after
                if left is not None:
                    left -= len(page.records)
                size = _next_size(size, page.records)
                if after < wanted.until and left != 0:
                    reading = asyncio.ensure_future(read(after, _within(size, left)))
                yield page
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def order_streams(
        self, wanted: LogRange, admission: Admission | None = None
    ) -> AsyncGenerator[tuple[int, list[list[RecordedEvent]]]]:
        """The streams of the orders created in the range, each up to the end of the range.

        Yields how far the range was read, and some streams in the order of their creation;
        `wanted.limit` is the maximum number of orders.

        Raises:
            LogReplaced: the log was replaced meanwhile.
        """
        admission = admission or nullcontext()
        created = msgspec.structs.replace(wanted, topic=OrderCreated.TOPIC)
        after, left = wanted.after, wanted.limit
        while after < wanted.until and left != 0:
            async with admission:
                page = await self.page(created, after, _within(_ORDERS_PER_PAGE, left))
                ids = [r.originator_id for r in page.records if r.originator_version == 1]
                streams = await self._store.read_streams(ids) if ids else {}
            if left is not None:
                left -= len(page.records)
            after = page.next_after
            found = [
                [record for record in streams[order_id] if record.position <= wanted.until]
                for order_id in ids
            ]
            yield after, found

    async def _page_of_order(
        self, wanted: LogRange, order_id: UUID, after: int, limit: int
    ) -> LogPage:
        stream = [] if order_id == HALTS_STREAM_ID else await self._store.read_stream(order_id)
        found = [
            record
            for record in stream
            if after < record.position <= wanted.until and wanted.topic in {None, record.topic}
        ]
        reached = found[limit - 1].position if len(found) > limit else wanted.until
        return LogPage(wanted.log_id, tuple(found[:limit]), reached)

    async def _last_before(self, time: datetime) -> int:
        """The last position before a time."""
        try:
            return (await self._history.position_at(time - _MICROSECOND))[0]
        except OverflowError:
            return 0


def _within(size: int, left: int | None) -> int:
    return size if left is None else min(size, left)


def _next_size(size: int, records: Sequence[RecordedEvent]) -> int:
    """The number of events of the next page, from the size of this one's states."""
    read = sum(len(record.state) for record in records)
    fitting = 2 * size if read == 0 else len(records) * _PAGE_BYTES // read
    return max(_MIN_PAGE_EVENTS, min(2 * size, fitting, _MAX_PAGE_EVENTS))
