"""The timeout monitor: an order in progress for too long is given up, whatever became of it."""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import msgspec
import structlog

from pulse.application import Clock, ClockOff, Origin, new_request_id
from pulse.domain import Claim, TimeOutOrder, decide, fold
from pulse.eventstore import (
    AppendOutcomeUnknown,
    AppendRefused,
    EventStore,
    EventTooNew,
    RecordedEvent,
    VersionTaken,
)
from pulse.loop import NOW, Job
from pulse.postgres import Database, load_sql

_log = structlog.get_logger(__name__)
_MOST_CLAIMS: Final = 500
_OLDEST: Final = (datetime(1, 1, 1, tzinfo=UTC), UUID(int=0))
"""Before the first claim and the first order that there can be."""

_SELECT_OVERDUE_CLAIMS = load_sql(__package__, "select_overdue_claims")


class TimedOutBatch(msgspec.Struct, frozen=True):
    """Of `overdue` claims, how many orders this look timed out; the rest had their outcome."""

    overdue: int
    timed_out: int


class TimeoutMonitor(Job[TimedOutBatch]):
    """Appends TimedOut for orders claimed longer ago than the timeout, by the database's clock.

    Version 2 is unique, so a worker that finishes at the last moment wins or loses whole. The
    claim itself is left alone: projecting the outcome ends it.
    """

    name = "timeouts"
    poll_seconds = 60.0

    def __init__(
        self,
        database: Database,
        store: EventStore,
        clock: Clock,
        origin: Origin,
        *,
        timeout_seconds: float,
    ) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._detected_by = origin.instance
        self._recorded_by = origin.recorded_by("monitor")
        self._timeout_seconds = timeout_seconds

    async def run_once(self) -> TimedOutBatch:
        """Time out overdue orders, oldest claim first, at most 500 a look.

        Orders that cannot be timed out now do not count: the look goes on behind them.

        Raises:
            DatabaseUnavailable: nothing could be looked at.
            ClockOff: no time can be stamped now.
        """
        overdue, after = 0, _OLDEST
        while claims := await self._overdue(after):
            streams = await self._store.read_streams(list(claims))
            timed_out = 0
            for order_id, claim in claims.items():
                timed_out += await self._give_up_one(order_id, claim, streams.get(order_id, ()))
                after = claim.first_claimed_at, order_id
            overdue += len(claims)
            _log.debug("timeouts.checked", overdue=len(claims))
            if timed_out or len(claims) < _MOST_CLAIMS:
                return TimedOutBatch(overdue, timed_out)
        return TimedOutBatch(overdue, 0)

    def pause_after(self, result: TimedOutBatch) -> float | None:
        """Look again at once while there is more to time out."""
        return NOW if result.timed_out else None

    async def _give_up_one(
        self, order_id: UUID, claim: Claim, stream: tuple[RecordedEvent, ...]
    ) -> bool:
        """One order's fault is its own: a stream that cannot be read stops no other's end."""
        try:
            return await self._give_up(order_id, claim, stream)
        except ClockOff:  # no order's fault; the next run stamps the right time
            raise
        except EventTooNew as error:
            _log.warning("orders.left_to_newer", order_id=str(order_id), reason=str(error))
            return False
        except Exception:  # noqa: BLE001 - logged, and the look goes on
            _log.exception("orders.not_timed_out", order_id=str(order_id))
            return False

    async def _give_up(
        self, order_id: UUID, claim: Claim, stream: tuple[RecordedEvent, ...]
    ) -> bool:
        command = TimeOutOrder(
            claim=claim,
            timeout_seconds=self._timeout_seconds,
            detected_by=self._detected_by,
            at=self._clock(),
            request_id=new_request_id(),
            recorded_by=self._recorded_by,
        )
        order = fold(self._store.mapper.events_of(stream))
        for event in decide(command, order):
            try:
                await self._store.append(event)
            except (VersionTaken, AppendRefused, AppendOutcomeUnknown) as error:
                _log.info("orders.not_timed_out", order_id=str(order_id), reason=str(error))
                return False
            _log.warning("orders.timed_out", order_id=str(order_id), claimed_by=claim.worker)
            return True
        return False

    async def _overdue(self, after: tuple[datetime, UUID] = _OLDEST) -> dict[UUID, Claim]:
        async with self._database.connection() as connection:
            cursor = connection.cursor(binary=True)
            parameters = (self._timeout_seconds, *after, _MOST_CLAIMS)
            await cursor.execute(_SELECT_OVERDUE_CLAIMS, parameters, prepare=True)
            rows = await cursor.fetchall()
        return {
            row[0]: Claim(worker=row[1], claimed_at=row[2], first_claimed_at=row[3]) for row in rows
        }
