"""The splitting worker: claims pending orders, decides their schedule, appends the outcome."""

import asyncio
from collections import Counter
from enum import Enum, auto
from typing import Final
from uuid import UUID

import msgspec
import structlog

from pulse.application import Clock, Origin, new_request_id
from pulse.domain import Claim, Event, SlicesScheduled, SplitOrder, decide, fold
from pulse.eventstore import (
    AppendOutcomeUnknown,
    AppendRefused,
    EventStore,
    Outcome,
    RecordedEvent,
    VersionTaken,
)
from pulse.postgres import DatabaseUnavailable
from pulse.workers.claims import Claims

_log = structlog.get_logger(__name__)
_ORDERS_BETWEEN_YIELDS: Final = 5


class Fate(Enum):
    """What became of a claimed order in this worker's hands."""

    COMPLETED = auto()
    FAILED = auto()
    SETTLED_BY_ANOTHER = auto()
    UNKNOWN = auto()
    HANDED_BACK = auto()
    CRASHED = auto()
    OVERDUE = auto()


class SplitBatch(msgspec.Struct, frozen=True):
    """How many orders were claimed, and how many met which fate."""

    claimed: int
    fates: Counter[Fate]


class SplittingWorker:
    """Splits orders in batches. Of all who would settle an order, version 2 lets one win.

    Whoever loses leaves the claim alone: projecting the winner's event ends it. An append whose
    outcome is unknown is not handed back either; only what certainly did not happen is. Where an
    answer was lost (of a claim, an append, a release) the worker asks the log before it claims
    again, and hands back what has no outcome there.
    """

    def __init__(  # noqa: PLR0913 - the worker's whole world, wired once
        self,
        store: EventStore,
        claims: Claims,
        clock: Clock,
        origin: Origin,
        *,
        batch_size: int,
        max_split_delay_seconds: float,
        timeout_seconds: float = float("inf"),
    ) -> None:
        self._store = store
        self._claims = claims
        self._clock = clock
        self._recorded_by = origin.recorded_by("worker")
        self._batch_size = batch_size
        self._max_split_delay_seconds = max_split_delay_seconds
        self._timeout_seconds = timeout_seconds
        self._in_doubt = False

    async def run_once(self) -> SplitBatch:
        """Claim a batch, settle each order in it, hand back what could not be settled.

        Raises:
            DatabaseUnavailable: nothing could be claimed.
        """
        if self._in_doubt:
            await self._resolve_doubt()
        self._in_doubt = True
        claims = await self._claims.claim(self._batch_size)
        fates = await self._settle_all(claims) if claims else {}
        self._in_doubt = Fate.UNKNOWN in fates.values()
        if not claims:
            return SplitBatch(0, Counter())
        unsettled = [order_id for order_id, fate in fates.items() if fate is Fate.HANDED_BACK]
        if unsettled:
            await self._hand_back(unsettled)
        batch = SplitBatch(len(claims), Counter(fates.values()))
        _log.info("orders.split", **{fate.name.lower(): n for fate, n in batch.fates.items()})
        return batch

    async def _resolve_doubt(self) -> None:
        handed_back = await self._claims.release_unsettled()
        self._in_doubt = False
        if handed_back:
            _log.info("orders.handed_back", orders=handed_back, reason="an answer had been lost")

    async def _settle_all(self, claims: dict[UUID, Claim]) -> dict[UUID, Fate]:
        try:
            streams = await self._store.read_streams(list(claims))
        except DatabaseUnavailable as error:
            _log.warning("orders.unread", orders=len(claims), error=str(error))
            return dict.fromkeys(claims, Fate.HANDED_BACK)
        fates: dict[UUID, Fate] = {}
        appends: list[asyncio.Task[dict[UUID, Fate]]] = []
        decided: dict[UUID, Event] = {}
        for number, (order_id, claim) in enumerate(claims.items(), 1):
            outcome = self._decide_safely(claim, streams[order_id])
            if isinstance(outcome, Fate):
                fates[order_id] = outcome
            else:
                decided[order_id] = outcome
            if number % _ORDERS_BETWEEN_YIELDS == 0 or number == len(claims):
                appends.append(asyncio.ensure_future(self._append(decided)))
                decided = {}
                await asyncio.sleep(0)  # a hundred slices take a while; let requests through
        for appended in await asyncio.gather(*appends):
            fates |= appended
        return fates

    async def _append(self, decided: dict[UUID, Event]) -> dict[UUID, Fate]:
        events = list(decided.values())
        outcomes = await self._store.append_each(events)
        return {
            order_id: _fate(event, outcome)
            for (order_id, event), outcome in zip(decided.items(), outcomes, strict=True)
        }

    def _decide_safely(self, claim: Claim, stream: tuple[RecordedEvent, ...]) -> Event | Fate:
        """One order's fault is its own: it stays claimed until its age ends it."""
        try:
            return self._decide(claim, stream)
        except Exception:  # noqa: BLE001 - a bug is logged, and the batch goes on
            _log.exception("orders.crashed", order_id=str(stream[0].originator_id))
            return Fate.CRASHED

    def _decide(self, claim: Claim, stream: tuple[RecordedEvent, ...]) -> Event | Fate:
        """The order's outcome; a fate where there is none for this worker to write."""
        if (claim.claimed_at - claim.first_claimed_at).total_seconds() > self._timeout_seconds:
            return Fate.OVERDUE  # it came back too late: the monitor's, whatever could be done
        command = SplitOrder(
            claim=claim,
            max_split_delay_seconds=self._max_split_delay_seconds,
            at=self._clock(),
            request_id=new_request_id(),
            recorded_by=self._recorded_by,
        )
        order = fold(self._store.mapper.events_of(stream))
        return next(iter(decide(command, order)), Fate.SETTLED_BY_ANOTHER)

    async def _hand_back(self, order_ids: list[UUID]) -> None:
        try:
            await self._claims.release(order_ids)
        except DatabaseUnavailable as error:
            self._in_doubt = True
            _log.warning("orders.not_handed_back", orders=len(order_ids), error=str(error))
        else:
            _log.info("orders.handed_back", orders=len(order_ids))


def _fate(event: Event, outcome: Outcome) -> Fate:
    match outcome:
        case VersionTaken():
            return Fate.SETTLED_BY_ANOTHER
        case AppendRefused():
            return Fate.HANDED_BACK
        case AppendOutcomeUnknown():
            return Fate.UNKNOWN
        case BaseException():
            _log.error("orders.crashed", order_id=str(event.originator_id), exc_info=outcome)
            return Fate.CRASHED
        case _:
            return Fate.COMPLETED if isinstance(event, SlicesScheduled) else Fate.FAILED
