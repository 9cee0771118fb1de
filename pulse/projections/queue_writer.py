"""Writes a batch of the log into the order queue's tables, on a transaction of the caller's."""

from collections.abc import Sequence
from typing import Any, Final, LiteralString
from uuid import UUID

import psycopg

from pulse.domain import HistoryBroken
from pulse.eventstore import EventMapper, EventUnreadable, RecordedEvent
from pulse.postgres import Connection, load_sql
from pulse.projections.queue_changes import QueueChanges, columns_of

POISON: Final = (EventUnreadable, HistoryBroken, psycopg.DataError, psycopg.IntegrityError)
"""What means that an event can never be applied as it is: its order is parked, nothing else."""

_INSERT_ORDERS = load_sql(__package__, "insert_orders")
_SETTLE_ORDERS = load_sql(__package__, "settle_orders")
_INSERT_SLICES = load_sql(__package__, "insert_slices")
_DELETE_SETTLED_CLAIMS = load_sql(__package__, "delete_settled_claims")
_SELECT_PARKED_AMONG = load_sql(__package__, "select_parked_among")
_PARK_ORDER = load_sql(__package__, "park_order")


class QueueWriter:
    """Applies records to the tables the connection's search path leads to.

    `end_claims` is for the live tables; a rebuild touches no claim.
    """

    def __init__(self, mapper: EventMapper, *, end_claims: bool) -> None:
        self._mapper = mapper
        self._end_claims = end_claims

    async def apply(self, connection: Connection, records: Sequence[RecordedEvent]) -> int:
        """Apply records in their order; returns how many were not Pulse's.

        Raises:
            POISON: one of them cannot be applied; the transaction must be rolled back.
            EventTooNew: newer code must apply them.
        """
        changes = self.changes_of(records)
        await self.write(connection, changes)
        return changes.foreign

    def changes_of(self, records: Sequence[RecordedEvent]) -> QueueChanges:
        """What records change in their order; nothing is written.

        Raises:
            POISON, EventTooNew: as `apply`.
        """
        changes = QueueChanges()
        for record in records:
            if self._mapper.knows(record.topic):
                changes.apply(record.position, self._mapper.event_of(record))
            else:
                changes.foreign += 1
        return changes

    async def without_parked(
        self, connection: Connection, records: Sequence[RecordedEvent]
    ) -> list[RecordedEvent]:
        """The records of orders that are not set aside."""
        order_ids = [record.originator_id for record in records]
        cursor = await connection.execute(_SELECT_PARKED_AMONG, (order_ids,), prepare=True)
        parked: set[UUID] = {row[0] for row in await cursor.fetchall()}
        return [record for record in records if record.originator_id not in parked]

    async def park(self, connection: Connection, record: RecordedEvent, reason: str) -> None:
        """Set the record's order aside."""
        parameters = (record.originator_id, record.position, reason)
        await connection.execute(_PARK_ORDER, parameters)

    async def write(self, connection: Connection, changes: QueueChanges) -> None:
        """Write changes, in a transaction of the caller's.

        Raises:
            POISON: they do not fit what is there; the transaction must be rolled back.
        """
        settled = None
        async with connection.pipeline():
            if changes.created:
                await _execute(connection, _INSERT_ORDERS, columns_of(changes.created.values()))
            if changes.settled:
                outcomes = columns_of(changes.settled.values())
                settled = await _execute(connection, _SETTLE_ORDERS, outcomes)
            if changes.slices[0]:
                await _execute(connection, _INSERT_SLICES, changes.slices)
            if changes.ended and self._end_claims:
                await _execute(connection, _DELETE_SETTLED_CLAIMS, (changes.ended,))
        if settled is not None and settled.rowcount != len(changes.settled):
            missing = len(changes.settled) - settled.rowcount
            raise HistoryBroken(f"{missing} outcomes are of orders that were not pending")


async def _execute(connection: Connection, statement: LiteralString, parameters: Any) -> Any:  # noqa: ANN401
    return await connection.execute(statement, parameters, prepare=True)
