"""The projector: reads the log from its position and writes the order queue."""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from pulse.eventstore import EventMapper, EventTooNew, RecordedEvent, select_log
from pulse.postgres import Connection, Database, load_sql
from pulse.projections.queue_writer import POISON, QueueWriter

_log = structlog.get_logger(__name__)

PROJECTION_NAME: Final = "order_queue"
BUSY_SECONDS: Final = 0.01
"""When to look again whether the one that holds the position has let go."""

_LOCK_POSITION = load_sql(__package__, "lock_position")
_ADVANCE_POSITION = load_sql(__package__, "advance_position")


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
    row, so each event is applied exactly once whoever dies when. An event that cannot be applied
    parks its own order; one that only newer code can read stops this process, and `fault` says so.
    """

    def __init__(
        self, database: Database, mapper: EventMapper, *, batch_events: int = 1000
    ) -> None:
        self.fault: str | None = None
        self._database = database
        self._writer = QueueWriter(mapper, end_claims=True)
        self._batch_events = batch_events

    async def run_once(self) -> Projected | Busy:
        """Apply the next batch of the log.

        Raises:
            DatabaseUnavailable: nothing was changed.
            EventTooNew: the log was projected up to an event that newer code must apply.
        """
        result: Projected | Busy | None = None
        while result is None:
            try:
                result = await self._advance_batch()
            except (*POISON, EventTooNew):
                result = await self._advance_past_poison()
        self.fault = None
        return result

    async def run_until(self, position: int) -> None:
        """Return when the queue stands there or beyond, whichever process brought it there.

        Raises: as `run_once`.
        """
        while True:
            result = await self.run_once()
            if isinstance(result, Busy):
                await asyncio.sleep(BUSY_SECONDS)
            elif result.position >= position or not result.events:
                return

    async def _advance_batch(self) -> Projected | Busy:
        async with self._database.connection() as connection, connection.transaction():
            locked = await _lock_position(connection)
            if locked is None:
                return Busy()
            position, any_parked = locked
            records = await select_log(connection, after=position, limit=self._batch_events)
            if not records:
                return Projected(position=position, events=0, foreign=0)
            to_apply: Sequence[RecordedEvent] = records
            if any_parked:
                to_apply = await self._writer.without_parked(connection, records)
            foreign = await self._writer.apply(connection, to_apply)
            await advance_position(connection, records[-1].position)
            return Projected(records[-1].position, len(records), foreign)

    async def _advance_past_poison(self) -> Projected | Busy | None:
        """The same batch, one event a transaction, so that only the poisoned order is set aside.

        None once it is: from there on batches will do again.
        """
        result: Projected | Busy | None = Busy()
        for _ in range(self._batch_events):
            try:
                result = await self._advance_one()
            except EventTooNew as error:
                self.fault = f"newer code must project on: {error}"
                raise
            if result is None or isinstance(result, Busy) or not result.events:
                break
        return result

    async def _advance_one(self) -> Projected | Busy | None:
        """One event; None if its order had to be parked."""
        async with self._database.connection() as connection, connection.transaction():
            locked = await _lock_position(connection)
            if locked is None:
                return Busy()
            records = await select_log(connection, after=locked[0], limit=1)
            if not records:
                return Projected(position=locked[0], events=0, foreign=0)
            to_apply = await self._writer.without_parked(connection, records)
            foreign = await self._apply_or_park(connection, to_apply)
            await advance_position(connection, records[-1].position)
            return None if foreign is None else Projected(records[-1].position, 1, foreign)

    async def _apply_or_park(
        self, connection: Connection, records: list[RecordedEvent]
    ) -> int | None:
        """How many were not Pulse's; None if the order was parked."""
        try:
            async with connection.transaction():
                return await self._writer.apply(connection, records)
        except POISON as error:
            record = records[0]
            _log.error(
                "projection.order_parked",
                order_id=str(record.originator_id),
                position=record.position,
                reason=str(error),
            )
            await self._writer.park(connection, record, str(error))
            return None


async def advance_position(connection: Connection, position: int) -> None:
    """Record that the projection has read the log up to there."""
    await connection.execute(_ADVANCE_POSITION, (position, PROJECTION_NAME), prepare=True)


async def _lock_position(connection: Connection) -> tuple[int, bool] | None:
    cursor = await connection.execute(_LOCK_POSITION, (PROJECTION_NAME,), prepare=True)
    row = await cursor.fetchone()
    return None if row is None else (row[0], row[1])
