"""The laws of a splitter over many seeds: it varies, and it favours no position.

A single schedule cannot show this, so each law checks a sample: the schedules of one order with
many seeds. `quantities_vary` and `times_vary` require a minimum standard deviation. Each other law
is a significance test: with fresh seeds a perfect splitter fails it with a probability of at most
`FALSE_ALARM_RATE`. `detectable_bias` is the bias that a sample detects.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import sqrt
from statistics import NormalDist, fmean, pstdev
from typing import Final

import msgspec

from pulse.domain import Splitter, SplitTerms

FALSE_ALARM_RATE: Final = 1e-6
"""The maximum probability that a perfect splitter fails a law, for a sample of fresh seeds."""

MIN_AVERAGE: Final = 50
"""With fewer shares per slice, whole numbers leave too little room for variation."""

MIN_QUANTITY_SPREAD: Final = 0.08
"""Minimum standard deviation of a slice's quantity, as a fraction of the average."""

MIN_TIME_SPREAD: Final = 0.15
"""Minimum standard deviation of an inner slice's time, as a fraction of the interval."""

_DECILES: Final = 10
_MIN_EXPECTED: Final = 20
_NORMAL: Final = NormalDist()

Column = tuple[int, ...]
"""The values of one position, by seed."""


class Sample(msgspec.Struct, frozen=True):
    """The schedules of one randomised order with many seeds: a column for each position.

    `quantities` are shares, `offsets` microseconds of trading time from the start of the window.
    """

    terms: SplitTerms
    quantities: tuple[Column, ...]
    offsets: tuple[Column, ...]

    @property
    def size(self) -> int:
        """The number of seeds."""
        return len(self.quantities[0])

    @property
    def average(self) -> float:
        """Average shares per slice."""
        return self.terms.total_quantity / self.terms.num_splits

    @property
    def interval(self) -> float:
        """Microseconds between two even times."""
        return self.terms.duration_microseconds / (self.terms.num_splits - 1)


Law = Callable[[Sample], Iterator[str]]


def sample_of(splitter: Splitter, terms: SplitTerms, seeds: Sequence[int]) -> Sample:
    """The schedules of these terms by the splitter, randomised, with each of the seeds."""
    schedules = [
        splitter(msgspec.structs.replace(terms, randomize=True, seed=seed)) for seed in seeds
    ]
    quantities = zip(*([s.quantity for s in slices] for slices in schedules), strict=True)
    offsets = zip(
        *([terms.offset_of(s.scheduled_at) for s in slices] for slices in schedules),
        strict=True,
    )
    return Sample(terms, tuple(quantities), tuple(offsets))


def no_position_gets_more_shares(sample: Sample) -> Iterator[str]:
    """Over many seeds every position's mean quantity is the average."""
    means = [sample.average] * len(sample.quantities)
    for place, z in _outliers(sample.quantities, means, rounding=0):
        mean, expected = fmean(sample.quantities[place]), sample.average
        yield f"slice {place + 1} has {mean:.3f} shares on average, expected {expected:.3f} ({z})"


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
    """Over many seeds every position's quantity has the same distribution."""
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
    """Over many seeds every inner slice's distance from its even time has the same distribution."""
    inner = [
        tuple(offset - round(place * sample.interval) for offset in column)
        for place, column in enumerate(sample.offsets[1:-1], 1)
    ]
    for place, chi_square in _unlike(inner):
        yield f"slice {place + 2}'s time is distributed unlike the others' ({chi_square})"


def quantities_vary(sample: Sample) -> Iterator[str]:
    """From 50 shares a slice, each position's quantity has a standard deviation of at least 8 %."""
    if sample.average < MIN_AVERAGE:
        return
    for place, column in enumerate(sample.quantities, 1):
        spread = pstdev(column) / sample.average
        if spread < MIN_QUANTITY_SPREAD:
            yield f"slice {place}'s quantity deviates by {spread:.4f} of the average"


def times_vary(sample: Sample) -> Iterator[str]:
    """Each inner slice's time has a standard deviation of at least 15 % of the interval."""
    for place, column in enumerate(sample.offsets[1:-1], 2):
        spread = pstdev(column) / sample.interval
        if spread < MIN_TIME_SPREAD:
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
    """The bound that the largest of `count` |z| exceeds with a probability of FALSE_ALARM_RATE.

    Uses the Bonferroni correction.
    """
    return _NORMAL.inv_cdf(1 - FALSE_ALARM_RATE / (2 * count))


def chi_square_limit(degrees: int, *, tests: int) -> float:
    """The bound for the largest of `tests` chi-squares: exceeded with probability FALSE_ALARM_RATE.

    Uses the approximation of Wilson and Hilferty, which is conservative in the far tail.
    """
    z, spread = _NORMAL.inv_cdf(1 - FALSE_ALARM_RATE / tests), 2 / (9 * degrees)
    return degrees * (1 - spread + z * sqrt(spread)) ** 3


def detectable_bias(seeds: int, positions: int, power: float) -> float:
    """The bias of one position's mean, in standard deviations, that is detected with `power`."""
    return (z_limit(positions) + _NORMAL.inv_cdf(power)) / sqrt(seeds)


def _outliers(
    columns: Sequence[Column], means: Sequence[float], *, rounding: int
) -> Iterator[tuple[int, str]]:
    """The positions whose mean deviates significantly, each with its z.

    A position without variation must be exact up to `rounding`.
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
    """The positions whose distribution over the deciles of all values differs significantly.

    Equal values are in the same decile, so deciles differ in size; each position is compared with
    the actual sizes. Values of one schedule are correlated, which can only make the positions more
    alike.
    """
    pooled = sorted(value for column in columns for value in column)
    if not pooled:
        return
    cuts = sorted({pooled[len(pooled) * decile // _DECILES] for decile in range(1, _DECILES)})
    share = [count / len(pooled) for count in _counts(pooled, cuts)]
    filled = [i for i, part in enumerate(share) if part * len(columns[0]) >= _MIN_EXPECTED]
    if len(filled) < 2:  # noqa: PLR2004 - one decile has all values: nothing to compare
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
