"""What must be true of a splitter over many seeds: it varies, and it favours no position.

A schedule alone cannot show this, so each law looks at a sample: the schedules of one order under
many seeds. Each is a test of significance: a perfect splitter breaks it with fresh seeds at most as
often as `FALSE_ALARM_RATE`. `least_bias_found` tells what a sample of that size finds.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from math import sqrt
from statistics import NormalDist, fmean, pstdev
from typing import Final

import msgspec

from pulse.domain import Splitter, SplitTerms

FALSE_ALARM_RATE: Final = 1e-6
"""How often, at most, a law finds fault with a perfect splitter, for a sample of fresh seeds."""

LEAST_AVERAGE: Final = 50
"""Below this many shares a slice whole numbers leave too little room to ask for variation."""

LEAST_QUANTITY_SPREAD: Final = 0.08
"""Least standard deviation of a slice's quantity, as a share of the average."""

LEAST_TIME_SPREAD: Final = 0.15
"""Least standard deviation of an inner slice's time, as a share of the interval."""

_TENTHS: Final = 10
_LEAST_EXPECTED: Final = 20
_MICROSECOND: Final = timedelta(microseconds=1)
_NORMAL: Final = NormalDist()

Column = tuple[int, ...]
"""What one position had, seed by seed."""


class Sample(msgspec.Struct, frozen=True):
    """One randomised order under many seeds: by position, its shares and its microseconds."""

    terms: SplitTerms
    quantities: tuple[Column, ...]
    offsets: tuple[Column, ...]

    @property
    def size(self) -> int:
        """How many seeds."""
        return len(self.quantities[0])

    @property
    def average(self) -> float:
        """Shares a slice."""
        return self.terms.total_quantity / self.terms.num_splits

    @property
    def interval(self) -> float:
        """Microseconds between two even times."""
        return self.terms.duration_microseconds / (self.terms.num_splits - 1)


Law = Callable[[Sample], Iterator[str]]


def sample_of(splitter: Splitter, terms: SplitTerms, seeds: Sequence[int]) -> Sample:
    """The schedules that the splitter gives these terms, randomised, under each of the seeds."""
    schedules = [
        splitter(msgspec.structs.replace(terms, randomize=True, seed=seed)) for seed in seeds
    ]
    quantities = zip(*([s.quantity for s in slices] for slices in schedules), strict=True)
    offsets = zip(
        *(
            [(s.scheduled_at - terms.starts_at) // _MICROSECOND for s in slices]
            for slices in schedules
        ),
        strict=True,
    )
    return Sample(terms, tuple(quantities), tuple(offsets))


def no_position_gets_more_shares(sample: Sample) -> Iterator[str]:
    """Over many seeds every position's mean quantity is the average."""
    means = [sample.average] * len(sample.quantities)
    for place, z in _outliers(sample.quantities, means, rounding=0):
        mean = fmean(sample.quantities[place])
        yield f"slice {place + 1} has {mean:.3f} shares on average of {sample.average:.3f} ({z})"


def no_position_is_an_extreme_more_often(sample: Sample) -> Iterator[str]:
    """Over many seeds every position is equally often the largest and the smallest."""
    for name, extreme in (("largest", max), ("smallest", min)):
        counts = [0.0] * len(sample.quantities)
        for schedule in zip(*sample.quantities, strict=True):
            bound = extreme(schedule)
            holders = [i for i, quantity in enumerate(schedule) if quantity == bound]
            for i in holders:
                counts[i] += 1 / len(holders)
        expected = sample.size / len(counts)
        chi_square = sum((count - expected) ** 2 / expected for count in counts)
        if chi_square >= chi_square_limit(len(counts) - 1, tests=2):
            worst = max(range(len(counts)), key=lambda i: abs(counts[i] - expected))
            yield (
                f"slice {worst + 1} is the {name} in {counts[worst]:.0f} of {sample.size} "
                f"schedules, expected about {expected:.0f} (chi-square {chi_square:.0f})"
            )


def every_position_is_alike(sample: Sample) -> Iterator[str]:
    """Over many seeds every position's quantity is distributed as all of them together are."""
    for place, chi_square in _unlike(sample.quantities):
        yield f"slice {place + 1}'s quantity is distributed unlike the others' ({chi_square})"


def no_time_is_early_or_late(sample: Sample) -> Iterator[str]:
    """Over many seeds every inner slice's mean time is its even time."""
    even_times = [i * sample.interval for i in range(1, len(sample.offsets) - 1)]
    inner = sample.offsets[1:-1]
    for place, z in _outliers(inner, even_times, rounding=1):
        off = (fmean(inner[place]) - even_times[place]) / sample.interval
        yield f"slice {place + 2} is {off:+.4f} of an interval off its even time on average ({z})"


def every_inner_time_is_alike(sample: Sample) -> Iterator[str]:
    """Over many seeds every inner slice's distance from its even time is distributed alike."""
    inner = [
        tuple(offset - round(place * sample.interval) for offset in column)
        for place, column in enumerate(sample.offsets[1:-1], 1)
    ]
    for place, chi_square in _unlike(inner):
        yield f"slice {place + 2}'s time is distributed unlike the others' ({chi_square})"


def quantities_vary(sample: Sample) -> Iterator[str]:
    """From 50 shares a slice on, every position's quantity has a standard deviation of 8 %."""
    if sample.average < LEAST_AVERAGE:
        return
    for place, column in enumerate(sample.quantities, 1):
        spread = pstdev(column) / sample.average
        if spread < LEAST_QUANTITY_SPREAD:
            yield f"slice {place}'s quantity deviates by {spread:.4f} of the average"


def times_vary(sample: Sample) -> Iterator[str]:
    """Every inner slice's time has a standard deviation of 15 % of the interval."""
    for place, column in enumerate(sample.offsets[1:-1], 2):
        spread = pstdev(column) / sample.interval
        if spread < LEAST_TIME_SPREAD:
            yield f"slice {place}'s time deviates by {spread:.4f} of the interval"


SPLITTER_LAWS: Final[tuple[Law, ...]] = (
    no_position_gets_more_shares,
    no_position_is_an_extreme_more_often,
    every_position_is_alike,
    no_time_is_early_or_late,
    every_inner_time_is_alike,
    quantities_vary,
    times_vary,
)


def z_limit(count: int) -> float:
    """What the greatest of `count` |z| exceeds with FALSE_ALARM_RATE at most (Bonferroni)."""
    return _NORMAL.inv_cdf(1 - FALSE_ALARM_RATE / (2 * count))


def chi_square_limit(degrees: int, *, tests: int) -> float:
    """What the greatest of so many chi-squares exceeds with FALSE_ALARM_RATE at most.

    By the approximation of Wilson and Hilferty, which this far out errs to the safe side.
    """
    z, spread = _NORMAL.inv_cdf(1 - FALSE_ALARM_RATE / tests), 2 / (9 * degrees)
    return degrees * (1 - spread + z * sqrt(spread)) ** 3


def least_bias_found(seeds: int, positions: int, power: float) -> float:
    """The bias of one position's mean that is found with that `power`, in standard deviations."""
    return (z_limit(positions) + _NORMAL.inv_cdf(power)) / sqrt(seeds)


def _outliers(
    columns: Sequence[Column], means: Sequence[float], *, rounding: int
) -> Iterator[tuple[int, str]]:
    """The places whose mean is further off than chance explains, each with its z.

    One that never moves has no chance: it must stand where it should, but for `rounding`.
    """
    limit = z_limit(max(1, len(columns)))
    for place, (column, mean) in enumerate(zip(columns, means, strict=True)):
        off, spread = fmean(column) - mean, pstdev(column)
        if spread == 0:
            if abs(off) > rounding + 1e-9 * mean:
                yield place, "always"
        elif abs(z := off / (spread / sqrt(len(column)))) >= limit:
            yield place, f"z = {z:+.1f}"


def _unlike(columns: Sequence[Column]) -> Iterator[tuple[int, str]]:
    """The places whose values fall otherwise than all values do into tenths of all values.

    Equal values share a tenth, so the tenths are not equally full; each place is compared with what
    they hold. Values of one schedule hang together, which can only bring a place nearer to all.
    """
    pooled = sorted(value for column in columns for value in column)
    if not pooled:
        return
    cuts = sorted({pooled[len(pooled) * tenth // _TENTHS] for tenth in range(1, _TENTHS)})
    share = [count / len(pooled) for count in _counts(pooled, cuts)]
    filled = [i for i, part in enumerate(share) if part * len(columns[0]) >= _LEAST_EXPECTED]
    if len(filled) < 2:  # noqa: PLR2004 - one tenth holds all: there is nothing to compare
        return
    limit = chi_square_limit(len(filled) - 1, tests=len(columns))
    for place, column in enumerate(columns):
        counts = _counts(column, cuts)
        expected = [part * len(column) for part in share]
        chi_square = sum((counts[i] - expected[i]) ** 2 / expected[i] for i in filled)
        if chi_square >= limit:
            yield place, f"chi-square {chi_square:.0f}"


def _counts(values: Iterable[int], cuts: Sequence[int]) -> list[int]:
    counts = [0] * (len(cuts) + 1)
    for value in values:
        counts[bisect_right(cuts, value)] += 1
    return counts
