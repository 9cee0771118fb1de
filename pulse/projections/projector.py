"""The projector: reads the log from its position and writes the order queue."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import psycopg
import structlog

from pulse.errors import PulseError
from pulse.eventstore import (
    EventMapper,
    EventTooNew,
    RecordedEvent,
    select_issued_log,
)
from pulse.loop import NOW, Job
from pulse.postgres import Connection, Database, DatabaseUnavailable, describe
from pulse.projections.parking import Blame, FaultUnclear, Parking, blame_of
from pulse.projections.position import (
    AFTER_LOG,
    advance_position,
    lock_position,
)
from pulse.projections.queue_writer import QueueWriter

_log = structlog.get_logger(__name__)

BUSY_SECONDS: Final = 0.01
"""How long to wait before trying again for the position that another process holds."""
UNCLEAR_ATTEMPTS: Final = 3
"""An unclear error parks an order after so many tries in a row in which only its event failed."""


class Projected(msgspec.Struct, frozen=True):
    """The projection is at `position` after `events` more events, `foreign` of them not Pulse's."""

    position: int
    events: int
    foreign: int


class Busy(msgspec.Struct, frozen=True):
    """Another process holds the position: it is doing the work."""


class Projector(Job[Projected | Busy]):
    """Advances the order queue, one batch a transaction, single-file over all processes.

    Rows, slices, ended claims and the new position are one transaction that holds the position's
    row, so each event is applied exactly once whatever process dies when. An event that cannot be
    applied parks its own order. At an event that only newer code can apply this process stops, and
    leaves the position to processes of newer code; `fault` says so. `on_advance` is called when the
    queue has moved, whichever process moved it.
    """

    name = "projector"
    poll_seconds = 5.0
    min_pause_seconds = 0.003

    def __init__(
        self,
        database: Database,
        mapper: EventMapper,
        *,
        batch_events: int = 1000,
        on_advance: Callable[[], None] = lambda: None,
    ) -> None:
        self.fault: str | None = None
        self._on_advance = on_advance
        self._seen_position = -1
        self._database = database
        self._writer = QueueWriter(mapper)
        self._batch_events = batch_events
        self._unclear_position = 0
        self._unclear_attempts = 0

    async def run_once(self) -> Projected | Busy:
        """Apply the next batch of the log.

        Raises:
            DatabaseUnavailable: nothing was changed; or the log was projected up to an event that
                cannot be applied now, and `fault` names it.
            EventTooNew: the log was projected up to an event that newer code must apply.
        """
        try:
            async with self._database.connection() as connection:
                result = await self._advance(connection)
        except psycopg.Error as error:
            raise DatabaseUnavailable(describe(error)) from error
        if isinstance(result, Projected):
            self.fault = None
            if result.events:
                _log.debug("projection.advanced", position=result.position, events=result.events)
            if result.foreign:
                _log.info("projection.foreign_skipped", events=result.foreign)
            if result.position != self._seen_position:
                self._seen_position = result.position
                self._on_advance()
        return result

    def pause_after(self, result: Projected | Busy) -> float | None:
        """None at all after a full batch; a short one while another process holds the position."""
        if isinstance(result, Busy):
            return BUSY_SECONDS
        return NOW if result.events == self._batch_events else None

    async def run_until(
        self, position: int, on_progress: Callable[[int], None] = lambda _: None
    ) -> None:
        """Return when the queue is at that position or beyond, whichever process brought it there.

        `on_progress` is called with the position reached, before and after each step.

        Raises: as `run_once`.
        """
        while True:
            result = await self.run_once()
            if isinstance(result, Busy):
                await asyncio.sleep(BUSY_SECONDS)
                continue
            on_progress(min(position, result.position))
            if result.position >= position or not result.events:
                return

    async def _advance(self, connection: Connection) -> Projected | Busy:
        try:
            return await self._advance_batch(connection)
        except Exception as error:
            if blame_of(error) is Blame.ELSEWHERE and not isinstance(error, EventTooNew):
                raise
        return await self._advance_parking(connection)

    async def _advance_batch(self, connection: Connection) -> Projected | Busy:
        async with connection.transaction():
            locked = await lock_position(connection)
            if locked is None:
                return Busy()
            position, any_parked = locked
            records = await select_issued_log(connection, after=position, limit=self._batch_events)
            if not records:
                return Projected(position=position, events=0, foreign=0)
            to_apply: Sequence[RecordedEvent] = records
            if any_parked:
                to_apply = await self._writer.without_parked(connection, records)
            foreign = await self._writer.apply(connection, to_apply)
            await advance_position(connection, records[-1].position)
            return Projected(records[-1].position, len(records), foreign)

    async def _advance_parking(self, connection: Connection) -> Projected | Busy:
        """The same batch, up to what this code cannot apply now; orders at fault are parked."""
        async with connection.transaction():
            locked = await lock_position(connection)
            if locked is None:
                return Busy()
            records = await select_issued_log(connection, after=locked[0], limit=self._batch_events)
            end, foreign, obstacle = await self._apply_parking(connection, records)
            applied = [record for record in records if record.position < end]
            position = applied[-1].position if applied else locked[0]
            if applied:
                await advance_position(connection, position)
        if obstacle is not None:
            self.fault = str(obstacle)
            raise obstacle
        return Projected(position, len(applied), foreign)

    async def _apply_parking(
        self, connection: Connection, records: Sequence[RecordedEvent]
    ) -> tuple[int, int, PulseError | None]:
        """Before which position all is applied, how many were foreign, and the obstacle, if any."""
        wanted = await self._writer.without_parked(connection, records)
        end, obstacle = AFTER_LOG + 1, None
        newer = self._writer.first_newer(wanted)
        if newer is not None:
            end, obstacle = newer[0].position, _left_to_newer(*newer)
        parking = Parking(self._writer, connection)
        try:
            await parking.apply([record for record in wanted if record.position < end])
        except FaultUnclear as unclear:
            at = unclear.record.position
            if not await self._is_its_own_fault(parking, unclear, wanted):
                return at, parking.foreign, DatabaseUnavailable(str(unclear))
            await parking.park(unclear.record, unclear.error)
            return at + 1, parking.foreign, None
        return end, parking.foreign, obstacle

    async def _is_its_own_fault(
        self, parking: Parking, unclear: FaultUnclear, records: Sequence[RecordedEvent]
    ) -> bool:
        """Whether the event failed several times in a row while a later one could be applied.

        Where there is no later event, it blocks none, and nothing is decided.
        """
        position, order_id = unclear.record.position, unclear.record.originator_id
        behind = [r for r in records if r.position > position and r.originator_id != order_id]
        alike = [record for record in behind if record.topic == unclear.record.topic]
        if not await parking.any_applies(alike or behind):
            return False
        if position != self._unclear_position:
            self._unclear_position, self._unclear_attempts = position, 0
        self._unclear_attempts += 1
        return self._unclear_attempts >= UNCLEAR_ATTEMPTS


def _left_to_newer(record: RecordedEvent, error: EventTooNew) -> EventTooNew:
    return EventTooNew(
        f"the projection waits at position {record.position} for a process of newer code: {error}"
    )
