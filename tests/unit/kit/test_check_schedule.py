"""`check_schedule` names every broken rule at once, with the numbers, for every kind of terms."""

import msgspec
import pytest
from hypothesis import given

from pulse.domain import Slice, SplitTerms, fold, split
from pulse.testing import (
    ScheduleBroken,
    check_schedule,
    edge_split_terms,
    schedules,
)
from tests.support.events import order_created, slices_scheduled


@given(schedules())
def test_a_valid_schedule_passes(schedule: tuple[SplitTerms, tuple[Slice, ...]]) -> None:
    check_schedule(*schedule)


@given(schedules(edge_split_terms()))
def test_a_schedule_of_every_edge_case_passes(
    schedule: tuple[SplitTerms, tuple[Slice, ...]],
) -> None:
    check_schedule(*schedule)


def test_an_order_and_its_slices_pass() -> None:
    created = order_created()
    order = fold([created, slices_scheduled(created)])
    assert order is not None
    check_schedule(order, order.slices)


def test_every_broken_rule_is_named_at_once_with_the_numbers() -> None:
    created = order_created(total_quantity=102, num_splits=5, duration_minutes=1, randomize=False)
    first, *others = split(created.terms, 1)
    slices = (msgspec.structs.replace(first, quantity=0, sequence_number=7), *others)
    with pytest.raises(ScheduleBroken) as caught:
        check_schedule(created, slices)
    assert caught.value.terms == created.terms
    assert [breach.rule for breach in caught.value.broken] == [
        "slices_are_numbered",
        "quantities_sum_to_total",
        "quantities_stay_near_average",
        "even_quantities_are_even",
        "even_quantities_are_even",
    ]
    text = str(caught.value)
    assert text.startswith("4 rules broken by the schedule of SplitTerms(total_quantity=102")
    assert "\n  quantities_sum_to_total: quantities sum to 82, expected 102\n" in text
    assert "\n  quantities_stay_near_average: slice 7 has 0 shares, expected 16 to 25\n" in text


def test_one_broken_rule_is_the_only_one_named() -> None:
    terms = order_created(total_quantity=102, num_splits=5).terms
    slices = split(terms, 1)
    with pytest.raises(ScheduleBroken, match="1 rule broken by "):
        check_schedule(terms, (msgspec.structs.replace(slices[0], sequence_number=2), *slices[1:]))


def test_a_broken_schedule_is_a_failed_assertion() -> None:
    with pytest.raises(AssertionError):
        check_schedule(order_created(), ())
