"""The splitting worker: claims pending orders, computes their slices, appends the outcomes."""

import asyncio
import time
from collections import ChainMap, Counter
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec
import structlog

from pulse import metrics
from pulse.application.clock_watch import ClockOff
from pulse.application.origin import Clock, Origin, new_request_id
from pulse.domain import (
    Claim,
    Event,
    Order,
    SlicesScheduled,
    SplitOrder,
    SplittingFailed,
    TraceContext,
    decide,
    fold,
)
from pulse.eventstore import (
    AppendOutcomeUnknown,
    AppendRefused,
    AppendResult,
    EventStore,
    EventTooNew,
    RecordedEvent,
    VersionTaken,
)
from pulse.loop import NOW, Job
from pulse.postgres import DatabaseUnavailable
from pulse.projections.claims import Claims

if TYPE_CHECKING:
    from pulse.spans import Span, Spans

_log = structlog.get_logger(__name__)
MAX_ORDERS_PER_STEP: Final = 500
"""The maximum number of orders that one step claims, unless `batch_size` is larger."""

_PAUSE_BEFORE_RECLAIM_SECONDS: Final = 0.5
_PAUSE_WHILE_ABSENT_SECONDS: Final = 0.1

_SLICES_PER_YIELD: Final = 100
"""Computing this many slices takes about 2 ms. Then the event loop runs other tasks."""

_MIN_ORDERS_PER_APPEND: Final = 100
"""A step that yields appends its outcomes if at least this many are not appended yet.

Fewer wait for the next yield or the end of the step, because each append is a commit.
"""


class SplitResult(Enum):
    """The result of one claimed order."""

    COMPLETED = auto()
    """This worker wrote SlicesScheduled."""
    FAILED = auto()
    """This worker wrote SplittingFailed."""
    OUTCOME_EXISTS = auto()
    """Another writer's outcome is in the log."""
    UNKNOWN = auto()
    """It is not known whether the outcome was written."""
    RELEASED = auto()
    """Nothing was written; any worker may claim the order again."""
    NEEDS_NEWER_CODE = auto()
    """This code cannot read the stream; the claim is undone."""
    CRASHED = auto()
    """A bug or a bad event. The order stays claimed until it times out."""
    OVERDUE = auto()
    """The order was claimed again after its timeout. The timeout monitor ends it."""


_RESULTS_BEFORE_PAUSE: Final = frozenset(
    {SplitResult.RELEASED, SplitResult.NEEDS_NEWER_CODE, SplitResult.UNKNOWN}
)
"""After these results the next step might claim the same orders again."""


class SplitStep(msgspec.Struct, frozen=True):
    """How many orders a step claimed, and how many had which result.

    `present` is False if the worker had no presence lock, so that it claimed nothing. `more`: the
    step claimed as many orders as it asked for, so there is a backlog.
    """

    claimed: int
    results: Counter[SplitResult]
    present: bool = True
    more: bool = False


class _StepSpans:
    """The spans of a step, by the semantic conventions of OpenTelemetry for messaging.

    The claim is a span of a separate trace, linked with the orders that it claimed. The split of an
    order is a span of the order's trace, linked with the claim.
    """

    def __init__(self, spans: "Spans") -> None:
        self._spans = spans
        self._began_at_ns = time.time_ns()
        self._claimed_at_ns = 0
        self._claim = spans.start("claim orders", "CLIENT", None, at_ns=self._began_at_ns)
        self._of_orders: dict[UUID, Span] = {}

    def claimed(self, orders: int) -> None:
        """Record the end of the claim."""
        self._claimed_at_ns = time.time_ns()
        self._claim.set({"messaging.batch.message_count": orders})

    def start(self, claim: Claim, order: Order) -> TraceContext:
        """Start the span of this order's split. Its start time is the start of the claim."""
        attributes = {"pulse.order_id": str(order.id), "pulse.worker": claim.worker}
        span = self._of_orders[order.id] = self._spans.start(
            "split order",
            "CONSUMER",
            order.context,
            attributes=attributes,
            links=[self._claim.context],
            at_ns=self._began_at_ns,
        )
        if order.context is not None:
            self._claim.link(order.context)
        return span.context

    def end(self, results: Mapping[UUID, SplitResult]) -> None:
        """End the spans of these orders."""
        for order_id, result in results.items():
            span = self._of_orders.pop(order_id, None)
            if span is not None:
                is_split = result is SplitResult.COMPLETED
                span.end(error=None if is_split else result.name)

    def end_claim(self) -> None:
        """End the span of the claim, after the spans of its orders are linked with it."""
        self._claim.end(at_ns=self._claimed_at_ns)


class SplittingWorker(Job[SplitStep]):
    """Splits `batch_size` orders per step, or up to MAX_ORDERS_PER_STEP under a backlog.

    A step that claims as many orders as it asked for doubles the size of the next step. A step that
    claims fewer resets the size to `batch_size`. Large steps share the claim, the read of the
    streams and the commits of the appends.

    Version 2 of a stream is unique, so exactly one of several concurrent outcomes is written. The
    worker that loses keeps its claim; projecting the outcome deletes it. The worker releases a
    claim only if it is certain that no outcome was written. After a lost reply (to a claim, an
    append or a release) it continues under a new name, and the claims under the old name are
    recovered as orphaned claims.
    """

    name = "splitting"
    poll_seconds = 5.0

    def __init__(  # noqa: PLR0913 - all dependencies of the worker, passed once
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
        spans: "Spans | None" = None,
    ) -> None:
        self._store = store
        self._claims = claims
        self._clock = clock
        self._recorded_by = origin.recorded_by("worker")
        self._batch_size = batch_size
        self._orders_per_step = batch_size
        self._max_split_delay_seconds = max_split_delay_seconds
        self._timeout_seconds = timeout_seconds
        self._is_present = is_present
        self._spans = spans
        self._step_spans: _StepSpans | None = None

    async def run_once(self) -> SplitStep:
        """Claim orders, append their outcomes, release the orders that have none.

        Raises:
            DatabaseUnavailable: the claim failed, or its reply was lost.
        """
        if not self._is_present():
            return SplitStep(0, Counter(), present=False)
        limit = self._orders_per_step
        self._orders_per_step = self._batch_size
        if self._spans is not None:
            self._step_spans = _StepSpans(self._spans)
        try:
            claims = await self._claims.claim(limit)
        except DatabaseUnavailable:
            self._abandon_claims()
            raise
        if not claims:
            return SplitStep(0, Counter())
        more = len(claims) == limit
        if more:
            self._orders_per_step = max(self._batch_size, min(2 * limit, MAX_ORDERS_PER_STEP))
        if self._step_spans is not None:
            self._step_spans.claimed(len(claims))
        _log.debug("orders.claimed", orders=len(claims), first=str(next(iter(claims))))
        results = await self._split(claims)
        released = await self._release_claims(results)
        if SplitResult.UNKNOWN in results.values() or not released:
            self._abandon_claims()
        step = SplitStep(len(claims), Counter(results.values()), more=more)
        counts = {result.name.lower(): orders for result, orders in step.results.items()}
        _log.info("orders.split", **counts)
        return step

    def _abandon_claims(self) -> None:
        former = self._claims.worker
        self._claims.abandon()
        _log.info("claims.abandoned", former=former, worker=self._claims.worker)

    def pause_after(self, result: SplitStep) -> float | None:
        """NOW under a backlog; a short pause where the next step might claim the same orders."""
        if not result.present:
            return _PAUSE_WHILE_ABSENT_SECONDS
        if result.results.keys() & _RESULTS_BEFORE_PAUSE:
            return _PAUSE_BEFORE_RECLAIM_SECONDS
        return NOW if result.more else None

    async def _split(self, claims: dict[UUID, Claim]) -> dict[UUID, SplitResult]:
        try:
            streams = await self._store.read_streams(list(claims))
        except DatabaseUnavailable as error:
            _log.warning("orders.not_read", orders=len(claims), error=str(error))
            return dict.fromkeys(claims, SplitResult.RELEASED)
        results: dict[UUID, SplitResult] = {}
        appends: list[asyncio.Task[dict[UUID, SplitResult]]] = []
        decided: dict[UUID, Event] = {}
        slices = 0
        for order_id, claim in claims.items():
            decision = self._decide_safely(order_id, claim, streams.get(order_id, ()))
            if isinstance(decision, SplitResult):
                results[order_id] = decision
            else:
                decided[order_id] = decision
            slices += len(decision.slices) if isinstance(decision, SlicesScheduled) else 1
            if slices >= _SLICES_PER_YIELD:
                slices = 0
                if len(decided) >= _MIN_ORDERS_PER_APPEND:
                    appends.append(asyncio.ensure_future(self._append(decided)))
                    decided = {}
                await asyncio.sleep(0)
        if decided:
            appends.append(asyncio.ensure_future(self._append(decided)))
        if self._step_spans is not None:
            self._step_spans.end(results)
            self._step_spans.end_claim()
        for appended in await asyncio.gather(*appends):
            results |= appended
        return results

    async def _append(self, decided: dict[UUID, Event]) -> dict[UUID, SplitResult]:
        events = list(decided.values())
        try:
            appended = await self._store.append_each(events)
        except Exception:  # noqa: BLE001 - one event cannot be encoded, so none was sent: try each
            if len(decided) > 1:
                singly = [await self._append({order_id: decided[order_id]}) for order_id in decided]
                return dict(ChainMap(*singly))
            _log.exception("orders.split_crashed", order_id=str(*decided))
            return dict.fromkeys(decided, SplitResult.CRASHED)
        results: dict[UUID, SplitResult] = {}
        for (order_id, event), append_result in zip(decided.items(), appended, strict=True):
            results[order_id] = result = _result(event, append_result)
            if result is SplitResult.COMPLETED:
                metrics.count_outcome("SlicesScheduled")
            elif isinstance(event, SplittingFailed) and result is SplitResult.FAILED:
                metrics.count_outcome("SplittingFailed", event.reason)
                _log_failed(event)
        if self._step_spans is not None:
            self._step_spans.end(results)
        return results

    def _decide_safely(
        self, order_id: UUID, claim: Claim, stream: tuple[RecordedEvent, ...]
    ) -> Event | SplitResult:
        """As `_decide`, but an error is a result of this order, so that the step continues."""
        try:
            return self._decide(claim, stream)
        except EventTooNew:
            return SplitResult.NEEDS_NEWER_CODE
        except ClockOff:  # the clock watch measures again before the next step
            return SplitResult.RELEASED
        except Exception:  # noqa: BLE001 - a bug is logged; the step continues
            _log.exception("orders.split_crashed", order_id=str(order_id))
            return SplitResult.CRASHED

    def _decide(self, claim: Claim, stream: tuple[RecordedEvent, ...]) -> Event | SplitResult:
        """The event to append, or the result where there is nothing to append."""
        if (claim.claimed_at - claim.first_claimed_at).total_seconds() > self._timeout_seconds:
            return SplitResult.OVERDUE
        order = fold(self._store.mapper.events_of(stream))
        context = None
        if self._step_spans is not None and order is not None:
            context = self._step_spans.start(claim, order)
        command = SplitOrder(
            claim=claim,
            max_split_delay_seconds=self._max_split_delay_seconds,
            at=self._clock(),
            request_id=new_request_id(),
            recorded_by=self._recorded_by,
            context=context,
        )
        return next(iter(decide(command, order)), SplitResult.OUTCOME_EXISTS)

    async def _release_claims(self, results: dict[UUID, SplitResult]) -> bool:
        """Release the claims of orders that have no outcome; False if this may have failed."""
        released = [i for i, result in results.items() if result is SplitResult.RELEASED]
        too_new = [i for i, result in results.items() if result is SplitResult.NEEDS_NEWER_CODE]
        try:
            if released:
                await self._claims.release(released)
            if too_new:
                await self._claims.undo(too_new)
        except DatabaseUnavailable as error:
            orders = len(released) + len(too_new)
            _log.warning("claims.not_released", orders=orders, error=str(error))
            return False
        if released:
            _log.info("claims.released", orders=len(released))
        if too_new:
            _log.warning("orders.need_newer_code", orders=len(too_new))
        return True


def _log_failed(event: SplittingFailed) -> None:
    _log.warning(
        "orders.failed",
        order_id=str(event.originator_id),
        trace_id=event.trace.trace_id,
        reason=event.reason,
        message=event.message,
    )


def _result(event: Event, append_result: AppendResult) -> SplitResult:
    match append_result:
        case VersionTaken():
            return SplitResult.OUTCOME_EXISTS
        case AppendRefused():
            return SplitResult.RELEASED
        case AppendOutcomeUnknown():
            return SplitResult.UNKNOWN
        case BaseException():
            order_id = str(event.originator_id)
            _log.error("orders.split_crashed", order_id=order_id, exc_info=append_result)
            return SplitResult.CRASHED
        case _:
            return (
                SplitResult.COMPLETED if isinstance(event, SlicesScheduled) else SplitResult.FAILED
            )
