"""The past: an order and the order queue as of a version, a position of the log or a time."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec

from pulse.application.callers import Caller
from pulse.application.orders import OrderNotFound
from pulse.domain import HALTS_STREAM_ID, Quantities
from pulse.errors import PulseError
from pulse.eventstore import EventStore, PositionBeyondLog
from pulse.projections.order_view import AsOf, OrderReader, OrderView
from pulse.projections.queue_history import QueueHistory


class TimeInFuture(PulseError):
    """The time is later than the database's clock, so its events are not known yet."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        super().__init__("is in the future")


class VersionBeyondStream(PulseError):
    """The order has fewer events."""

    def __init__(self, version: int) -> None:
        self.version = version
        super().__init__("is beyond the order's last event")


class AsOfQuery(msgspec.Struct, frozen=True):
    """The version, position or time to read as of; without any, the end of the log."""

    version: int | None = None
    position: int | None = None
    at: datetime | None = None


class StatusCounts(msgspec.Struct, frozen=True, rename="upper"):
    """How many orders had each status. No order is IN_PROGRESS: claims are not events."""

    pending: int
    completed: int
    failed: int
    cancelled: int


class QueueAsOf(msgspec.Struct, frozen=True):
    """The order queue as of a position of the log."""

    as_of_position: Annotated[
        int,
        msgspec.Meta(
            ge=0, description="the position of the last event that is included; 0 if there is none"
        ),
    ]
    counts: StatusCounts
    quantities: Quantities


class Past:
    """Reads an order or the queue as of a version, a position or a time, from the log.

    `require_served` is called before every answer, as in `InProcessOrders`. Every method raises
    DatabaseUnavailable if nothing can be read now.
    """

    def __init__(
        self,
        store: EventStore,
        reader: OrderReader,
        history: QueueHistory,
        *,
        require_served: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._reader = reader
        self._history = history
        self._require_served = require_served

    async def order(self, order_id: UUID, as_of: AsOfQuery, caller: Caller) -> OrderView:
        """The order as of a version, position or time, from its events. It is never IN_PROGRESS.

        Raises:
            OrderNotFound: it did not exist yet, or it belongs to another caller.
            VersionBeyondStream: the order has no such version.
            PositionBeyondLog: the log ends before the position.
            TimeInFuture: the time is later than the database's clock.
            HistoryIncomplete: the history is still being computed up to the point.
        """
        self._require_served()
        resolved = None if as_of.version is not None else await self._resolve(as_of)
        view = None
        if order_id != HALTS_STREAM_ID:
            position = None if resolved is None else resolved.position
            view = await self._reader.view_up_to(order_id, position=position, version=as_of.version)
        if view is None or not caller.may_read(order_id, view.order_unique_key):
            raise OrderNotFound(str(order_id))
        if resolved is None:
            if view.version != as_of.version:
                await self._require_version(order_id, as_of.version or 0)
            moment = await self._history.moment(view.position)
            resolved = AsOf(moment.position, moment.recorded_until)
        return msgspec.structs.replace(view, as_of=resolved)

    async def queue(self, as_of: AsOfQuery) -> QueueAsOf:
        """The queue as of a position or time, from the events up to it.

        Orders whose events cannot be applied count as they were before the first such event.

        Raises:
            PositionBeyondLog: the log ends before the position.
            TimeInFuture: the time is later than the database's clock.
            HistoryIncomplete: the history is still being computed up to the point.
        """
        self._require_served()
        position = (await self._resolve(as_of)).position
        totals = await self._history.totals(position)
        counts = StatusCounts(totals.pending, totals.completed, totals.failed, totals.cancelled)
        return QueueAsOf(position, counts, totals.quantities)

    async def _resolve(self, as_of: AsOfQuery) -> AsOf:
        """The position and the time that it selects."""
        if as_of.at is not None:
            position, now = await self._history.position_at(as_of.at)
            if as_of.at > now:
                raise TimeInFuture(now)
            return AsOf(position, as_of.at)
        end = await self._store.end()
        position = end if as_of.position is None else as_of.position
        if position > end:
            raise PositionBeyondLog(position, end)
        moment = await self._history.moment(position)
        return AsOf(moment.position, moment.recorded_until)

    async def _require_version(self, order_id: UUID, version: int) -> None:
        """Check that the stream has this version, which another program may have written."""
        records = await self._store.read_stream(order_id)
        if version > records[-1].originator_version:
            raise VersionBeyondStream(records[-1].originator_version)
