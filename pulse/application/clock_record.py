"""Records the offsets between the clocks of this process and of the database, for audits."""

from collections.abc import Callable
from typing import Final

import msgspec

from pulse.application.clock_watch import MeasuredOffsets
from pulse.application.origin import Origin
from pulse.loop import Job
from pulse.postgres import Database, load_sql

_RECORD_CLOCK_OFFSET: Final = load_sql(__package__, "record_clock_offset")


class ClockRecord(Job[MeasuredOffsets | None]):
    """Writes a row to `clock_offsets` at the start and each minute; rows are kept for 30 days.

    `take` returns the offsets measured since its last call, None if there are none. Offsets that
    cannot be written go into the next row.
    """

    name = "clock-record"
    poll_seconds = 60.0

    def __init__(
        self, database: Database, origin: Origin, take: Callable[[], MeasuredOffsets | None]
    ) -> None:
        self._database = database
        self._origin = origin
        self._take = take
        self._unwritten: MeasuredOffsets | None = None

    async def run_once(self) -> MeasuredOffsets | None:
        """Write the offsets measured since the last row; returns what it wrote.

        Raises:
            DatabaseUnavailable: the row may or may not have been written.
        """
        measured = self._take()
        if measured is not None and self._unwritten is not None:
            measured = measured.merged(self._unwritten)
        self._unwritten = measured or self._unwritten
        if (unwritten := self._unwritten) is None:
            return None
        row = (
            self._origin.instance,
            self._origin.code_version,
            *msgspec.structs.astuple(unwritten),
        )
        async with self._database.connection() as connection:
            await connection.execute(_RECORD_CLOCK_OFFSET, row)
        self._unwritten = None
        return unwritten
