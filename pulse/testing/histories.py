"""Strategies for the lives of orders: their events, first to last, in every state and reason."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Literal, assert_never

from hypothesis import strategies as st

from pulse.domain import (
    SPLITTING_ERROR,
    TIMED_OUT,
    TOO_LATE,
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
from pulse.testing.strategies import authors, names, place_orders, seconds_after, traces

FailureReason = Literal["TIMED_OUT", "TOO_LATE", "SPLITTING_ERROR"]

_STATES: Final[tuple[OrderState, ...]] = ("PENDING", "COMPLETED", "FAILED")
_REASONS: Final[tuple[FailureReason, ...]] = (TIMED_OUT, TOO_LATE, SPLITTING_ERROR)
_IN_TIME_SECONDS: Final = 60
_LATE_SECONDS: Final = 61
_TIMEOUT_SECONDS: Final = 300


def histories(
    state: OrderState | None = None, reason: FailureReason | None = None
) -> st.SearchStrategy[tuple[Event, ...]]:
    """The events of one order, first to last, ending in `state` where one is asked for.

    A FAILED one ends for `reason`, or for any; asking for a reason alone asks for FAILED. An order
    IN_PROGRESS has the history of a PENDING one and a claim, which is no event: see
    `orders_in_progress`.

    Raises:
        ValueError: there is no such state or reason, or they do not go together.
    """
    if state is None and reason is not None:
        state = "FAILED"
    if state not in {None, *_STATES}:
        raise ValueError(f"an order's history ends in one of {', '.join(_STATES)}, not {state!r}")
    if reason is not None and (reason not in _REASONS or state != "FAILED"):
        raise ValueError(f"a FAILED order has one of {', '.join(_REASONS)}, not {reason!r}")
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


def orders(
    state: OrderState | None = None, reason: FailureReason | None = None
) -> st.SearchStrategy[Order]:
    """Orders as their events tell them, in `state` (FAILED for `reason`) where one is asked for.

    Raises:
        ValueError: as `histories`.
    """
    return histories(state, reason).map(_order_of)


@st.composite
def orders_in_progress(draw: st.DrawFn) -> tuple[Order, Claim]:
    """Orders that a worker holds, each with the claim it holds it by."""
    order = draw(orders("PENDING"))
    return order, draw(claims(order))


@st.composite
def claims(draw: st.DrawFn, order: Order, after_seconds: int = 0) -> Claim:
    """A worker's claim on this order, taken within a minute after `after_seconds` of its life."""
    most = after_seconds + _IN_TIME_SECONDS
    claimed_at = draw(seconds_after(order, after_seconds, most))
    return Claim(worker=draw(names()), claimed_at=claimed_at, first_claimed_at=claimed_at)


@st.composite
def _scheduled(draw: st.DrawFn, order: Order) -> Event:
    return draw(_split(order, draw(claims(order)), max_split_delay_seconds=0))


@st.composite
def _failed(draw: st.DrawFn, order: Order, reason: FailureReason) -> Event:
    match reason:
        case "TIMED_OUT":
            return draw(_timed_out(order))
        case "TOO_LATE":
            late = draw(claims(order, after_seconds=_LATE_SECONDS))
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
    claim = draw(claims(order))
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
def _splitting_error(draw: st.DrawFn, order: Order) -> Event:
    """Made by hand: no splitter there is breaks a rule, so no command leads here."""
    claim = draw(claims(order))
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


def _order_of(history: tuple[Event, ...]) -> Order:
    created, *rest = history
    order = evolve(None, created)
    for event in rest:
        order = evolve(order, event)
    return order
