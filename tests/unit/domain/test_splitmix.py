"""SplitMix64 is the published algorithm, so any language can derive the same slices."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.domain.splitmix import SplitMix64

SEEDS = st.integers(0, 2**64 - 1)


def test_seed_1234567_gives_the_published_numbers() -> None:
    random = SplitMix64(1234567)
    assert [random.next() for _ in range(5)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_seed_0_gives_the_published_first_number() -> None:
    assert SplitMix64(0).next() == 16294208416658607535


@given(SEEDS)
def test_only_the_low_64_bits_of_a_seed_count(seed: int) -> None:
    assert SplitMix64(seed + 2**64).next() == SplitMix64(seed).next()


@given(SEEDS, st.integers(1, 2**35))
def test_below_is_the_high_half_of_the_product_and_takes_one_number(seed: int, bound: int) -> None:
    random, same = SplitMix64(seed), SplitMix64(seed)
    drawn = random.below(bound)
    assert 0 <= drawn < bound
    assert drawn == same.next() * bound // 2**64
    assert random.next() == same.next()


@pytest.mark.parametrize("bound", [1, 2, 3, 10])
def test_below_reaches_every_value_under_the_bound(bound: int) -> None:
    random = SplitMix64(1)
    assert {random.below(bound) for _ in range(500)} == set(range(bound))


@given(SEEDS, st.lists(st.integers(), max_size=100))
def test_a_shuffle_keeps_every_item_once(seed: int, items: list[int]) -> None:
    shuffled = list(items)
    SplitMix64(seed).shuffle(shuffled)
    assert sorted(shuffled) == sorted(items)


@given(SEEDS, st.integers(0, 100))
def test_a_shuffle_takes_one_number_for_each_step(seed: int, count: int) -> None:
    random, same = SplitMix64(seed), SplitMix64(seed)
    random.shuffle(list(range(count)))
    for _ in range(count - 1):
        same.next()
    assert random.next() == same.next()


def test_every_order_of_four_items_is_equally_likely() -> None:
    """Chi-square over 24 orders at fixed seeds. False alarm with fresh ones: under 1 in 10^8."""
    counts: Counter[tuple[int, ...]] = Counter()
    for seed in range(12_000):
        items = [0, 1, 2, 3]
        SplitMix64(seed).shuffle(items)
        counts[tuple(items)] += 1
    assert len(counts) == 24
    assert sum((count - 500) ** 2 / 500 for count in counts.values()) < 85
