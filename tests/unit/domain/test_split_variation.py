"""Randomised schedules truly vary, and no position is biased.

The laws are `pulse.testing.SPLITTER_LAWS`. The seeds are fixed, so each test gives the same answer
at every run. Each threshold has its false alarm rate next to it: how often other seeds would break
it although the splitter is unbiased. Planted biases show that a bias of the stated size is found.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from math import sqrt
from statistics import fmean, pstdev

import msgspec
import pytest

from pulse.domain import Slice, Splitter, SplitTerms, split_v1
from pulse.testing import SPLITTER_LAWS, Sample, last_takes_the_rest, sample_of
from pulse.testing.splitter_laws import (
    MIN_AVERAGE,
    Column,
    Law,
    detectable_bias,
    every_inner_time_is_alike,
    every_position_is_alike,
    no_position_gets_more_shares,
    no_position_is_an_extreme_more_often,
    no_time_is_early_or_late,
    quantities_vary,
    times_vary,
    z_limit,
)

pytestmark = pytest.mark.many_cases

SEEDS = range(3000)

TERMS = SplitTerms(
    total_quantity=0,
    num_splits=2,
    duration_minutes=390,
    randomize=True,
    seed=0,
    starts_at=datetime(2026, 3, 2, 3, 45, tzinfo=UTC),
)

ORDERS = (
    *((100, 2), (150, 3), (253, 5), (10_000, 10), (999_999_937, 7), (1_025, 20)),
    *((3, 2), (7, 5), (26, 10), (99, 20)),
)
"""Averages from 50 on, where there is room to vary; and averages where rounding dominates."""


@cache
def sample(total_quantity: int, num_splits: int, splitter: Splitter = split_v1) -> Sample:
    terms = msgspec.structs.replace(TERMS, total_quantity=total_quantity, num_splits=num_splits)
    return sample_of(splitter, terms, SEEDS)


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("law", SPLITTER_LAWS, ids=lambda law: law.__name__)
def test_splitter_version_1_keeps_the_law(law: Law, order: tuple[int, int]) -> None:
    """False alarm: FALSE_ALARM_RATE for each case."""
    assert list(law(sample(*order))) == []


@pytest.mark.parametrize("total_quantity", [5_000, 1_000_000_000])
def test_a_hundred_slices_keep_every_law(total_quantity: int) -> None:
    terms = msgspec.structs.replace(TERMS, total_quantity=total_quantity, num_splits=100)
    hundred = sample_of(split_v1, terms, range(1000))
    assert [list(law(hundred)) for law in SPLITTER_LAWS] == [[]] * len(SPLITTER_LAWS)


# The power of the laws: planted biases are found


def biased(place: int, shares: int = 0, microseconds: int = 0) -> Sample:
    """The sample of 10,000 shares in 10 slices, with one position that has more or is late."""
    fair = sample(10_000, 10)
    quantities, offsets = list(fair.quantities), list(fair.offsets)
    quantities[place] = tuple(quantity + shares for quantity in quantities[place])
    offsets[place] = tuple(offset + microseconds for offset in offsets[place])
    return Sample(fair.terms, tuple(quantities), tuple(offsets))


@pytest.mark.parametrize("place", [0, 4, 9])
def test_a_bias_in_shares_is_found_with_the_power_that_is_claimed(place: int) -> None:
    """3000 seeds: 1.8 % of the average, in 999 of 1000 samples."""
    fair = sample(10_000, 10)
    deviation = pstdev(fair.quantities[place])
    bias = round(detectable_bias(len(SEEDS), 10, power=0.999) * deviation)
    assert bias <= 0.018 * fair.average
    (found,) = no_position_gets_more_shares(biased(place, shares=bias))
    assert found.startswith(f"slice {place + 1} has ")


@pytest.mark.parametrize("place", [1, 5, 8])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_bias_in_time_is_found_with_the_power_that_is_claimed(place: int, sign: int) -> None:
    """The same sample: a slice that is early or late by 3 % of the interval."""
    fair = sample(10_000, 10)
    deviation = pstdev(fair.offsets[place])
    bias = sign * round(detectable_bias(len(SEEDS), 8, power=0.999) * deviation)
    assert abs(bias) <= 0.03 * fair.interval
    (found,) = no_time_is_early_or_late(biased(place, microseconds=bias))
    assert found.startswith(f"slice {place + 1} is {'+' if sign > 0 else '-'}0.0")


def test_a_last_slice_that_takes_the_rest_is_found_as_the_extreme_one() -> None:
    usual = sample(10_000, 10, last_takes_the_rest)
    largest, smallest = no_position_is_an_extreme_more_often(usual)
    assert [breach.partition("'")[0] for breach in every_position_is_alike(usual)][-1] == "slice 10"
    assert largest.startswith("slice 10 is the largest in ")
    assert smallest.startswith("slice 10 is the smallest in ")


def with_scaled_deviations(
    columns: Sequence[Column], place: int, centre: float, by: float
) -> tuple[Column, ...]:
    """The columns, with the deviations of one position from `centre` multiplied by `by`."""
    found = list(columns)
    found[place] = tuple(round(centre + (value - centre) * by) for value in found[place])
    return tuple(found)


@pytest.mark.parametrize("by", [0.8, 1.25])
@pytest.mark.parametrize("place", [0, 9])
def test_a_position_with_the_right_average_and_another_variance_is_found(
    place: int, by: float
) -> None:
    """Its deviations are a fifth smaller or a quarter larger than those of the others."""
    fair = sample(10_000, 10)
    unlike = with_scaled_deviations(fair.quantities, place, fair.average, by)
    (found,) = every_position_is_alike(Sample(fair.terms, unlike, fair.offsets))
    assert found.startswith(f"slice {place + 1}'s quantity is distributed unlike the others'")


def test_a_time_that_is_always_early_or_late_and_never_between_is_found() -> None:
    fair = sample(10_000, 10)
    offsets = list(fair.offsets)
    reach = round(0.29 * fair.interval)
    even = round(fair.interval)
    offsets[1] = tuple(even + (reach if offset > even else -reach) for offset in offsets[1])
    unlike = Sample(fair.terms, fair.quantities, tuple(offsets))
    assert list(no_time_is_early_or_late(unlike)) == []
    found = [breach.partition("'")[0] for breach in every_inner_time_is_alike(unlike)]
    assert "slice 2" in found


def test_a_few_shares_that_always_come_first_are_found() -> None:
    """26 shares in 10 slices, the largest first: no average is large enough to vary by 8 %."""
    fair = sample(26, 10)
    schedules = [sorted(s, reverse=True) for s in zip(*fair.quantities, strict=True)]
    sorted_first = Sample(fair.terms, tuple(zip(*schedules, strict=True)), fair.offsets)
    assert list(quantities_vary(sorted_first)) == []
    assert len(list(no_position_gets_more_shares(sorted_first))) >= 8
    assert list(every_position_is_alike(sorted_first)) != []


def test_a_splitter_that_does_not_vary_is_found() -> None:
    def even(terms: SplitTerms) -> tuple[Slice, ...]:
        return split_v1(msgspec.structs.replace(terms, randomize=False))

    still = sample(10_000, 10, even)
    assert len(list(quantities_vary(still))) == 10
    assert len(list(times_vary(still))) == 8
    assert list(no_position_gets_more_shares(still)) == []
    assert list(no_time_is_early_or_late(still)) == []


def test_a_position_that_always_has_one_share_more_is_found_though_nothing_varies() -> None:
    def even(terms: SplitTerms) -> tuple[Slice, ...]:
        return split_v1(msgspec.structs.replace(terms, randomize=False))

    found = list(no_position_gets_more_shares(sample(10_001, 10, even)))
    assert found[-1] == "slice 10 has 1001.000 shares on average, expected 1000.100 (always)"


def test_below_fifty_shares_a_slice_no_variation_is_asked_for() -> None:
    def even(terms: SplitTerms) -> tuple[Slice, ...]:
        return split_v1(msgspec.structs.replace(terms, randomize=False))

    assert MIN_AVERAGE == 50
    assert list(quantities_vary(sample(499, 10, even))) == []
    assert len(list(quantities_vary(sample(500, 10, even)))) == 10


# What the laws do not require, but version 1 keeps


@pytest.mark.parametrize("tenth", range(10))
def test_each_tenth_of_the_allowed_times_is_used_equally_often(tenth: int) -> None:
    """A binomial count of 24,000 times; false alarm: FALSE_ALARM_RATE over the ten tenths."""
    drawn = sample(10_000, 10)
    inner = [
        (offset / drawn.interval - i + 0.3) / 0.6
        for i, column in enumerate(drawn.offsets[1:-1], 1)
        for offset in column
    ]
    hits = sum(tenth <= 10 * place < tenth + 1 for place in inner)
    spread = sqrt(len(inner) * 0.1 * 0.9)
    assert abs(hits - len(inner) / 10) < z_limit(10) * spread


def test_times_and_quantities_are_uncorrelated() -> None:
    """Correlation of share and jitter, over 24,000 pairs; false alarm: FALSE_ALARM_RATE."""
    drawn = sample(10_000, 10)
    shares = [q / 1000 - 1 for column in drawn.quantities[1:-1] for q in column]
    jitters = [
        offset / drawn.interval - i
        for i, column in enumerate(drawn.offsets[1:-1], 1)
        for offset in column
    ]
    products = [share * jitter for share, jitter in zip(shares, jitters, strict=True)]
    z = fmean(products) / (pstdev(products) / sqrt(len(products)))
    assert abs(z) < z_limit(1)
