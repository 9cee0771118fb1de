"""The application's clock against the database's: with a wrong clock no order is stamped."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import msgspec
import structlog

from pulse.errors import PulseError
from pulse.loop import Job, WakeUp
from pulse.postgres import Connection, Database, load_sql

_log = structlog.get_logger(__name__)
_MEASUREMENTS: Final = 3
_STEP_SECONDS: Final = 0.05
"""A wall clock that runs ahead of the monotonic one, or behind, by more than this was set."""
_SELECT_CLOCK = load_sql(__package__, "select_clock")


class ClockOff(PulseError):
    """The clocks differ too much for t0, which anchors every slice, to be trusted."""


class _Measurement(msgspec.Struct, frozen=True, order=True):
    """How far this process's clock was ahead of the database's, within `error_seconds`.

    `monotonic_offset` is the wall clock's reading minus the monotonic clock's at that time.
    """

    error_seconds: float
    offset_seconds: float
    monotonic_offset: float


class ClockWatch(Job[float]):
    """Stamps times, and knows how far this process's clock is from the database's.

    Each measurement is off by at most half its round trip; of three the shortest counts. Between
    measurements the monotonic clock shows when the wall clock was set: the first stamp after such a
    step detects it. From then until the next measurement, which `doubted` requests, no time is
    stamped. A sleep of the host stops the monotonic clock and is a step too.
    """

    name = "clock"
    poll_seconds = 1.0

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        *,
        most_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.doubted = WakeUp()
        self._database = database
        self._clock = clock
        self._monotonic = monotonic
        self._most_seconds = most_seconds
        self._measured: _Measurement | None = None

    @property
    def fault(self) -> str | None:
        """Why this process may take no orders, or None if its clock will do."""
        return self._unknown(self._clock()) or self._too_far()

    def stamp(self) -> datetime:
        """This process's time, for an order that is accepted now.

        Raises:
            ClockOff: the offset to the database's clock is too large, or not known.
        """
        now = self._known_now()
        if (fault := self._too_far()) is not None:
            raise ClockOff(fault)
        return now

    def corrected(self) -> datetime:
        """This process's time, for what must go on: by the database's clock if its own is off.

        Raises:
            ClockOff: the offset to the database's clock is not known.
        """
        now = self._known_now()
        if self._measured is None or self._too_far() is None:
            return now
        return now - timedelta(seconds=self._measured.offset_seconds)

    async def run_once(self) -> float:
        """Measure the offset now and return it.

        A measurement that is too inexact to show whether the clock is right replaces none.

        Raises:
            DatabaseUnavailable: it cannot be measured; the last measurement is kept.
        """
        unknown, was_off = self._unknown(self._clock()), self._too_far() is not None
        if unknown is not None and self._measured is not None:
            _log.warning("clock.stepped", reason=unknown)
        measured = await self._database.read(self._measure)
        certainly_off = abs(measured.offset_seconds) - measured.error_seconds > self._most_seconds
        exact = measured.error_seconds <= self._most_seconds / 2
        if unknown is not None or certainly_off or exact:
            self._measured = measured
        fault = self._too_far()
        if fault is not None and not was_off:
            offset_seconds = round(measured.offset_seconds, 3)
            _log.error("clock.off", offset_seconds=offset_seconds, consequence=fault)
        elif fault is None and was_off:
            _log.info("clock.right_again")
        return measured.offset_seconds

    def _known_now(self) -> datetime:
        for _ in range(2):  # the process may be held up between the readings of the two clocks
            now = self._clock()
            unknown = self._unknown(now)
            if unknown is None:
                return now
        self.doubted.set()
        raise ClockOff(unknown)

    def _unknown(self, now: datetime) -> str | None:
        if self._measured is None:
            return "the offset to the database's clock is not measured yet"
        step = now.timestamp() - self._monotonic() - self._measured.monotonic_offset
        if abs(step) <= min(_STEP_SECONDS, self._most_seconds):
            return None
        return (
            f"this host's clock was set by {step:+.3f} s, and its offset to the database's is not "
            "measured yet"
        )

    def _too_far(self) -> str | None:
        if self._measured is None or abs(self._measured.offset_seconds) <= self._most_seconds:
            return None
        offset = self._measured.offset_seconds
        direction = "ahead of" if offset > 0 else "behind"
        return (
            f"this process's clock is {abs(offset):.3f} s {direction} the database's, "
            f"more than {self._most_seconds:g} s: correct the host's clock"
        )

    async def _measure(self, connection: Connection) -> _Measurement:
        measured: list[_Measurement] = []
        for _ in range(_MEASUREMENTS):
            started, before = self._monotonic(), self._clock()
            cursor = await connection.execute(_SELECT_CLOCK)
            row = await cursor.fetchone()
            error_seconds = (self._monotonic() - started) / 2
            theirs: datetime = row[0] if row else before
            offset_seconds = (before - theirs).total_seconds() + error_seconds
            monotonic_offset = before.timestamp() - started
            measured.append(_Measurement(error_seconds, offset_seconds, monotonic_offset))
        return min(measured)
