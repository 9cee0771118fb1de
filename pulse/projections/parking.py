"""Parking: of a batch that fails, each order that is itself at fault is set aside, and no other."""

import contextlib
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

import structlog

from pulse.eventstore import EventTooNew, RecordedEvent
from pulse.postgres import Connection, load_sql
from pulse.projections.poison import Blame, blame_of, reason_of
from pulse.projections.queue_writer import QueueWriter

_log = structlog.get_logger(__name__)

_MAX_CONTROLS: Final = 3

_CHECK_CONSTRAINTS = load_sql(__package__, "check_constraints")


class FaultUnclear(Exception):
    """`record`, tried alone, raised `error`, which other events may raise as well."""

    def __init__(self, record: RecordedEvent, error: Exception) -> None:
        self.record = record
        self.error = error
        super().__init__(
            f"the event at position {record.position} of order {record.originator_id} cannot be "
            f"applied now: {reason_of(error)}"
        )


class _Undone(Exception):
    """Rolls a savepoint back."""


class Parking:
    """Applies records on a transaction of the caller's, each part of them in a savepoint.

    A part that fails is divided until one event alone has failed; then its order is parked.
    """

    def __init__(self, writer: QueueWriter, connection: Connection) -> None:
        self.foreign = 0
        self.parked: set[UUID] = set()
        self._writer = writer
        self._connection = connection

    async def apply(self, records: Sequence[RecordedEvent]) -> None:
        """Apply records in their order, but for those of orders parked here.

        Raises:
            FaultUnclear: this one event may be at fault or not; all before it are applied.
            Exception: what is not the event's fault (`Blame.ELSEWHERE`); roll back.
        """
        wanted = [record for record in records if record.originator_id not in self.parked]
        if not wanted:
            return
        result = await self._attempt(wanted, keep=True)
        if isinstance(result, Exception):
            await self._divide(wanted, result)
        else:
            self.foreign += result

    async def park(self, record: RecordedEvent, error: Exception) -> None:
        """Set the record's order aside because of this error."""
        reason = reason_of(error)
        _log.error(
            "projection.order_parked",
            order_id=str(record.originator_id),
            position=record.position,
            reason=reason,
        )
        await self._writer.park(self._connection, record, reason)
        self.parked.add(record.originator_id)

    async def any_applies(self, controls: Iterable[RecordedEvent]) -> bool:
        """Whether any of the first few of these events can be applied alone; none stays applied."""
        for record, _ in zip(controls, range(_MAX_CONTROLS), strict=False):
            result = await self._attempt([record], keep=False)
            if not isinstance(result, Exception):
                return True
            if blame_of(result) is Blame.ELSEWHERE and not isinstance(result, EventTooNew):
                raise result
        return False

    async def _attempt(self, records: Sequence[RecordedEvent], *, keep: bool) -> int | Exception:
        """How many were foreign, or what applying them raised: then nothing of them is kept.

        An error of the savepoint itself is no event's and is raised.
        """
        result: int | Exception
        with contextlib.suppress(_Undone):
            async with self._connection.transaction():
                try:
                    result = await self._writer.apply(self._connection, records)
                    await self._connection.execute(_CHECK_CONSTRAINTS)
                except Exception as error:  # noqa: BLE001 - it is judged by whose fault it is
                    result = error
                if isinstance(result, Exception) or not keep:
                    raise _Undone
        return result

    async def _divide(self, records: list[RecordedEvent], error: Exception) -> None:
        blame = blame_of(error)
        if blame is Blame.ELSEWHERE:
            raise error
        if len(records) == 1:
            if blame is Blame.UNCLEAR:
                raise FaultUnclear(records[0], error) from error
            await self.park(records[0], error)
            return
        middle = len(records) // 2
        halves = records[:middle], records[middle:]
        # a timeout takes long: one by one it is met once, by halves once for each division
        for part in ([r] for r in records) if blame is Blame.UNCLEAR else halves:
            await self.apply(part)
