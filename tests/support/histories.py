"""Hypothesis strategies for the event histories of orders: in every state, and whole lives."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, Literal, assert_never

from hypothesis import strategies as st

from pulse.domain import (
    INTERNAL_SCOPE,
    SPLITTING_ERROR,
    TIMED_OUT,
    TOO_LATE,
    CancelOrder,
    Claim,
    Command,
    Event,
    Halts,
    NothingToCancel,
    Order,
    OrderSpec,
    OrderState,
    PlaceOrder,
    RecordedBy,
    ReleaseSlices,
    Session,
    SplitConfigRequest,
    SplitOrder,
    SplittingFailed,
    TimeOutOrder,
    Trace,
    decide,
    evolve,
    expires_at,
)
from pulse.testing import ListedSessions, place_orders
from pulse.testing.strategies import authors, names, traces

FailureReason = Literal["TIMED_OUT", "TOO_LATE", "SPLITTING_ERROR"]

_STATES: Final[tuple[OrderState, ...]] = ("PENDING", "COMPLETED", "FAILED", "CANCELLED")
_REASONS: Final[tuple[FailureReason, ...]] = (TIMED_OUT, TOO_LATE, SPLITTING_ERROR)
_IN_TIME_SECONDS: Final = 60
_LATE_SECONDS: Final = 61
_TIMEOUT_SECONDS: Final = 300
_MICROSECOND: Final = timedelta(microseconds=1)
_AUTHOR: Final = RecordedBy(component="test", instance="test-1", code_version="0.1.0")
_TRACE: Final = Trace(trace_id="t", trace_source="test", request_id="r", request_source="test")
_STEP: Final = st.tuples(st.integers(0, 29), st.integers(0, 50))
_STEPS: Final = st.integers(1, 10).flatmap(lambda n: st.lists(_STEP, min_size=n, max_size=3 * n))
"""The next step of a life: the choice of a moment, and of a command."""
_CREATED_AT: Final = (
    datetime(2026, 3, 2, 3, 45, tzinfo=UTC),
    datetime(2026, 3, 2, 3, 45, 0, 123457, tzinfo=UTC),
)


def histories(
    state: OrderState | None = None, reason: FailureReason | None = None
) -> st.SearchStrategy[tuple[Event, ...]]:
    """The events of one order that ends in `state`, or FAILED with `reason`; by default in any."""
    return _histories(
        _STATES if state is None else (state,), _REASONS if reason is None else (reason,)
    )


@st.composite
def life_orders(draw: st.DrawFn) -> PlaceOrder:
    """Orders with a few slices far apart, or many about a second apart, some of them closer.

    Pulse releases the slices of most. Some start later; some are in two trading sessions.
    """
    few = st.tuples(st.integers(2, 6), st.sampled_from((1, 10, 1440)))
    many = st.tuples(st.sampled_from((50, 61, 100)), st.just(1))
    num_splits, duration_minutes = draw(few | many)
    at = draw(st.sampled_from(_CREATED_AT))
    starts_in = draw(st.sampled_from((None, None, 0, 2, 3600)))
    half = timedelta(minutes=duration_minutes) / 2
    opens_again_at = at + half + timedelta(hours=2)
    sessions = [
        Session(opens_at=at - half, closes_at=at + half),
        Session(opens_at=opens_again_at, closes_at=opens_again_at + 3 * half),
    ]
    return PlaceOrder(
        spec=OrderSpec(
            order_unique_key=f"ouk_{draw(st.integers(1, 1_000_000))}",
            instrument="NSE:RELIANCE",
            side=draw(st.sampled_from(("BUY", "SELL"))),
            total_quantity=draw(st.integers(num_splits, 10 * num_splits)),
            split_config=SplitConfigRequest(
                num_splits,
                duration_minutes,
                draw(st.booleans()),
                None if starts_in is None else at + timedelta(seconds=starts_in),
                draw(st.sampled_from((None, None, "NONE", "ROLL"))),
            ),
        ),
        key_scope=INTERNAL_SCOPE,
        placed_by="caller",
        split_seed=draw(st.integers(0, 2**64 - 1)),
        release=draw(st.sampled_from((*[True] * 7, False))),
        at=at,
        recorded_by=_AUTHOR,
        trace=_TRACE,
        calendar=ListedSessions(sessions),
    )


@st.composite
def lives(draw: st.DrawFn, max_delay_seconds: float = 60) -> tuple[Event, ...]:
    """The events of one order, in any interleaving of split, timeout, releases and a cancel.

    The split may be late or missing. Releases are decided with `max_delay_seconds`, at times that
    never decrease; many are at a limit of a slice, or a microsecond before or after it.
    """
    (created,) = decide(draw(life_orders()), None)
    events, order = [created], evolve(None, created)
    now = order.created_at
    for moment, choice in draw(_STEPS):
        moments = moments_from(now, order, max_delay_seconds)
        now = moments[moment % len(moments)]
        command = _command(choice, order, now, max_delay_seconds)
        for event in _decided(command, order):
            events.append(event)
            order = evolve(order, event)
    return tuple(events)


def moments_from(now: datetime, order: Order, max_delay_seconds: float) -> list[datetime]:
    """Moments from now on: limits of the order's next slices, just before and after, and others."""
    limits = [order.due_at] * 4 if order.due_at is not None else []
    limits += [s.scheduled_at for s in order.unsettled[:2]]
    limits += [expires_at(*two, max_delay_seconds) for two in pairwise(order.unsettled[:2])]
    limits += [expires_at(s, None, max_delay_seconds) for s in order.slices[-1:]]
    around = [limit + step * _MICROSECOND for limit in limits for step in (-1, 0, 1)]
    later = [now + timedelta(seconds=seconds) for seconds in (0, 0.1, 0.75, 1, 40)]
    return [moment for moment in (*later, *around) if moment >= now]


@st.composite
def _histories(
    draw: st.DrawFn, states: Sequence[OrderState], reasons: Sequence[FailureReason]
) -> tuple[Event, ...]:
    (created,) = decide(draw(place_orders()), None)
    order = evolve(None, created)
    match draw(st.sampled_from(states)):
        case "PENDING":
            return (created,)
        case "COMPLETED":
            return created, draw(_scheduled(order))
        case "FAILED":
            return created, draw(_failed(order, draw(st.sampled_from(reasons))))
        case "CANCELLED":
            return created, draw(_cancelled(order))


@st.composite
def _claims(draw: st.DrawFn, order: Order, after_seconds: int = 0) -> Claim:
    """A claim on this order, within a minute after `after_seconds` from its creation."""
    most = after_seconds + _IN_TIME_SECONDS
    claimed_at = order.created_at + timedelta(seconds=draw(st.integers(after_seconds, most)))
    return Claim(worker=draw(names()), claimed_at=claimed_at, first_claimed_at=claimed_at)


@st.composite
def _scheduled(draw: st.DrawFn, order: Order) -> Event:
    return draw(_split(order, draw(_claims(order)), max_split_delay_seconds=0))


@st.composite
def _failed(draw: st.DrawFn, order: Order, reason: FailureReason) -> Event:
    match reason:
        case "TIMED_OUT":
            return draw(_timed_out(order))
        case "TOO_LATE":
            late = draw(_claims(order, after_seconds=_LATE_SECONDS))
            return draw(_split(order, late, max_split_delay_seconds=_IN_TIME_SECONDS))
        case "SPLITTING_ERROR":
            return draw(_splitting_error(order))
        case _:
            assert_never(reason)


@st.composite
def _split(draw: st.DrawFn, order: Order, claim: Claim, *, max_split_delay_seconds: float) -> Event:
    command = SplitOrder(
        claim=claim,
        max_split_delay_seconds=max_split_delay_seconds,
        at=claim.claimed_at,
        request_id=draw(names()),
        recorded_by=draw(authors()),
    )
    return decide(command, order)[0]


@st.composite
def _timed_out(draw: st.DrawFn, order: Order) -> Event:
    claim = draw(_claims(order))
    command = TimeOutOrder(
        claim=claim,
        timeout_seconds=_TIMEOUT_SECONDS,
        detected_by=draw(names()),
        at=claim.claimed_at + timedelta(seconds=_TIMEOUT_SECONDS),
        request_id=draw(names()),
        recorded_by=draw(authors()),
    )
    return decide(command, order)[0]


@st.composite
def _cancelled(draw: st.DrawFn, order: Order) -> Event:
    command = CancelOrder(
        reason=draw(st.none() | names()),
        cancelled_by=draw(names()),
        at=order.updated_at + timedelta(seconds=draw(st.integers(0, _IN_TIME_SECONDS))),
        recorded_by=draw(authors()),
        trace=draw(traces()),
    )
    return decide(command, order)[0]


def _command(choice: int, order: Order, now: datetime, max_delay_seconds: float) -> Command:
    """A command for this order; most choices cause an event."""
    claim = Claim(worker="worker-1", claimed_at=now, first_claimed_at=now)
    match choice:
        case 7:
            return CancelOrder(
                reason=None, cancelled_by="caller", at=now, recorded_by=_AUTHOR, trace=_TRACE
            )
        case 8:
            return TimeOutOrder(
                claim=claim,
                timeout_seconds=_TIMEOUT_SECONDS,
                detected_by="monitor-1",
                at=now,
                request_id="r-1",
                recorded_by=_AUTHOR,
            )
        case _ if order.state == "PENDING" or choice == 9:
            return SplitOrder(
                claim=claim,
                max_split_delay_seconds=0,
                at=now,
                request_id="r-2",
                recorded_by=_AUTHOR,
            )
        case _:
            return ReleaseSlices(
                halts=Halts(),
                max_delay_seconds=max_delay_seconds,
                released_by="releaser-1",
                at=now,
                request_id="r-3",
                recorded_by=_AUTHOR,
            )


def _decided(command: Command, order: Order) -> tuple[Event, ...]:
    try:
        return decide(command, order)
    except NothingToCancel:
        return ()


@st.composite
def _splitting_error(draw: st.DrawFn, order: Order) -> Event:
    """Built without a command, because no splitter breaks a rule."""
    claim = draw(_claims(order))
    return SplittingFailed(
        originator_id=order.id,
        originator_version=order.version + 1,
        timestamp=claim.claimed_at,
        recorded_by=draw(authors()),
        trace=draw(traces()),
        reason=SPLITTING_ERROR,
        message=f"quantities_sum_to_total: quantities sum to 0, "
        f"expected {order.spec.total_quantity}",
        worker=claim.worker,
        claimed_at=claim.claimed_at,
    )
