"""The slices to release soon, overdue slices, and slices that were released late or expired."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from pulse.application.list_reads import ListReads
from pulse.application.log_cursors import page_of_log
from pulse.domain import Halt, HaltTarget, Slice, SlicesExpired, SlicesReleased
from pulse.eventstore import EventStore, EventTooNew, EventUnreadable, RecordedEvent
from pulse.postgres import Database
from pulse.projections.due_slices import (
    MinuteCounts,
    SliceWithOrder,
    SliceWithOrderPage,
    count_by_minute,
    read_overdue_slices,
    read_slices_with_orders,
)
from pulse.projections.lists import SliceQuery

LATE_SECONDS: Final = 1.0
"""A slice that was released at least this long after its time was late."""

MAX_EXAMINED_EVENTS: Final = 5_000
"""How many events at the log's end are searched for late and expired slices, at most."""

_MAX_OUTCOMES: Final = 1_000


class LateSlices(msgspec.Struct, frozen=True):
    """Slices of an order that one event released late, or expired.

    `order_unique_key` and `instrument` are None if they expired: the event does not have them.
    `late_seconds` is the greatest delay of the released ones, None if they expired.
    """

    order_id: UUID
    position: int
    at: datetime
    sequence_numbers: tuple[int, ...]
    quantity: int
    order_unique_key: str | None
    instrument: str | None
    late_seconds: float | None

    @property
    def expired(self) -> bool:
        """Whether the slices were not released at all."""
        return self.late_seconds is None


class LatePage(msgspec.Struct, frozen=True):
    """Late and expired slices, newest first.

    `examined_since` is the time of the oldest event examined, if that is after the start of the
    period; None if the whole period was examined. `more` is whether there are others.
    """

    found: tuple[LateSlices, ...]
    examined_since: datetime | None
    more: bool


class DueSlices:
    """Lists slices by when they are released. Every method raises DatabaseUnavailable.

    `require_served` is called before every answer, as in `InProcessOrders`. `lists` reads pages of
    slices; everything else is read on the primary.
    """

    def __init__(
        self,
        database: Database,
        store: EventStore,
        *,
        require_served: Callable[[], None] = lambda: None,
        lists: ListReads | None = None,
    ) -> None:
        self._database = database
        self._lists = lists or ListReads(database, store.end)
        self._store = store
        self._require_served = require_served

    async def page(self, query: SliceQuery) -> SliceWithOrderPage:
        """A page of slices by time. The cost grows with the page, not with the queue.

        Raises:
            CursorRefused: the cursor is of another log, `query.log_id`.
            PositionNotReached: the queue does not reflect `query.min_position` in time.
            PositionBeyondLog: the log ends before it.
        """
        self._require_served()
        reads = self._lists.not_older_than(query.min_position)
        return await page_of_log(self._store, read_slices_with_orders(reads, query), query.log_id)

    @property
    def pages_may_be_older(self) -> bool:
        """Whether there is a replica.

        With one, a page can be older than the page before it, unless its cursor prevents that.
        """
        return self._lists.has_replica

    async def by_minute(
        self,
        scheduled_from: datetime,
        scheduled_before: datetime,
        targets: Sequence[HaltTarget],
    ) -> MinuteCounts:
        """The slices to release in a period by minute, and those that these halts would cover.

        At most 10,000 slices are counted.
        """
        self._require_served()
        return await count_by_minute(self._database, scheduled_from, scheduled_before, targets)

    async def overdue(self, limit: int) -> tuple[SliceWithOrder, ...]:
        """Slices that have been due for a second or longer and are not settled, the oldest first.

        Only the 200 orders that have been due for the longest time are examined.
        """
        self._require_served()
        return await read_overdue_slices(self._database, limit)

    async def late(self, since: datetime, limit: int) -> LatePage:
        """Slices that were released late or expired since a time, newest first.

        Only the last MAX_EXAMINED_EVENTS events of the log are examined, and of them only the last
        1,000 that released or expired slices. So the cost is bounded.
        """
        self._require_served()
        page = await self._store.read_log_before(
            limit=_MAX_OUTCOMES,
            topics=(SlicesReleased.TOPIC, SlicesExpired.TOPIC),
            max_scanned=MAX_EXAMINED_EVENTS,
        )
        within = [record for record in page.records if record.recorded_at >= since]
        found = list(self._late_in(within))
        oldest = None
        if len(within) == len(page.records) and page.next_before is not None:
            oldest = await self._time_of(page.next_before)
        return LatePage(
            found=tuple(found[:limit]),
            examined_since=None if oldest is None or oldest < since else oldest,
            more=len(found) > limit,
        )

    async def _time_of(self, position: int) -> datetime | None:
        """When the event at this position was recorded."""
        page = await self._store.read_log_before(before=position + 1, limit=1)
        return page.records[0].recorded_at if page.records else None

    def _late_in(self, records: list[RecordedEvent]) -> Iterator[LateSlices]:
        for record in records:
            try:
                event = self._store.mapper.event_of(record)
            except (EventTooNew, EventUnreadable):
                continue  # the page of parked orders shows its order
            match event:
                case SlicesExpired():
                    yield LateSlices(
                        order_id=event.originator_id,
                        position=record.position,
                        at=event.timestamp,
                        sequence_numbers=event.sequence_numbers,
                        quantity=event.quantity,
                        order_unique_key=None,
                        instrument=None,
                        late_seconds=None,
                    )
                case SlicesReleased() if late := _late_slices(event):
                    first = min(s.scheduled_at for s in late)
                    yield LateSlices(
                        order_id=event.originator_id,
                        position=record.position,
                        at=event.timestamp,
                        sequence_numbers=tuple(s.sequence_number for s in late),
                        quantity=sum(s.quantity for s in late),
                        order_unique_key=event.order_unique_key,
                        instrument=event.instrument,
                        late_seconds=(event.timestamp - first).total_seconds(),
                    )
                case _:
                    pass


def halt_of(slice_: SliceWithOrder, in_force: tuple[Halt, ...]) -> Halt | None:
    """The first halt in force that stops the release of this slice; None if none does."""
    if not slice_.release or slice_.state != "SCHEDULED":
        return None
    covering = (h for h in in_force if h.target.covers(slice_.instrument, slice_.placed_by))
    return next(covering, None)


def _late_slices(event: SlicesReleased) -> list[Slice]:
    latest = event.timestamp - timedelta(seconds=LATE_SECONDS)
    return [s for s in event.slices if s.scheduled_at <= latest]
