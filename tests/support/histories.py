"""Hypothesis strategies for the event histories of orders, in every state."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Literal, assert_never

from hypothesis import strategies as st

from pulse.domain import (
    SPLITTING_ERROR,
    TIMED_OUT,
    TOO_LATE,
    CancelOrder,
    Claim,
    Event,
    Order,
    OrderState,
    SplitOrder,
    SplittingFailed,
    TimeOutOrder,
    decide,
    evolve,
)
from pulse.testing import place_orders
from pulse.testing.strategies import authors, names, traces

FailureReason = Literal["TIMED_OUT", "TOO_LATE", "SPLITTING_ERROR"]

_STATES: Final[tuple[OrderState, ...]] = ("PENDING", "COMPLETED", "FAILED", "CANCELLED")
_REASONS: Final[tuple[FailureReason, ...]] = (TIMED_OUT, TOO_LATE, SPLITTING_ERROR)
_IN_TIME_SECONDS: Final = 60
_LATE_SECONDS: Final = 61
_TIMEOUT_SECONDS: Final = 300


def histories(
    state: OrderState | None = None, reason: FailureReason | None = None
) -> st.SearchStrategy[tuple[Event, ...]]:
    """The events of one order that ends in `state`, or FAILED with `reason`; by default in any."""
    return _histories(
        _STATES if state is None else (state,), _REASONS if reason is None else (reason,)
    )


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
