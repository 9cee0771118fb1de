"""The projector: reads the log from its position and writes the order queue."""

from collections.abc import Sequence
from typing import Any, Final, LiteralString

import msgspec

from pulse.domain import HistoryBroken
from pulse.eventstore import EventMapper, RecordedEvent, select_log
from pulse.postgres import Connection, Database, load_sql
from pulse.projections.queue_changes import QueueChanges, columns_of

PROJECTION_NAME: Final = "order_queue"

_LOCK_POSITION = load_sql(__package__, "lock_position")
_ADVANCE_POSITION = load_sql(__package__, "advance_position")
_INSERT_ORDERS = load_sql(__package__, "insert_orders")
_SETTLE_ORDERS = load_sql(__package__, "settle_orders")
_INSERT_SLICES = load_sql(__package__, "insert_slices")
_DELETE_SETTLED_CLAIMS = load_sql(__package__, "delete_settled_claims")


class Projected(msgspec.Struct, frozen=True):
    """The projection stands at `position` after `events` events; `foreign` were not Pulse's."""

    position: int
    events: int
    foreign: int


class Busy(msgspec.Struct, frozen=True):
    """Another process holds the position: it is doing the work."""


class Projector:
    """Advances the order queue, one batch a transaction, single-file over all processes.

    Rows, slices, ended claims and the new position are one transaction that holds the position's
    row, so each event is applied exactly once whoever dies when.
    """

    def __init__(
        self, database: Database, mapper: EventMapper, *, batch_events: int = 1000
    ) -> None:
        self._database = database
        self._mapper = mapper
        self._batch_events = batch_events

    async def run_once(self) -> Projected | Busy:
        """Apply the next batch of the log.

        Raises:
            DatabaseUnavailable: nothing was changed.
            EventTooNew, EventUnreadable, HistoryBroken: nothing was changed; the log has an event
                this code cannot apply.
        """
        async with self._database.connection() as connection, connection.transaction():
            cursor = await connection.execute(_LOCK_POSITION, (PROJECTION_NAME,))
            row = await cursor.fetchone()
            if row is None:
                return Busy()
            position: int = row[0]
            records = await select_log(connection, after=position, limit=self._batch_events)
            if not records:
                return Projected(position=position, events=0, foreign=0)
            changes, foreign = self._changes(records)
            await _write(connection, changes, records[-1].position)
            return Projected(position=records[-1].position, events=len(records), foreign=foreign)

    def _changes(self, records: Sequence[RecordedEvent]) -> tuple[QueueChanges, int]:
        changes, foreign = QueueChanges(), 0
        for record in records:
            if self._mapper.knows(record.topic):
                changes.apply(record.position, self._mapper.event_of(record))
            else:
                foreign += 1
        return changes, foreign


async def _write(connection: Connection, changes: QueueChanges, position: int) -> None:
    async with connection.pipeline():
        if changes.created:
            await _execute(connection, _INSERT_ORDERS, columns_of(changes.created.values()))
        settled = None
        if changes.settled:
            outcomes = columns_of(changes.settled.values())
            settled = await _execute(connection, _SETTLE_ORDERS, outcomes)
        if changes.slices[0]:
            await _execute(connection, _INSERT_SLICES, changes.slices)
        if changes.ended:
            await _execute(connection, _DELETE_SETTLED_CLAIMS, (changes.ended,))
        await _execute(connection, _ADVANCE_POSITION, (position, PROJECTION_NAME))
    if settled is not None and settled.rowcount != len(changes.settled):
        raise HistoryBroken(
            f"{len(changes.settled)} orders have an outcome up to position {position}, but only "
            f"{settled.rowcount} of them were pending"
        )


async def _execute(connection: Connection, statement: LiteralString, parameters: Any) -> Any:  # noqa: ANN401
    return await connection.execute(statement, parameters, prepare=True)
