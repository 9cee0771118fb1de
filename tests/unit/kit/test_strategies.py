"""The strategies draw what the domain accepts, and reach the edges they promise."""

from collections.abc import Callable
from datetime import datetime
from math import isqrt
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pulse.domain import OrderSpec, Slice, SplitTerms, split_v1
from pulse.testing import (
    edge_sizes,
    edge_split_terms,
    moments,
    order_requests,
    schedules,
    split_terms,
)
from pulse.testing.strategies import PRIMES

Drawn = TypeVar("Drawn")


def drawn_from(strategy: st.SearchStrategy[Drawn], count: int) -> list[Drawn]:
    """The same `count` draws at every run, so what they reach does not vary."""
    found: list[Drawn] = []

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(drawn: Drawn) -> None:
        found.append(drawn)

    collect()
    return found


@given(split_terms())
def test_split_terms_lie_within_the_accepted_range(terms: SplitTerms) -> None:
    assert 2 <= terms.num_splits <= 100
    assert terms.num_splits <= terms.total_quantity <= 1_000_000_000
    assert 1 <= terms.duration_minutes <= 1440
    assert 0 <= terms.seed < 2**64
    assert str(terms.starts_at.tzinfo) == "UTC"


EDGES: dict[str, Callable[[SplitTerms], bool]] = {
    "one share a slice": lambda t: t.total_quantity == t.num_splits,
    "one share over": lambda t: t.total_quantity == t.num_splits + 1,
    "a great prime": lambda t: t.total_quantity == 999_999_937,
    "a billion shares": lambda t: t.total_quantity == 1_000_000_000,
    "any total": lambda t: 200_000_000 < t.total_quantity < 900_000_000,
    "two slices": lambda t: t.num_splits == 2,
    "any number of slices": lambda t: 40 < t.num_splits < 60,
    "a hundred in a minute": lambda t: t.num_splits == 100 and t.duration_minutes == 1,
    "a whole day": lambda t: t.duration_minutes == 1440,
    "the greatest seed": lambda t: t.seed == 2**64 - 1,
    "a start with microseconds": lambda t: t.starts_at.microsecond != 0,
    "a start on a whole second": lambda t: t.starts_at.microsecond == 0 != t.starts_at.second,
}


EDGE_KINDS: dict[str, Callable[[SplitTerms], bool]] = {
    "one share a slice": lambda t: t.total_quantity == t.num_splits,
    "one share over": lambda t: t.total_quantity == t.num_splits + 1,
    "a hundred in a minute": lambda t: t.num_splits == 100 and t.duration_minutes == 1,
    "a prime": lambda t: t.total_quantity in PRIMES,
    "a billion shares": lambda t: t.total_quantity == 1_000_000_000,
}


def test_edge_terms_are_edges_and_nothing_else_and_reach_each_kind() -> None:
    found = drawn_from(edge_split_terms(), 200)
    for terms in found:
        assert any(is_edge(terms) for is_edge in EDGE_KINDS.values()), terms
    for name, is_edge in EDGE_KINDS.items():
        assert any(map(is_edge, found)), name


def test_the_listed_primes_are_prime() -> None:
    for prime in PRIMES:
        assert all(prime % divisor for divisor in range(2, isqrt(prime) + 1)), prime


@given(order_requests(edge_sizes()))
def test_orders_at_the_edge_have_a_share_for_each_slice(spec: OrderSpec) -> None:
    assert spec.total_quantity >= spec.split_config.num_splits


@given(schedules(splitter_version=1))
def test_a_schedule_comes_with_the_terms_it_follows_from(
    schedule: tuple[SplitTerms, tuple[Slice, ...]],
) -> None:
    terms, slices = schedule
    assert slices == split_v1(terms)


@pytest.fixture(scope="module", params=[True, False], ids=["randomised", "even"])
def many_terms(request: pytest.FixtureRequest) -> list[SplitTerms]:
    return drawn_from(split_terms(st.just(request.param)), 600)


@pytest.mark.parametrize("edge", EDGES)
def test_split_terms_reach_every_edge(many_terms: list[SplitTerms], edge: str) -> None:
    assert any(EDGES[edge](terms) for terms in many_terms)


def test_the_choice_of_randomisation_can_be_narrowed(many_terms: list[SplitTerms]) -> None:
    assert len({terms.randomize for terms in many_terms}) == 1


def test_moments_are_drawn_with_and_without_microseconds() -> None:
    found: list[datetime] = drawn_from(moments(), 50)
    assert {moment.microsecond == 0 for moment in found} == {True, False}
