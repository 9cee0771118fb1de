"""Hypothesis strategies for what the domain accepts: the whole range with many edge cases.

Everything drawn is valid. Tests construct invalid values themselves.
"""

import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec
from hypothesis import strategies as st

from pulse.domain import (
    CURRENT_SPLITTER_VERSION,
    INTERNAL_SCOPE,
    MAX_DURATION_MINUTES,
    MAX_QUANTITY,
    MAX_SPLITS,
    MIN_SPLITS,
    OrderRefused,
    OrderSpec,
    PlaceOrder,
    RecordedBy,
    Slice,
    SplitConfigRequest,
    SplitTerms,
    Trace,
    parse_order_request,
    split,
)


class Size(NamedTuple):
    """The quantity, the number of slices and the duration of an order."""

    total_quantity: int
    num_splits: int
    duration_minutes: int


_SIMPLE_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
PRIMES: Final = (101, 997, 7919, 104_729, 15_485_863, 999_999_937)
_REAL_INSTRUMENTS: Final = ("NSE:RELIANCE", "NSE:M&M", "NSE:BAJAJ-AUTO", "BSE:500325")


_ORDER: Final = OrderSpec(
    order_unique_key="ouk_1",
    instrument="NSE:RELIANCE",
    side="BUY",
    total_quantity=100,
    split_config=SplitConfigRequest(num_splits=5, duration_minutes=60, randomize=True),
)


def _is_accepted(order_unique_key: str) -> bool:
    order = msgspec.structs.replace(_ORDER, order_unique_key=order_unique_key)
    try:
        return parse_order_request(msgspec.json.encode(order)) == order
    except OrderRefused:
        return False


_seeds = st.one_of(st.sampled_from((0, 1, 2**63, 2**64 - 1)), st.integers(0, 2**64 - 1))
_num_splits = st.one_of(st.sampled_from((2, 3, 99, 100)), st.integers(MIN_SPLITS, MAX_SPLITS))
_duration_minutes = st.one_of(
    st.sampled_from((1, 2, 1439, 1440)), st.integers(1, MAX_DURATION_MINUTES)
)
_keys = (
    st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=255)
    .map(lambda text: unicodedata.normalize("NFC", text))
    .filter(_is_accepted)
)
_instruments = st.one_of(
    st.sampled_from(_REAL_INSTRUMENTS), st.from_regex(r"(NSE|BSE):[A-Z0-9&-]{1,46}", fullmatch=True)
)


def names() -> st.SearchStrategy[str]:
    """Names of workers, callers and traces: 1 to 128 visible ASCII characters."""
    return st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)


def authors() -> st.SearchStrategy[RecordedBy]:
    """Components that may have recorded an event."""
    return st.builds(RecordedBy, component=names(), instance=names(), code_version=names())


def traces() -> st.SearchStrategy[Trace]:
    """Traces of calls."""
    return st.builds(
        Trace,
        trace_id=names(),
        trace_source=names(),
        request_id=names(),
        request_source=names(),
    )


def moments() -> st.SearchStrategy[datetime]:
    """Times in UTC from 2000 to 2100, about half of them on a whole second."""
    any_time = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - Hypothesis adds the zone
    return st.one_of(any_time, any_time.map(lambda time: time.replace(microsecond=0)))


@st.composite
def sizes(draw: st.DrawFn) -> Size:
    """Every size that is accepted, from one share per slice to a billion shares.

    Favours one share per slice, one share more, a hundred slices in a minute, prime totals, small
    averages and a billion shares.
    """
    num_splits = draw(_num_splits)
    edges = (num_splits, num_splits + 1, 2 * num_splits - 1, MAX_QUANTITY, *PRIMES)
    total_quantity = st.one_of(
        st.sampled_from(edges),
        st.integers(num_splits, 100 * num_splits),
        st.integers(num_splits, MAX_QUANTITY),
    )
    return Size(draw(total_quantity), num_splits, draw(_duration_minutes))


def edge_sizes() -> st.SearchStrategy[Size]:
    """Only the edge cases, the simplest first.

    T = n, T = n + 1, a hundred slices in a minute, a prime total, a billion shares.
    """
    return st.one_of(
        st.builds(lambda n, minutes: Size(n, n, minutes), _num_splits, _duration_minutes),
        st.builds(lambda n, minutes: Size(n + 1, n, minutes), _num_splits, _duration_minutes),
        st.builds(lambda total: Size(total, MAX_SPLITS, 1), st.integers(MAX_SPLITS, MAX_QUANTITY)),
        st.builds(Size, st.sampled_from(PRIMES), _num_splits, _duration_minutes),
        st.builds(Size, st.just(MAX_QUANTITY), _num_splits, _duration_minutes),
    )


def split_terms(
    randomize: st.SearchStrategy[bool] | None = None,
    size: st.SearchStrategy[Size] | None = None,
) -> st.SearchStrategy[SplitTerms]:
    """Terms that a splitter must handle: every accepted n, T >= n, duration, seed and start.

    `randomize` and `size` restrict the choice, as in `split_terms(st.just(False))` and
    `split_terms(size=edge_sizes())`.
    """
    return st.builds(
        lambda size, randomize, seed, starts_at: SplitTerms(
            **size._asdict(), randomize=randomize, seed=seed, starts_at=starts_at
        ),
        sizes() if size is None else size,
        st.booleans() if randomize is None else randomize,
        _seeds,
        moments(),
    )


def edge_split_terms() -> st.SearchStrategy[SplitTerms]:
    """Terms at the edges of the accepted range; see `edge_sizes`."""
    return split_terms(size=edge_sizes())


@st.composite
def schedules(
    draw: st.DrawFn,
    terms: st.SearchStrategy[SplitTerms] | None = None,
    splitter_version: int = CURRENT_SPLITTER_VERSION,
) -> tuple[SplitTerms, tuple[Slice, ...]]:
    """Terms and their schedule."""
    drawn = draw(split_terms() if terms is None else terms)
    return drawn, split(drawn, splitter_version)


@st.composite
def order_request_bodies(
    draw: st.DrawFn, size: st.SearchStrategy[Size] | None = None
) -> dict[str, object]:
    """Valid order requests as decoded JSON; some omit `randomize`."""
    total_quantity, num_splits, duration_minutes = draw(sizes() if size is None else size)
    split_config: dict[str, object] = {
        "num_splits": num_splits,
        "duration_minutes": duration_minutes,
    }
    randomize = draw(st.sampled_from((None, True, False)))
    if randomize is not None:
        split_config["randomize"] = randomize
    return {
        "order_unique_key": draw(_keys),
        "instrument": draw(_instruments),
        "side": draw(st.sampled_from(("BUY", "SELL"))),
        "total_quantity": total_quantity,
        "split_config": split_config,
    }


def order_requests(size: st.SearchStrategy[Size] | None = None) -> st.SearchStrategy[OrderSpec]:
    """The specs of valid order requests."""
    return order_request_bodies(size).map(
        lambda body: parse_order_request(msgspec.json.encode(body))
    )


def place_orders(size: st.SearchStrategy[Size] | None = None) -> st.SearchStrategy[PlaceOrder]:
    """Commands to place an order, in the internal scope and in those of gateway callers."""
    callers = st.one_of(st.just(INTERNAL_SCOPE), st.builds("{}|{}".format, names(), names()))
    return st.builds(
        PlaceOrder,
        spec=order_requests(size),
        key_scope=callers,
        placed_by=names(),
        split_seed=_seeds,
        release=st.booleans(),
        at=moments(),
        recorded_by=authors(),
        trace=traces(),
    )


def terms_below(terms: SplitTerms) -> st.SearchStrategy[SplitTerms]:
    """Terms no larger than these, to shrink a failing order."""
    return _terms_within(terms, st.integers)


def terms_like(terms: SplitTerms) -> st.SearchStrategy[SplitTerms]:
    """Like `terms_below`, but each number is often left unchanged."""
    return _terms_within(terms, lambda least, most: st.integers(least, most) | st.just(most))


@st.composite
def _terms_within(
    draw: st.DrawFn, terms: SplitTerms, numbers: Callable[[int, int], st.SearchStrategy[int]]
) -> SplitTerms:
    num_splits = draw(numbers(MIN_SPLITS, terms.num_splits))
    return SplitTerms(
        num_splits=num_splits,
        total_quantity=draw(numbers(num_splits, terms.total_quantity)),
        duration_minutes=draw(numbers(1, terms.duration_minutes)),
        randomize=draw(st.sampled_from((False, terms.randomize))),
        seed=draw(numbers(0, terms.seed)),
        starts_at=draw(st.sampled_from((_SIMPLE_START, terms.starts_at))),
    )
