"""The application's clock against the database's: a process that is off takes no orders."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from pulse.errors import PulseError
from pulse.postgres import Connection, Database, load_sql

_log = structlog.get_logger(__name__)
_MEASUREMENTS: Final = 3
_SELECT_CLOCK = load_sql(__package__, "select_clock")


class ClockOff(PulseError):
    """The clocks differ too much for t0, which anchors every slice, to be trusted."""


class ClockWatch:
    """Measures how far this process's clock is from the database's.

    The offset is the process's clock minus the database's, in seconds; each measurement is off by
    at most half its round trip, and of three the one with the shortest counts.
    """

    def __init__(
        self, database: Database, clock: Callable[[], datetime], *, most_seconds: float
    ) -> None:
        self._database = database
        self._clock = clock
        self._most_seconds = most_seconds
        self.offset_seconds: float | None = None

    @property
    def fault(self) -> str | None:
        """Why this process may take no orders, or None if its clock will do."""
        if self.offset_seconds is None:
            return "the offset to the database's clock is not measured yet"
        if abs(self.offset_seconds) <= self._most_seconds:
            return None
        direction = "ahead of" if self.offset_seconds > 0 else "behind"
        return (
            f"this process's clock is {abs(self.offset_seconds):.3f} s {direction} the database's, "
            f"more than {self._most_seconds:g} s: mend the host's clock"
        )

    def require_right(self) -> None:
        """Refuse to go on with a wrong clock.

        Raises:
            ClockOff: the offset is too large, or not known.
        """
        fault = self.fault
        if fault is not None:
            raise ClockOff(fault)

    async def run_once(self) -> float:
        """Measure the offset now and return it.

        Raises:
            DatabaseUnavailable: it cannot be measured; the last measurement stands.
        """
        had_fault = self.fault
        measured = await self._database.read(self._measure)
        self.offset_seconds = measured
        if self.fault != had_fault and self.fault is not None:
            _log.error("clock.off", offset_seconds=round(measured, 3), consequence=self.fault)
        return measured

    async def _measure(self, connection: Connection) -> float:
        measurements = [await self._measure_once(connection) for _ in range(_MEASUREMENTS)]
        return min(measurements)[1]

    async def _measure_once(self, connection: Connection) -> tuple[float, float]:
        started, before = time.perf_counter(), self._clock()
        cursor = await connection.execute(_SELECT_CLOCK)
        row = await cursor.fetchone()
        round_trip = time.perf_counter() - started
        theirs: datetime = row[0] if row else before
        return round_trip, (before - theirs).total_seconds() + round_trip / 2
