"""Randomised schedules truly vary, and no position is favoured.

The seeds are fixed, so each test gives the same answer at every run. Beside each threshold stands
its false alarm rate: how often fresh seeds would break it if the splitter were perfect.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from math import sqrt
from statistics import NormalDist, fmean, pstdev

import msgspec
import pytest

from pulse.domain import SplitTerms, split_v1

SEEDS = 3000
FALSE_ALARM_RATE = 1e-6

TERMS = SplitTerms(
    total_quantity=0,
    num_splits=2,
    duration_minutes=390,
    randomize=True,
    seed=0,
    starts_at=datetime(2026, 3, 2, 3, 45, tzinfo=UTC),
)

MANY = pytest.mark.parametrize(
    ("total_quantity", "num_splits"),
    [(100, 2), (150, 3), (253, 5), (10_000, 10), (999_999_937, 7), (1_025, 20)],
)
"""Averages from 50 on, where 80 and 120 % leave room to vary; whole and not."""

FEW_SHARES = pytest.mark.parametrize(
    ("total_quantity", "num_splits"), [(3, 2), (7, 5), (26, 10), (99, 20)]
)
"""Averages so small that the rounding of the bounds rules."""


@cache
def columns(
    total_quantity: int, num_splits: int
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[float, ...], ...]]:
    """By position, over all seeds: the quantities, and the offsets in even intervals."""
    terms = msgspec.structs.replace(TERMS, total_quantity=total_quantity, num_splits=num_splits)
    interval = timedelta(minutes=terms.duration_minutes) / (num_splits - 1)
    schedules = [split_v1(msgspec.structs.replace(terms, seed=seed)) for seed in range(SEEDS)]
    quantities = zip(*([s.quantity for s in slices] for slices in schedules), strict=True)
    offsets = zip(
        *([(s.scheduled_at - terms.starts_at) / interval for s in slices] for slices in schedules),
        strict=True,
    )
    return tuple(quantities), tuple(offsets)


def greatest_z(samples: Sequence[Sequence[float]], means: Sequence[float]) -> float:
    """How many standard errors the worst sample's mean is off."""
    return max(
        abs(fmean(sample) - mean) / (pstdev(sample) / sqrt(len(sample)))
        for sample, mean in zip(samples, means, strict=True)
    )


def z_limit(count: int) -> float:
    """What the greatest of `count` |z| exceeds with FALSE_ALARM_RATE at most (Bonferroni)."""
    return NormalDist().inv_cdf(1 - FALSE_ALARM_RATE / (2 * count))


def chi_square_limit(degrees: int) -> float:
    """What chi-square exceeds with at most FALSE_ALARM_RATE (Wilson and Hilferty)."""
    z, spread = NormalDist().inv_cdf(1 - FALSE_ALARM_RATE), 2 / (9 * degrees)
    return degrees * (1 - spread + z * sqrt(spread)) ** 3


@MANY
def test_quantities_vary_by_8_percent_of_the_average_at_every_position(
    total_quantity: int, num_splits: int
) -> None:
    quantities, _ = columns(total_quantity, num_splits)
    average = total_quantity / num_splits
    assert average >= 50
    assert min(pstdev(column) / average for column in quantities) >= 0.08


def test_quantities_of_a_hundred_slices_vary_as_much() -> None:
    for total_quantity in (5_000, 1_000_000_000):
        average = total_quantity / 100
        shares = [
            s.quantity / average
            for seed in range(100)
            for s in split_v1(
                msgspec.structs.replace(
                    TERMS, total_quantity=total_quantity, num_splits=100, seed=seed
                )
            )
        ]
        assert pstdev(shares) >= 0.08


@MANY
def test_inner_times_vary_by_15_percent_of_the_interval(
    total_quantity: int, num_splits: int
) -> None:
    _, offsets = columns(total_quantity, num_splits)
    for column in offsets[1:-1]:
        assert pstdev(column) >= 0.15


@MANY
def test_no_position_gets_more_shares_than_another(total_quantity: int, num_splits: int) -> None:
    quantities, _ = columns(total_quantity, num_splits)
    average = total_quantity / num_splits
    assert greatest_z(quantities, [average] * num_splits) < z_limit(num_splits)


@FEW_SHARES
def test_no_position_gets_more_of_a_few_shares_than_another(
    total_quantity: int, num_splits: int
) -> None:
    quantities, _ = columns(total_quantity, num_splits)
    average = total_quantity / num_splits
    assert greatest_z(quantities, [average] * num_splits) < z_limit(num_splits)


@pytest.mark.parametrize("extreme", [max, min], ids=["largest", "smallest"])
@pytest.mark.parametrize("num_splits", [2, 7, 10])
def test_every_position_is_equally_often_the_extreme_one(
    extreme: Callable[[Sequence[int]], int], num_splits: int
) -> None:
    """A billion shares, so that ties do not count. False alarm: FALSE_ALARM_RATE for each case."""
    quantities, _ = columns(1_000_000_000, num_splits)
    counts = [0] * num_splits
    for schedule in zip(*quantities, strict=True):
        counts[schedule.index(extreme(schedule))] += 1
    expected = SEEDS / num_splits
    chi_square = sum((count - expected) ** 2 / expected for count in counts)
    assert chi_square < chi_square_limit(num_splits - 1)


@pytest.mark.parametrize("num_splits", [3, 10, 20])
def test_every_inner_time_tends_to_its_even_place(num_splits: int) -> None:
    """Exactly 30 % either way is allowed, so the even place is the middle."""
    _, offsets = columns({3: 150, 10: 10_000, 20: 1_025}[num_splits], num_splits)
    inner = offsets[1:-1]
    assert greatest_z(inner, range(1, num_splits - 1)) < z_limit(len(inner))


@pytest.mark.parametrize("tenth", range(10))
def test_each_tenth_of_the_allowed_times_is_used_alike(tenth: int) -> None:
    """A binomial count of 24,000 times; false alarm: FALSE_ALARM_RATE over the ten tenths."""
    _, offsets = columns(10_000, 10)
    places = [(x - i + 0.3) / 0.6 for i, column in enumerate(offsets) for x in column]
    inner = places[SEEDS:-SEEDS]
    hits = sum(tenth <= 10 * place < tenth + 1 for place in inner)
    spread = sqrt(len(inner) * 0.1 * 0.9)
    assert abs(hits - len(inner) / 10) < z_limit(10) * spread


def test_times_and_quantities_know_nothing_of_each_other() -> None:
    """Correlation of share and jitter, over 24,000 pairs; false alarm: FALSE_ALARM_RATE."""
    quantities, offsets = columns(10_000, 10)
    shares = [q / 1000 - 1 for column in quantities[1:-1] for q in column]
    jitters = [x - i for i, column in enumerate(offsets[1:-1], 1) for x in column]
    products = [share * jitter for share, jitter in zip(shares, jitters, strict=True)]
    assert greatest_z([products], [0.0]) < z_limit(1)
