"""The releaser: appends SlicesReleased for slices that are due, SlicesExpired for expired ones."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

import msgspec
import structlog
from eventsourcing.persistence import StoredEvent

from pulse import metrics
from pulse.application.origin import Origin, new_request_id
from pulse.domain import (
    DueOrder,
    Event,
    Halts,
    ReleaseSlices,
    Slice,
    SlicesExpired,
    SlicesReleased,
    TraceContext,
    expires_at,
    release_due,
)
from pulse.eventstore import (
    AppendCondition,
    AppendOutcomeUnknown,
    AppendRefused,
    AppendResult,
    ConditionFailed,
    EventStore,
    VersionTaken,
)
from pulse.loop import NOW, Job
from pulse.postgres import Database, DatabaseUnavailable
from pulse.projections.due_orders import read_due_orders

if TYPE_CHECKING:
    from pulse.spans import Span, Spans

_log = structlog.get_logger(__name__)

MAX_ORDERS_PER_STEP: Final = 1000
"""The maximum number of orders that one step reads, the longest due first."""

_PAUSE_AFTER_FAILED_APPEND_SECONDS: Final = 0.1


class ReleaseResult(Enum):
    """The result of one due order."""

    RELEASED = auto()
    """This releaser wrote SlicesReleased."""
    EXPIRED = auto()
    """This releaser wrote SlicesExpired."""
    OVERTAKEN = auto()
    """Another writer took this version: a releaser or a cancel. The projection will show it."""
    NOT_CONFIRMED = auto()
    """The append was refused, its outcome is unknown, or its condition failed: a halt was set or
    lifted, or a slice expired. The next step tries again.
    """
    CRASHED = auto()
    """A bug or a bad row, which is logged. If the decision crashed, the order is skipped until it
    changes.
    """


_SETTLED: Final = frozenset({ReleaseResult.RELEASED, ReleaseResult.EXPIRED})


class ReleaseStep(msgspec.Struct, frozen=True):
    """How many due orders had which result.

    `next_seconds` is in how many seconds the next order is due; None if there is none yet.
    `more`: the step read its maximum of orders, so there is a backlog.
    """

    results: Counter[ReleaseResult]
    next_seconds: float | None
    more: bool = False


class Releaser(Job[ReleaseStep]):
    """Releases and expires slices, by the database's clock, as `pulse.domain.releases` says.

    It decides from an order's row in the queue, without reading its stream. The next version of the
    stream is unique, so if several releasers and a cancel compete, exactly one settles a slice. A
    releaser that loses decides again when the projection shows the winner's event. Nothing is lost
    if it is killed: the order stays due until the projection shows an event that settles its
    slices.

    It decides for the time of its read, by the database's clock. The append of a release requires
    that the first slice has not expired, and that no halt was set or lifted since the halts were
    read. So a process that was frozen releases nothing too late, and once the caller of a halt
    has its answer, no process releases a slice in its scope.
    """

    name = "releases"
    poll_seconds = 1.0
    min_pause_seconds = 0.01

    def __init__(  # noqa: PLR0913 - all dependencies of the releaser, passed once
        self,
        database: Database,
        store: EventStore,
        origin: Origin,
        *,
        halts: Callable[[], Awaitable[Halts]],
        max_delay_seconds: float,
        spans: "Spans | None" = None,
    ) -> None:
        self._spans = spans
        self._database = database
        self._store = store
        self._released_by = origin.instance
        self._recorded_by = origin.recorded_by("releaser")
        self._halts = halts
        self._max_delay_seconds = max_delay_seconds
        self._handled: dict[int, int] = {}  # see `read_due_orders`
        self._crashed: dict[UUID, int] = {}  # by order, the version at which it crashed

    async def run_once(self) -> ReleaseStep:
        """Release or expire slices of the orders that are due now.

        Raises:
            DatabaseUnavailable: the halts or the due orders cannot be read.
            EventTooNew, EventUnreadable, HistoryBroken: this code cannot read the halts, so it
                releases nothing.
        """
        halts = await self._halts()
        due = await read_due_orders(
            self._database,
            MAX_ORDERS_PER_STEP,
            halts=halts,
            max_delay_seconds=self._max_delay_seconds,
            handled=self._handled,
        )
        read_at = time.monotonic()
        results: Counter[ReleaseResult] = Counter()
        decided: dict[int, _Decision] = {}
        contexts = None if self._spans is None else await self._trace_contexts(due.orders)
        for order, created_position in zip(due.orders, due.created_positions, strict=True):
            decision = self._decide(order, due.at, halts, contexts)
            if isinstance(decision, _Decision):
                decided[created_position] = decision
            elif decision is not None:
                results[decision] += 1
        if decided:
            events = [decision.event for decision in decided.values()]
            conditions = [decision.condition for decision in decided.values()]
            spans = [decision.span for decision in decided.values()]
            appended = await self._store.appender.append_each(events, conditions, spans)
            stored_at = due.at + timedelta(seconds=time.monotonic() - read_at)
            for decision, append_result in zip(decided.values(), appended, strict=True):
                result = _result(decision.event, append_result)
                results[result] += 1
                _measure(decision.settled, result, stored_at)
                if decision.span is not None:
                    settled = result in _SETTLED
                    decision.span.end(error=None if settled else result.name)
            self._handled = due.unprojected | _settled_up_to(
                dict(zip(decided, appended, strict=True))
            )
        more = len(due.orders) == MAX_ORDERS_PER_STEP
        step = ReleaseStep(results, due.next_seconds, more=more)
        if decided:
            _log.info("slices.settled", **{r.name.lower(): n for r, n in step.results.items()})
        return step

    def pause_after(self, result: ReleaseStep) -> float | None:
        """NOW under a backlog; a short pause if an event was NOT_CONFIRMED."""
        if result.results[ReleaseResult.NOT_CONFIRMED]:
            return _PAUSE_AFTER_FAILED_APPEND_SECONDS
        progressed = result.results.keys() & _SETTLED
        return NOW if result.more and progressed else None

    def poll_after(self, result: ReleaseStep) -> float:
        """At most until the next order is due."""
        if result.next_seconds is None:
            return self.poll_seconds
        return min(self.poll_seconds, result.next_seconds)

    async def _trace_contexts(self, orders: Sequence[DueOrder]) -> Mapping[UUID, TraceContext]:
        """The trace contexts in which these orders were placed, as far as they can be read now."""
        if not orders:
            return {}
        try:
            return await self._store.read_trace_contexts([order.order_id for order in orders])
        except DatabaseUnavailable:
            return {}

    def _decide(
        self,
        order: DueOrder,
        at: datetime,
        halts: Halts,
        contexts: Mapping[UUID, TraceContext] | None,
    ) -> "_Decision | ReleaseResult | None":
        """What to write for an order; None if there is nothing to write."""
        if self._crashed.get(order.order_id) == order.version:
            return ReleaseResult.CRASHED
        span = None
        if self._spans is not None and contexts is not None:
            span = _start_span(self._spans, order, contexts.get(order.order_id))
        command = ReleaseSlices(
            max_delay_seconds=self._max_delay_seconds,
            halts=halts,
            released_by=self._released_by,
            at=at,
            request_id=new_request_id(),
            recorded_by=self._recorded_by,
            context=None if span is None else span.context,
        )
        try:
            events = release_due(command, order)
            if not events:
                return None
            (event,) = events
            condition = None
            if isinstance(event, SlicesReleased):
                condition = AppendCondition(halts.version, before=self._expires_at(order))
            settled = _slices_of(order, event)
            if span is not None:
                span.name("release slices" if condition is not None else "expire slices")
                span.set({"pulse.slices": len(settled)})
            return _Decision(self._store.mapper.to_stored_event(event), condition, settled, span)
        except Exception:  # noqa: BLE001 - one order must not stop the others
            _log.exception("slices.release_crashed", order_id=str(order.order_id))
            self._crashed[order.order_id] = order.version
            return ReleaseResult.CRASHED

    def _expires_at(self, order: DueOrder) -> datetime:
        """When the first of its slices expires."""
        first, *others = order.unsettled
        return expires_at(first, others[0] if others else None, self._max_delay_seconds)


class _Decision(NamedTuple):
    """The event to write for an order, its condition, and the slices that it settles."""

    event: StoredEvent
    condition: AppendCondition | None
    settled: Sequence[Slice]
    span: "Span | None"


def _start_span(spans: "Spans", order: DueOrder, context: TraceContext | None) -> "Span":
    """The span of an order's release, a child of the span that placed the order."""
    attributes = {"pulse.order_id": str(order.order_id)}
    return spans.start("release slices", "CONSUMER", context, attributes=attributes)


def _slices_of(order: DueOrder, event: Event) -> Sequence[Slice]:
    """The slices that the event releases or expires: the next ones of the order."""
    if isinstance(event, SlicesReleased):
        return event.slices
    count = len(event.sequence_numbers) if isinstance(event, SlicesExpired) else 0
    return order.unsettled[:count]


def _measure(settled: Sequence[Slice], result: ReleaseResult, stored_at: datetime) -> None:
    """Count the slices that this releaser settled, and measure how late they were released."""
    if result is ReleaseResult.RELEASED:
        metrics.SLICES_RELEASED.inc(len(settled))
        for one in settled:
            metrics.RELEASE_LATENESS.observe((stored_at - one.scheduled_at).total_seconds())
    elif result is ReleaseResult.EXPIRED:
        metrics.SLICES_EXPIRED.inc(len(settled))


def _settled_up_to(appended: Mapping[int, AppendResult]) -> dict[int, int]:
    """By order, a position up to which its slices are settled; orders without one are left out.

    For an order whose version another writer took, it is the last position of this step: the other
    event was committed earlier, so the projection reads it first.
    """
    positions = {order: p[0] for order, p in appended.items() if isinstance(p, tuple)}
    last = max(positions.values(), default=0)
    overtaken = {order for order, result in appended.items() if isinstance(result, VersionTaken)}
    return positions | dict.fromkeys(overtaken, last)


def _result(event: StoredEvent, append_result: AppendResult) -> ReleaseResult:
    match append_result:
        case VersionTaken():
            return ReleaseResult.OVERTAKEN
        case AppendRefused() | AppendOutcomeUnknown() | ConditionFailed():
            return ReleaseResult.NOT_CONFIRMED
        case BaseException():
            order_id = str(event.originator_id)
            _log.error("slices.release_crashed", order_id=order_id, exc_info=append_result)
            return ReleaseResult.CRASHED
        case _:
            is_expiry = event.topic == SlicesExpired.TOPIC
            return ReleaseResult.EXPIRED if is_expiry else ReleaseResult.RELEASED
