"""Strategies for what the domain accepts, over its whole range and with the edges favoured.

Everything drawn is valid: what breaks a rule is the business of the test that breaks it.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from hypothesis import strategies as st

from pulse.domain import (
    INTERNAL_SCOPE,
    Claim,
    Event,
    Order,
    OrderRequest,
    OrderState,
    PlaceOrder,
    RecordedBy,
    SplitOrder,
    SplitTerms,
    TimeOutOrder,
    Trace,
    decide,
    evolve,
    fold,
    parse_order_request,
)

MAX_QUANTITY: Final = 1_000_000_000
_PRIMES: Final = (101, 997, 7919, 104_729, 15_485_863, 999_999_937)
_REAL_INSTRUMENTS: Final = ("NSE:RELIANCE", "NSE:M&M", "NSE:BAJAJ-AUTO", "BSE:500325")

_seeds = st.one_of(st.sampled_from((0, 1, 2**63, 2**64 - 1)), st.integers(0, 2**64 - 1))
_num_splits = st.one_of(st.sampled_from((2, 3, 99, 100)), st.integers(2, 100))
_duration_minutes = st.one_of(st.sampled_from((1, 2, 1439, 1440)), st.integers(1, 1440))
_names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)
_keys = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=255)
_instruments = st.one_of(
    st.sampled_from(_REAL_INSTRUMENTS), st.from_regex(r"(NSE|BSE):[A-Z0-9&-]{1,46}", fullmatch=True)
)
_traces = st.builds(
    Trace, trace_id=_names, trace_source=_names, request_id=_names, request_source=_names
)
_authors = st.builds(RecordedBy, component=_names, instance=_names, code_version=_names)


def moments() -> st.SearchStrategy[datetime]:
    """Times in UTC from 2000 to 2100, about half of them on a whole second."""
    any_time = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - Hypothesis adds the zone
    return st.one_of(any_time, any_time.map(lambda time: time.replace(microsecond=0)))


@st.composite
def split_terms(draw: st.DrawFn, randomize: st.SearchStrategy[bool] | None = None) -> SplitTerms:
    """Terms a splitter must master: every n, T >= n, duration, seed and start that is accepted.

    Favoured are one share a slice, one share over, a hundred slices in a minute, prime totals and
    a billion shares. `randomize` narrows that choice, as in `split_terms(st.just(False))`.
    """
    num_splits = draw(_num_splits)
    return SplitTerms(
        total_quantity=draw(_total_quantities(num_splits)),
        num_splits=num_splits,
        duration_minutes=draw(_duration_minutes),
        randomize=draw(st.booleans() if randomize is None else randomize),
        seed=draw(_seeds),
        starts_at=draw(moments()),
    )


@st.composite
def order_request_bodies(draw: st.DrawFn) -> dict[str, object]:
    """Order requests as decoded JSON, each accepted; `randomize` sometimes left to its default."""
    num_splits = draw(_num_splits)
    split_config: dict[str, object] = {
        "num_splits": num_splits,
        "duration_minutes": draw(_duration_minutes),
    }
    randomize = draw(st.sampled_from((None, True, False)))
    if randomize is not None:
        split_config["randomize"] = randomize
    return {
        "order_unique_key": draw(_keys),
        "instrument": draw(_instruments),
        "side": draw(st.sampled_from(("BUY", "SELL"))),
        "total_quantity": draw(_total_quantities(num_splits)),
        "split_config": split_config,
    }


def order_requests() -> st.SearchStrategy[OrderRequest]:
    """Order requests as they come in, each accepted by `parse_order_request`."""
    return order_request_bodies().map(lambda body: OrderRequest(**body))


def place_orders() -> st.SearchStrategy[PlaceOrder]:
    """Commands to place an order, of the internal scope and of gateway callers'."""
    callers = st.one_of(st.just(INTERNAL_SCOPE), st.builds("{}|{}".format, _names, _names))
    return st.builds(
        PlaceOrder,
        requested=order_requests().map(parse_order_request),
        key_scope=callers,
        placed_by=_names,
        split_seed=_seeds,
        at=moments(),
        recorded_by=_authors,
        trace=_traces,
    )


@st.composite
def histories(draw: st.DrawFn, state: OrderState | None = None) -> tuple[Event, ...]:
    """The events of one order, first to last, ending in `state` where one is asked for.

    The order was claimed in time: COMPLETED by its slices, FAILED by a time-out.
    """
    created = decide(draw(place_orders()), None)
    ending = state or draw(st.sampled_from(("PENDING", "COMPLETED", "FAILED")))
    if ending == "PENDING":
        return created
    claimed_at = created[0].timestamp + timedelta(seconds=draw(st.integers(0, 60)))
    claim = Claim(worker=draw(_names), claimed_at=claimed_at, first_claimed_at=claimed_at)
    outcome: SplitOrder | TimeOutOrder
    if ending == "COMPLETED":
        outcome = SplitOrder(
            claim=claim,
            max_split_delay_seconds=0,
            at=claimed_at,
            request_id=draw(_names),
            recorded_by=draw(_authors),
        )
    else:
        outcome = TimeOutOrder(
            claim=claim,
            timeout_seconds=300,
            detected_by=draw(_names),
            at=claimed_at + timedelta(seconds=300),
            request_id=draw(_names),
            recorded_by=draw(_authors),
        )
    return created + decide(outcome, fold(created))


def orders(state: OrderState | None = None) -> st.SearchStrategy[Order]:
    """Orders as their events tell them, in `state` where one is asked for."""
    return histories(state).map(_order_of)


def _total_quantities(num_splits: int) -> st.SearchStrategy[int]:
    """At least one share a slice: the edges, small averages, and all the way to a billion."""
    edges = (num_splits, num_splits + 1, 2 * num_splits - 1, MAX_QUANTITY, *_PRIMES)
    return st.one_of(
        st.sampled_from(edges),
        st.integers(num_splits, 100 * num_splits),
        st.integers(num_splits, MAX_QUANTITY),
    )


def _order_of(history: tuple[Event, ...]) -> Order:
    created, *rest = history
    order = evolve(None, created)
    for event in rest:
        order = evolve(order, event)
    return order
