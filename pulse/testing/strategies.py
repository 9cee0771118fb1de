"""Hypothesis strategies for what the domain accepts: the whole range with many edge cases.

Everything drawn is valid. Tests construct invalid values themselves.
"""

import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec
from hypothesis import strategies as st
from msgspec import UNSET

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
    Session,
    SessionPolicy,
    Slice,
    SplitConfigRequest,
    SplitTerms,
    Trace,
    parse_order_request,
    split,
)
from pulse.testing.calendars import ListedSessions


class Size(NamedTuple):
    """The quantity, the number of slices and the duration of an order."""

    total_quantity: int
    num_splits: int
    duration_minutes: int


_SECOND: Final = 1_000_000
_MICROSECOND: Final = timedelta(microseconds=1)
_STARTS_IN: Final = (
    *(timedelta(seconds=-1), timedelta(0), _MICROSECOND),
    *(timedelta(hours=16), timedelta(days=30)),
)
"""From the time of acceptance to `start_at`."""
_POLICIES: Final[tuple[tuple[SessionPolicy | None, SessionPolicy], ...]] = (
    (None, "NONE"),
    (None, "ROLL"),
    ("ROLL", "NONE"),
    ("NONE", "ROLL"),
)
"""The policy that the order names, and the default."""
_GAPS: Final = (timedelta(0), _MICROSECOND, timedelta(hours=17, minutes=45), timedelta(days=3))
_DAYS_OF_SESSIONS: Final = 100
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


_TRACEPARENT: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def names() -> st.SearchStrategy[str]:
    """Names of workers, callers and traces: 1 to 128 visible ASCII characters."""
    return st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)


def authors() -> st.SearchStrategy[RecordedBy]:
    """Components that may have recorded an event."""
    return st.builds(RecordedBy, component=names(), instance=names(), code_version=names())


def traces() -> st.SearchStrategy[Trace]:
    """Traces of calls, with and without a W3C trace context."""
    return st.builds(
        Trace,
        trace_id=names(),
        trace_source=names(),
        request_id=names(),
        request_source=names(),
        traceparent=st.sampled_from((UNSET, _TRACEPARENT)),
        tracestate=st.sampled_from((UNSET, "vendor=opaque")),
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

    One share per slice, one share more, a hundred slices in a minute, a prime total, a billion
    shares.
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
    """Terms that a splitter must handle: every accepted size, seed and start.

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


@st.composite
def split_terms_with_sessions(
    draw: st.DrawFn,
    randomize: st.SearchStrategy[bool] | None = None,
    size: st.SearchStrategy[Size] | None = None,
) -> SplitTerms:
    """Terms of orders with trading sessions.

    The window is inside a session, ends at its close, is clipped, or goes over several sessions.
    Favours even times that are at a close, sessions of a second, and gaps of zero.
    """
    terms = draw(split_terms(randomize, size))
    duration = terms.duration_microseconds
    least = terms.num_splits * _SECOND + _SECOND
    kinds = ["inside", "with its close", "over several"] + ["clipped"] * (least < duration)
    lengths = [duration]
    kind = draw(st.sampled_from(kinds))
    if kind == "inside":
        lengths = [duration + draw(st.sampled_from((1, _SECOND, 3600 * _SECOND)))]
    elif kind == "clipped":
        lengths = [draw(st.integers(least, duration))]
    elif kind == "over several":
        even = [i * duration // (terms.num_splits - 1) for i in range(1, terms.num_splits - 1)]
        cut = st.sampled_from([1, _SECOND, duration - 1, *even]) | st.integers(1, duration - 1)
        cuts = [0, *sorted(draw(st.sets(cut, min_size=1, max_size=5))), duration]
        lengths = [end - begin for begin, end in pairwise(cuts)]
        lengths[-1] += draw(st.sampled_from((0, 1, 3600 * _SECOND)))
    opens_at = terms.starts_at
    sessions: list[Session] = []
    for length in lengths:
        closes_at = opens_at + length * _MICROSECOND
        sessions.append(Session(opens_at=opens_at, closes_at=closes_at))
        opens_at = closes_at + draw(st.sampled_from(_GAPS))
    earlier = timedelta(seconds=draw(st.sampled_from((0, 1, 3600))))
    sessions[0] = msgspec.structs.replace(sessions[0], opens_at=terms.starts_at - earlier)
    return msgspec.structs.replace(terms, sessions=tuple(sessions))


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


@st.composite
def place_orders(draw: st.DrawFn, size: st.SearchStrategy[Size] | None = None) -> PlaceOrder:
    """Commands to place an order, in the internal scope and in those of gateway callers.

    Some orders have a `start_at`, from a second before acceptance on. Some have trading sessions,
    with the policy ROLL.
    """
    callers = st.one_of(st.just(INTERNAL_SCOPE), st.builds("{}|{}".format, names(), names()))
    at = draw(moments())
    spec = draw(order_requests(size))
    asked, default = draw(st.sampled_from(_POLICIES))
    start_at = draw(st.none() | st.sampled_from(_STARTS_IN).map(lambda later: at + later))
    config = msgspec.structs.replace(spec.split_config, start_at=start_at, session_policy=asked)
    return PlaceOrder(
        spec=msgspec.structs.replace(spec, split_config=config),
        key_scope=draw(callers),
        placed_by=draw(names()),
        split_seed=draw(_seeds),
        release=draw(st.booleans()),
        at=at,
        recorded_by=draw(authors()),
        trace=draw(traces()),
        default_policy=default,
        calendar=ListedSessions(draw(_daily_sessions(at))),
    )


@st.composite
def _daily_sessions(draw: st.DrawFn, around: datetime) -> list[Session]:
    """A session for each of many days, from at most a day before `around`, with the same hours."""
    first = around - timedelta(hours=draw(st.integers(0, 24)))
    length = timedelta(minutes=draw(st.sampled_from((60, 375))))
    opens = [first + timedelta(days=day) for day in range(_DAYS_OF_SESSIONS)]
    return [Session(opens_at=at, closes_at=at + length) for at in opens]


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
