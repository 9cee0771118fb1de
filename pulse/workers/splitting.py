"""The splitting worker: claims pending orders, decides their schedule, appends the outcome."""

import asyncio
from collections import ChainMap, Counter
from collections.abc import Callable
from enum import Enum, auto
from typing import Final
from uuid import UUID

import msgspec
import structlog

from pulse.application.clock_watch import ClockOff
from pulse.application.origin import Clock, Origin, new_request_id
from pulse.domain import Claim, Event, SlicesScheduled, SplitOrder, decide, fold
from pulse.eventstore import (
    AppendOutcomeUnknown,
    AppendRefused,
    EventStore,
    EventTooNew,
    Outcome,
    RecordedEvent,
    VersionTaken,
)
from pulse.loop import NOW, Job
from pulse.postgres import DatabaseUnavailable
from pulse.projections.claims import Claims

_log = structlog.get_logger(__name__)
MAX_ORDERS_A_STEP: Final = 500
"""The most orders that one step claims, unless `batch_size` is larger."""

_AFTER_HANDING_BACK_SECONDS: Final = 0.5
_NOT_PRESENT_SECONDS: Final = 0.1
_MIN_ORDERS_AN_APPEND: Final = 100
"""Fewer decided orders wait for more, until all are decided: each append is a commit."""

_SLICES_BETWEEN_YIELDS: Final = 100
"""Some two milliseconds of deciding: then requests are let through."""


class Fate(Enum):
    """What became of a claimed order in this worker's hands."""

    COMPLETED = auto()
    FAILED = auto()
    SETTLED_BY_ANOTHER = auto()
    UNKNOWN = auto()
    HANDED_BACK = auto()
    LEFT_TO_NEWER = auto()
    CRASHED = auto()
    OVERDUE = auto()


class SplitStep(msgspec.Struct, frozen=True):
    """How many orders were claimed, and how many met which fate; none if it was not `present`.

    `more` says that as many were claimed as were asked for: there is a backlog.
    """

    claimed: int
    fates: Counter[Fate]
    present: bool = True
    more: bool = False


class SplittingWorker(Job[SplitStep]):
    """Splits orders: `batch_size` a step, or under a backlog several times as many.

    Each step that claims as many as it asked for makes the next one twice as large, up to
    MAX_ORDERS_A_STEP orders or one batch, so that its orders share the claim, the read of the
    streams, and the commits of their appends. A step that claims fewer makes the next one a batch
    again. Of all that write an outcome, version 2 lets one win.

    A loser leaves the claim alone: projecting the winner's event ends it. An append whose
    outcome is unknown is not handed back either; only what certainly did not happen is. An order
    that only newer code can read is left to it as if it had never been claimed here. Where a reply
    was lost (of a claim, an append, a release) the worker goes on under a new name, so that what
    the former one holds is recovered like any gone worker's claims.
    """

    name = "splitting"
    poll_seconds = 5.0

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
        is_present: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._claims = claims
        self._clock = clock
        self._recorded_by = origin.recorded_by("worker")
        self._batch_size = batch_size
        self._orders_a_step = batch_size
        self._max_split_delay_seconds = max_split_delay_seconds
        self._timeout_seconds = timeout_seconds
        self._is_present = is_present

    async def run_once(self) -> SplitStep:
        """Claim orders, settle each of them, hand back what could not be settled.

        Raises:
            DatabaseUnavailable: nothing could be claimed.
        """
        if not self._is_present():
            return SplitStep(0, Counter(), present=False)
        limit = self._orders_a_step
        self._orders_a_step = self._batch_size
        try:
            claims = await self._claims.claim(limit)
        except DatabaseUnavailable:
            self._abandon_claims()
            raise
        if not claims:
            return SplitStep(0, Counter())
        more = len(claims) == limit
        if more:
            self._orders_a_step = max(self._batch_size, min(2 * limit, MAX_ORDERS_A_STEP))
        _log.debug("orders.claimed", orders=len(claims), first=str(next(iter(claims))))
        fates = await self._settle_all(claims)
        handed_back = await self._hand_back(fates)
        if Fate.UNKNOWN in fates.values() or not handed_back:
            self._abandon_claims()
        step = SplitStep(len(claims), Counter(fates.values()), more=more)
        _log.info("orders.split", **{fate.name.lower(): n for fate, n in step.fates.items()})
        return step

    def _abandon_claims(self) -> None:
        former = self._claims.worker
        self._claims.abandon()
        _log.info("claims.abandoned", former=former, worker=self._claims.worker)

    def pause_after(self, result: SplitStep) -> float | None:
        """None at all under a backlog; a short one where the same orders would come again."""
        if not result.present:
            return _NOT_PRESENT_SECONDS
        if result.fates.keys() & {Fate.HANDED_BACK, Fate.LEFT_TO_NEWER, Fate.UNKNOWN}:
            return _AFTER_HANDING_BACK_SECONDS
        return NOW if result.more else None

    async def _settle_all(self, claims: dict[UUID, Claim]) -> dict[UUID, Fate]:
        try:
            streams = await self._store.read_streams(list(claims))
        except DatabaseUnavailable as error:
            _log.warning("orders.unread", orders=len(claims), error=str(error))
            return dict.fromkeys(claims, Fate.HANDED_BACK)
        fates: dict[UUID, Fate] = {}
        appends: list[asyncio.Task[dict[UUID, Fate]]] = []
        decided: dict[UUID, Event] = {}
        slices = 0
        for order_id, claim in claims.items():
            outcome = self._decide_safely(order_id, claim, streams.get(order_id, ()))
            if isinstance(outcome, Fate):
                fates[order_id] = outcome
            else:
                decided[order_id] = outcome
            slices += len(outcome.slices) if isinstance(outcome, SlicesScheduled) else 1
            if slices >= _SLICES_BETWEEN_YIELDS:
                slices = 0
                if len(decided) >= _MIN_ORDERS_AN_APPEND:
                    appends.append(asyncio.ensure_future(self._append(decided)))
                    decided = {}
                await asyncio.sleep(0)
        if decided:
            appends.append(asyncio.ensure_future(self._append(decided)))
        for appended in await asyncio.gather(*appends):
            fates |= appended
        return fates

    async def _append(self, decided: dict[UUID, Event]) -> dict[UUID, Fate]:
        events = list(decided.values())
        try:
            outcomes = await self._store.append_each(events)
        except Exception:  # noqa: BLE001 - one event cannot be encoded, so none was sent: try each
            if len(decided) > 1:
                fates = [await self._append({order_id: decided[order_id]}) for order_id in decided]
                return dict(ChainMap(*fates))
            _log.exception("orders.crashed", order_id=str(*decided))
            return dict.fromkeys(decided, Fate.CRASHED)
        return {
            order_id: _fate(event, outcome)
            for (order_id, event), outcome in zip(decided.items(), outcomes, strict=True)
        }

    def _decide_safely(
        self, order_id: UUID, claim: Claim, stream: tuple[RecordedEvent, ...]
    ) -> Event | Fate:
        """One order's fault is its own: it stays claimed until its age ends it."""
        try:
            return self._decide(claim, stream)
        except EventTooNew:
            return Fate.LEFT_TO_NEWER
        except ClockOff:  # it is measured again while this order waits
            return Fate.HANDED_BACK
        except Exception:  # noqa: BLE001 - a bug is logged, and the batch goes on
            _log.exception("orders.crashed", order_id=str(order_id))
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

    async def _hand_back(self, fates: dict[UUID, Fate]) -> bool:
        """Whether all that is to be handed back was."""
        handed_back = [order_id for order_id, fate in fates.items() if fate is Fate.HANDED_BACK]
        too_new = [order_id for order_id, fate in fates.items() if fate is Fate.LEFT_TO_NEWER]
        try:
            if handed_back:
                await self._claims.release(handed_back)
            if too_new:
                await self._claims.forget(too_new)
        except DatabaseUnavailable as error:
            orders = len(handed_back) + len(too_new)
            _log.warning("orders.not_handed_back", orders=orders, error=str(error))
            return False
        if handed_back:
            _log.info("orders.handed_back", orders=len(handed_back))
        if too_new:
            _log.warning("orders.left_to_newer", orders=len(too_new))
        return True


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
