"""The timeout monitor: fails claimed orders whose first claim is older than the timeout."""

from uuid import UUID

import msgspec
import structlog

from pulse import metrics
from pulse.application.clock_watch import ClockOff
from pulse.application.origin import Clock, Origin, new_request_id
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
from pulse.postgres import Database
from pulse.projections.claims import overdue_claims

_log = structlog.get_logger(__name__)


class TimedOutBatch(msgspec.Struct, frozen=True):
    """How many claims were overdue, and how many of their orders this run timed out."""

    overdue: int
    timed_out: int


class TimeoutMonitor(Job[TimedOutBatch]):
    """Appends TimedOut for claimed orders whose first claim is older than the timeout.

    The age is by the database's clock. Version 2 of a stream is unique: if a worker finishes at the
    same moment, exactly one of the two events is written. The monitor does not release the claim;
    projecting the outcome deletes it.
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
        """Time out overdue orders in batches of 500, oldest claim first.

        The run ends after the first batch in which an order was timed out.

        Raises:
            DatabaseUnavailable: the claims or their streams cannot be read.
            ClockOff: the offset of this process's clock is unknown, so no event can get a time.
        """
        overdue = 0
        async for claims in overdue_claims(self._database, timeout_seconds=self._timeout_seconds):
            streams = await self._store.read_streams(list(claims))
            timed_out = 0
            for order_id, claim in claims.items():
                timed_out += await self._time_out(order_id, claim, streams.get(order_id, ()))
            overdue += len(claims)
            _log.debug("timeouts.checked", overdue=len(claims))
            if timed_out:
                return TimedOutBatch(overdue, timed_out)
        return TimedOutBatch(overdue, 0)

    def pause_after(self, result: TimedOutBatch) -> float | None:
        """NOW after a run that timed out orders; there may be more."""
        return NOW if result.timed_out else None

    async def _time_out(
        self, order_id: UUID, claim: Claim, stream: tuple[RecordedEvent, ...]
    ) -> bool:
        """Whether this call timed the order out. A failure is logged and stops no other order."""
        try:
            order = fold(self._store.mapper.events_of(stream))
            events = decide(self._command(claim), order)
            for event in events:
                await self._store.append(event)
        except ClockOff:  # it concerns all orders; the next run tries again
            raise
        except EventTooNew as error:
            _log.warning("orders.need_newer_code", order_id=str(order_id), reason=str(error))
            return False
        except (VersionTaken, AppendRefused, AppendOutcomeUnknown) as error:
            _log.info("orders.not_timed_out", order_id=str(order_id), reason=str(error))
            return False
        except Exception:  # noqa: BLE001 - logged; the run continues
            _log.exception("orders.not_timed_out", order_id=str(order_id))
            return False
        if events:
            metrics.count_outcome("TimedOut", "TIMED_OUT")
            _log.warning("orders.timed_out", order_id=str(order_id), claimed_by=claim.worker)
        return bool(events)

    def _command(self, claim: Claim) -> TimeOutOrder:
        return TimeOutOrder(
            claim=claim,
            timeout_seconds=self._timeout_seconds,
            detected_by=self._detected_by,
            at=self._clock(),
            request_id=new_request_id(),
            recorded_by=self._recorded_by,
        )
