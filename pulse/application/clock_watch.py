"""Compares this process's clock with the database's. With a wrong clock no order is accepted."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import msgspec
import structlog

from pulse import metrics
from pulse.errors import PulseError
from pulse.loop import Job, WakeUp
from pulse.postgres import Connection, Database, load_sql

_log = structlog.get_logger(__name__)
_MEASUREMENTS: Final = 3
_STEP_SECONDS: Final = 0.05
"""If wall clock and monotonic clock differ by more than this, the wall clock was set."""
_SELECT_CLOCK = load_sql(__package__, "select_clock")


class ClockOff(PulseError):
    """This process's clock is off, or not known to be right. All slice times depend on it."""


class _Measurement(msgspec.Struct, frozen=True, order=True):
    """How far this process's clock was ahead of the database's, accurate to `error_seconds`.

    `monotonic_offset` is the wall clock's reading minus the monotonic clock's at that time.
    """

    error_seconds: float
    offset_seconds: float
    monotonic_offset: float


class MeasuredOffsets(msgspec.Struct, frozen=True):
    """The offsets of several measurements; each is accurate to `max_error_seconds`."""

    measurements: int
    min_offset_seconds: float
    max_offset_seconds: float
    max_error_seconds: float

    def merged(self, other: "MeasuredOffsets") -> "MeasuredOffsets":
        """The offsets of both."""
        return MeasuredOffsets(
            self.measurements + other.measurements,
            min(self.min_offset_seconds, other.min_offset_seconds),
            max(self.max_offset_seconds, other.max_offset_seconds),
            max(self.max_error_seconds, other.max_error_seconds),
        )


class ClockWatch(Job[float]):
    """Gives the current time, and measures the offset between this clock and the database's.

    The error of a measurement is at most half its round trip. Of three measurements the one with
    the shortest round trip is used. Between measurements the monotonic clock shows whether the wall
    clock was set: the first call after such a step detects it. From then until the next
    measurement, which `remeasure` requests, no time is returned. Suspending the host stops the
    monotonic clock, so it counts as a step too.
    """

    name = "clock"
    poll_seconds = 1.0

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        *,
        max_offset_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.remeasure = WakeUp()
        self._database = database
        self._clock = clock
        self._monotonic = monotonic
        self._max_offset_seconds = max_offset_seconds
        self._measured: _Measurement | None = None
        self._collected: MeasuredOffsets | None = None

    @property
    def fault(self) -> str | None:
        """Why this process may not accept orders, or None if its clock is right."""
        return self._unknown_reason(self._clock()) or self._off_reason()

    def stamp(self) -> datetime:
        """The current time by this process's clock, for an order that is accepted now.

        Raises:
            ClockOff: the offset to the database's clock is too large or unknown.
        """
        now = self._checked_now()
        if (fault := self._off_reason()) is not None:
            raise ClockOff(fault)
        return now

    def corrected(self) -> datetime:
        """The current time, corrected if this clock is off. For work that must not stop.

        Raises:
            ClockOff: the offset to the database's clock is unknown.
        """
        now = self._checked_now()
        if self._measured is None or self._off_reason() is None:
            return now
        return now - timedelta(seconds=self._measured.offset_seconds)

    async def run_once(self) -> float:
        """Measure the offset now and return it.

        A measurement too inaccurate to show whether the clock is off replaces the last one only
        if the clock was set since then.

        Raises:
            DatabaseUnavailable: it cannot be measured; the last measurement is kept.
        """
        unknown, was_off = self._unknown_reason(self._clock()), self._off_reason() is not None
        if unknown is not None and self._measured is not None:
            _log.warning("clock.stepped", reason=unknown)
        measured = await self._database.read(self._measure)
        metrics.CLOCK_OFFSET.set(measured.offset_seconds)
        self._collect(measured)
        certainly_off = (
            abs(measured.offset_seconds) - measured.error_seconds > self._max_offset_seconds
        )
        exact = measured.error_seconds <= self._max_offset_seconds / 2
        if unknown is not None or certainly_off or exact:
            self._measured = measured
        fault = self._off_reason()
        if fault is not None and not was_off:
            offset_seconds = round(measured.offset_seconds, 3)
            _log.error("clock.off", offset_seconds=offset_seconds, consequence=fault)
        elif fault is None and was_off:
            _log.info("clock.recovered")
        return measured.offset_seconds

    def take_offsets(self) -> MeasuredOffsets | None:
        """The offsets measured since the last call; None if there are none."""
        taken, self._collected = self._collected, None
        return taken

    def _collect(self, measured: _Measurement) -> None:
        offset, error = measured.offset_seconds, measured.error_seconds
        one = MeasuredOffsets(1, offset, offset, error)
        self._collected = one.merged(self._collected) if self._collected is not None else one

    def _checked_now(self) -> datetime:
        for _ in range(2):  # the process may be suspended between the readings of the two clocks
            now = self._clock()
            unknown = self._unknown_reason(now)
            if unknown is None:
                return now
        self.remeasure.set()
        raise ClockOff(unknown)

    def _unknown_reason(self, now: datetime) -> str | None:
        if self._measured is None:
            return "the offset to the database's clock has not been measured yet"
        step = now.timestamp() - self._monotonic() - self._measured.monotonic_offset
        if abs(step) <= min(_STEP_SECONDS, self._max_offset_seconds):
            return None
        return (
            f"this host's clock was set by {step:+.3f} s, and its offset to the database's has "
            "not been measured yet"
        )

    def _off_reason(self) -> str | None:
        if self._measured is None or abs(self._measured.offset_seconds) <= self._max_offset_seconds:
            return None
        offset = self._measured.offset_seconds
        direction = "ahead of" if offset > 0 else "behind"
        return (
            f"this process's clock is {abs(offset):.3f} s {direction} the database's, "
            f"more than {self._max_offset_seconds:g} s: correct the host's clock"
        )

    async def _measure(self, connection: Connection) -> _Measurement:
        measured: list[_Measurement] = []
        for _ in range(_MEASUREMENTS):
            started, before = self._monotonic(), self._clock()
            cursor = await connection.execute(_SELECT_CLOCK)
            row = await cursor.fetchone()
            error_seconds = (self._monotonic() - started) / 2
            database_time: datetime = row[0] if row else before
            offset_seconds = (before - database_time).total_seconds() + error_seconds
            monotonic_offset = before.timestamp() - started
            measured.append(_Measurement(error_seconds, offset_seconds, monotonic_offset))
        return min(measured)
