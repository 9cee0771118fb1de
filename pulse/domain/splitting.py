"""How an order becomes slices. A splitter version is one function that never changes."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import count
from types import MappingProxyType
from typing import Final

from pulse.domain.errors import SplitterUnknown
from pulse.domain.order_request import OrderSpec
from pulse.domain.sessions import Session
from pulse.domain.splitmix import SplitMix64
from pulse.domain.trading_time import duration_in, offset_of, time_at
from pulse.domain.values import Slice, Value

MICROSECONDS_PER_MINUTE: Final = 60_000_000
_MICROSECOND: Final = timedelta(microseconds=1)


class SplitTerms(Value, frozen=True):
    """Everything a schedule depends on. All of it is recorded in OrderCreated.

    `seed` is an unsigned 64-bit number; `starts_at` is the start of the window. `sessions` are the
    trading sessions of the window: the first contains `starts_at`, and the window ends in the last.
    Without any, all time is trading time.
    """

    total_quantity: int
    num_splits: int
    duration_minutes: int
    randomize: bool
    seed: int
    starts_at: datetime
    sessions: tuple[Session, ...] = ()

    @property
    def duration_microseconds(self) -> int:
        """The window's length in trading time.

        It is `duration_minutes`, or less if the sessions are shorter. A window that reaches the
        last close ends one second before it.
        """
        return _duration_microseconds(self)

    @property
    def ends_at(self) -> datetime:
        """When the last slice is due."""
        return self.time_at(self.duration_microseconds)

    def time_at(self, offset: int) -> datetime:
        """The time on the clock after this many microseconds of trading time."""
        return time_at(self.sessions, self.starts_at, offset)

    def offset_of(self, at: datetime) -> int:
        """The microseconds of trading time from the start of the window to this time."""
        return offset_of(self.sessions, self.starts_at, at)

    @property
    def quantity_bounds(self) -> tuple[int, int]:
        """Minimum and maximum shares of a slice: 80 % of the average rounded down, 120 % up.

        The minimum is at least 1. Rounding outward lets a schedule exist for every total of at
        least one share per slice.
        """
        return _quantity_bounds(self)


def split_terms_of(
    spec: OrderSpec, *, seed: int, starts_at: datetime, sessions: tuple[Session, ...]
) -> SplitTerms:
    """The terms of an order, from its spec and its recorded seed, start and sessions."""
    config = spec.split_config
    return SplitTerms(
        total_quantity=spec.total_quantity,
        num_splits=config.num_splits,
        duration_minutes=config.duration_minutes,
        randomize=config.randomize,
        seed=seed,
        starts_at=starts_at,
        sessions=sessions,
    )


# Properties delegate to functions because the mutation tests do not change properties.


def _duration_microseconds(terms: SplitTerms) -> int:
    nominal = terms.duration_minutes * MICROSECONDS_PER_MINUTE
    return duration_in(terms.sessions, terms.starts_at, nominal)


def _quantity_bounds(terms: SplitTerms) -> tuple[int, int]:
    total, count = terms.total_quantity, terms.num_splits
    return max(1, (4 * total) // (5 * count)), -((-6 * total) // (5 * count))


Splitter = Callable[[SplitTerms], tuple[Slice, ...]]


def split_v1(terms: SplitTerms) -> tuple[Slice, ...]:
    """Splitter version 1: exchanges around a ring and a shuffle for quantities, jitter for times.

    It starts from even quantities and even times. If randomised, each slice in turn exchanges
    shares with the next one in a ring: one draw picks uniformly among all divisions of their sum
    that the bounds allow. A shuffle then gives every position the same distribution. Each inner
    time is drawn uniformly from within 30 % of the interval around its even time. Numbers are drawn
    in this order: one per slice of the ring, one per step of the shuffle, one per inner time.
    """
    quantities, offsets = _quantities_and_offsets(terms)
    times = [terms.starts_at + offset * _MICROSECOND for offset in offsets]
    return tuple(map(Slice, count(1), quantities, times))


def split_v2(terms: SplitTerms) -> tuple[Slice, ...]:
    """Splitter version 2: version 1 in trading time, for orders with trading sessions.

    Quantities and offsets are those of version 1 for a window as long as the sessions allow. Each
    offset is then mapped to the clock: it counts only the time inside sessions, and an offset on a
    close belongs to the next open.
    """
    quantities, offsets = _quantities_and_offsets(terms)
    times = map(terms.time_at, offsets)
    return tuple(map(Slice, count(1), quantities, times))


def _quantities_and_offsets(terms: SplitTerms) -> tuple[list[int], list[int]]:
    quantities = _even_quantities(terms)
    offsets = _even_offsets(terms)
    if terms.randomize:
        random = SplitMix64(terms.seed)
        _exchange_around_ring(quantities, terms.quantity_bounds, random)
        random.shuffle(quantities)
        _jitter_inner(offsets, terms, random)
    return quantities, offsets


def _even_quantities(terms: SplitTerms) -> list[int]:
    """Quantities that differ by at most 1, the surplus spread evenly (Bresenham's line)."""
    total, count = terms.total_quantity, terms.num_splits
    return [(i + 1) * total // count - i * total // count for i in range(count)]


def _even_offsets(terms: SplitTerms) -> list[int]:
    """Microseconds from the start, evenly spaced, each rounded down."""
    duration, gaps = terms.duration_microseconds, terms.num_splits - 1
    return [i * duration // gaps for i in range(terms.num_splits)]


def _exchange_around_ring(
    quantities: list[int], bounds: tuple[int, int], random: SplitMix64
) -> None:
    least, most = bounds
    count = len(quantities)
    for i in range(count):
        j = (i + 1) % count
        both = quantities[i] + quantities[j]
        low, high = max(least, both - most), min(most, both - least)
        quantities[i] = low + random.below(high - low + 1)
        quantities[j] = both - quantities[i]


def _jitter_inner(offsets: list[int], terms: SplitTerms, random: SplitMix64) -> None:
    duration, gaps = terms.duration_microseconds, terms.num_splits - 1
    tenths = 10 * gaps
    for i in range(1, gaps):
        low = -(-(10 * i - 3) * duration // tenths)
        high = (10 * i + 3) * duration // tenths
        offsets[i] = low + random.below(high - low + 1)


SPLITTERS: Final[Mapping[int, Splitter]] = MappingProxyType({1: split_v1, 2: split_v2})
"""Every splitter, by version. None is ever removed."""

CURRENT_SPLITTER_VERSION: Final = max(SPLITTERS)
"""The newest version. Without sessions its schedules are those of version 1."""


def splitter_version_for(sessions: Sequence[Session]) -> int:
    """The version that splits a new order with these sessions: 1 if there are none."""
    return CURRENT_SPLITTER_VERSION if sessions else 1


def split(terms: SplitTerms, splitter_version: int) -> tuple[Slice, ...]:
    """The schedule of these terms by this splitter version: the same on every machine.

    Raises:
        SplitterUnknown: this code has no such version.
    """
    if splitter_version not in SPLITTERS:
        raise SplitterUnknown(splitter_version)
    return SPLITTERS[splitter_version](terms)
