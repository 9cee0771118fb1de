"""The projector: reads the log from its position on and writes the order queue."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import psycopg
import structlog

from pulse import metrics
from pulse.errors import PulseError
from pulse.eventstore import (
    AFTER_LOG,
    EventMapper,
    EventTooNew,
    RecordedEvent,
    select_issued_log,
)
from pulse.loop import NOW, Job
from pulse.postgres import Connection, Database, DatabaseUnavailable, describe
from pulse.projections.parking import AmbiguousError, ErrorSource, Parking, error_source
from pulse.projections.position import (
    advance_position,
    try_lock_position,
)
from pulse.projections.queue_writer import QueueWriter

_log = structlog.get_logger(__name__)

BUSY_SECONDS: Final = 0.01
"""The pause before the next attempt to lock the position that another process holds."""
MAX_AMBIGUOUS_ATTEMPTS: Final = 3
"""An order is parked after this many ambiguous errors of an event while later events succeeded."""


class Projected(msgspec.Struct, frozen=True):
    """A step projected `events` events, `foreign` of them not Pulse's, up to `position`."""

    position: int
    events: int
    foreign: int


class Busy(msgspec.Struct, frozen=True):
    """Another process holds the lock on the position and is projecting."""


class Projector(Job[Projected | Busy]):
    """Projects the log into the order queue, one batch per transaction, one process at a time.

    A transaction locks the position, writes orders and slices, ends claims, and stores the new
    position. So each event is applied exactly once, even if processes are killed. An event that
    cannot be applied parks its order. At an event that needs newer code the projector stops and
    sets `fault`; a process with newer code continues. `on_advance` is called after a step, if the
    position has changed, also by another process. `busy_seconds` is the pause while another process
    projects.
    """

    name = "projector"
    poll_seconds = 5.0
    min_pause_seconds = 0.003

    def __init__(
        self,
        database: Database,
        mapper: EventMapper,
        *,
        batch_events: int = 2000,
        busy_seconds: float = BUSY_SECONDS,
        on_advance: Callable[[], None] = lambda: None,
    ) -> None:
        self.fault: str | None = None
        self._on_advance = on_advance
        self._seen_position = -1
        self._database = database
        self._writer = QueueWriter(mapper)
        self._batch_events = batch_events
        self._busy_seconds = busy_seconds
        self._ambiguous_position = 0
        self._ambiguous_attempts = 0

    async def run_once(self) -> Projected | Busy:
        """Project the next batch of the log.

        Raises:
            DatabaseUnavailable: nothing was changed, unless the connection was lost at the commit;
                or the log was projected up to an event that cannot be applied now, and `fault`
                names this event.
            EventTooNew: the log was projected up to an event that newer code must apply.
        """
        try:
            async with self._database.connection() as connection:
                result = await self._advance(connection)
        except psycopg.Error as error:
            raise DatabaseUnavailable(describe(error)) from error
        if isinstance(result, Projected):
            self.fault = None
            metrics.PROJECTED_EVENTS.inc(result.events)
            if result.events:
                _log.debug("projection.advanced", position=result.position, events=result.events)
            if result.foreign:
                _log.info("projection.foreign_skipped", events=result.foreign)
            self._note_position(result.position)
        return result

    def pause_after(self, result: Projected | Busy) -> float | None:
        """NOW after a full batch; a short pause while another process holds the position."""
        if isinstance(result, Busy):
            return self._busy_seconds
        return NOW if result.events == self._batch_events else None

    async def run_until(
        self, position: int, on_progress: Callable[[int], None] = lambda _: None
    ) -> None:
        """Project until the position is reached, by this process or another, or the log ends.

        `on_progress` is called after each step with the position reached.

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

    def _note_position(self, position: int) -> None:
        if position != self._seen_position:
            self._seen_position = position
            self._on_advance()

    async def _advance(self, connection: Connection) -> Projected | Busy:
        try:
            return await self._advance_batch(connection)
        except Exception as error:
            if error_source(error) is ErrorSource.ENVIRONMENT and not isinstance(
                error, EventTooNew
            ):
                raise
        return await self._advance_parking(connection)

    async def _advance_batch(self, connection: Connection) -> Projected | Busy:
        async with connection.transaction():
            locked = await try_lock_position(connection)
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
        """Project the batch up to an event that cannot be applied now, and park faulty orders."""
        async with connection.transaction():
            locked = await try_lock_position(connection)
            if locked is None:
                return Busy()
            records = await select_issued_log(connection, after=locked[0], limit=self._batch_events)
            end, foreign, obstacle = await self._apply_parking(connection, records)
            applied = [record for record in records if record.position < end]
            position = applied[-1].position if applied else locked[0]
            if applied:
                await advance_position(connection, position)
        if obstacle is not None:
            self._note_position(position)
            self.fault = str(obstacle)
            raise obstacle
        return Projected(position, len(applied), foreign)

    async def _apply_parking(
        self, connection: Connection, records: Sequence[RecordedEvent]
    ) -> tuple[int, int, PulseError | None]:
        """Returns the position before which all is applied, the foreign count, and the error."""
        wanted = await self._writer.without_parked(connection, records)
        end, obstacle = AFTER_LOG + 1, None
        newer = self._writer.first_too_new(wanted)
        if newer is not None:
            end, obstacle = newer[0].position, _needs_newer_code(*newer)
        parking = Parking(self._writer, connection)
        try:
            await parking.apply([record for record in wanted if record.position < end])
        except AmbiguousError as ambiguous:
            at = ambiguous.record.position
            if not await self._is_event_at_fault(parking, ambiguous, wanted):
                return at, parking.foreign, DatabaseUnavailable(str(ambiguous))
            await parking.park(ambiguous.record, ambiguous.error)
            return at + 1, parking.foreign, None
        return end, parking.foreign, obstacle

    async def _is_event_at_fault(
        self, parking: Parking, ambiguous: AmbiguousError, records: Sequence[RecordedEvent]
    ) -> bool:
        """Whether the event failed several times while a later event could be applied.

        False if the batch has no later event of another order: then this event blocks no other
        order.
        """
        position, order_id = ambiguous.record.position, ambiguous.record.originator_id
        later = [r for r in records if r.position > position and r.originator_id != order_id]
        same_type = [record for record in later if record.topic == ambiguous.record.topic]
        if not await parking.any_applies(same_type or later):
            return False
        if position != self._ambiguous_position:
            self._ambiguous_position, self._ambiguous_attempts = position, 0
        self._ambiguous_attempts += 1
        return self._ambiguous_attempts >= MAX_AMBIGUOUS_ATTEMPTS


def _needs_newer_code(record: RecordedEvent, error: EventTooNew) -> EventTooNew:
    return EventTooNew(
        f"the projection needs a process of newer code from position {record.position} on: {error}"
    )
