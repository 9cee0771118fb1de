"""Parked orders: set aside for an event that could not be applied, built again after a fix."""

from datetime import datetime
from uuid import UUID

import msgspec
import psycopg

from pulse.eventstore import EventMapper, select_records
from pulse.postgres import Connection, Database, DatabaseUnavailable, describe, load_sql
from pulse.projections.poison import Blame, blame_of, reason_of
from pulse.projections.projector import PROJECTION_NAME
from pulse.projections.queue_writer import QueueWriter

_SELECT_PARKED = load_sql(__package__, "select_parked")
_WAIT_FOR_POSITION = load_sql(__package__, "wait_for_position")
_SELECT_STREAM_UNTIL = load_sql(__package__, "select_stream_until")
_FORGET_ORDER = load_sql(__package__, "forget_order")


class ParkedOrder(msgspec.Struct, frozen=True):
    """An order set aside: at which event (its place in the log), why, and when."""

    order_id: UUID
    position: int
    reason: str
    parked_at: datetime


class Retried(msgspec.Struct, frozen=True):
    """What became of one: `fault` is why it stays parked, None if it is in the queue again."""

    order_id: UUID
    fault: str | None


class ParkedOrders:
    """The orders set aside, and their way back."""

    def __init__(self, database: Database, mapper: EventMapper) -> None:
        self._database = database
        self._writer = QueueWriter(mapper, end_claims=True)

    async def all(self) -> list[ParkedOrder]:
        """Those set aside now, the longest first."""
        return await self._database.read(_select_parked)

    async def retry(self, order_id: UUID) -> Retried:
        """Build one order again from its stream; it stays parked, unchanged, if that fails.

        Raises:
            DatabaseUnavailable: nothing was changed.
            EventTooNew: nothing was changed; newer code must do it.
        """
        async with self._database.connection() as connection:
            try:
                async with connection.transaction():
                    await self._build(connection, order_id)
            except Exception as error:
                if blame_of(error) is not Blame.ELSEWHERE:
                    return Retried(order_id, reason_of(error))
                if isinstance(error, psycopg.Error):
                    raise DatabaseUnavailable(describe(error)) from error
                raise
        return Retried(order_id, None)

    async def _build(self, connection: Connection, order_id: UUID) -> None:
        cursor = await connection.execute(_WAIT_FOR_POSITION, (PROJECTION_NAME,))
        row = await cursor.fetchone()
        position = row[0] if row else 0
        await connection.execute(_FORGET_ORDER, {"order_id": order_id})
        records = await select_records(connection, _SELECT_STREAM_UNTIL, (order_id, position))
        await self._writer.apply(connection, records)


async def _select_parked(connection: Connection) -> list[ParkedOrder]:
    cursor = connection.cursor(binary=True)
    await cursor.execute(_SELECT_PARKED)
    return [ParkedOrder(*row) for row in await cursor.fetchall()]
