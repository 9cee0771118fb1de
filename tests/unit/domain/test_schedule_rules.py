"""Each rule finds a schedule that is broken by hand, and its message has the numbers."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.domain import (
    SCHEDULE_RULES,
    BrokenRule,
    Rule,
    Slice,
    SplitTerms,
    broken_rules,
    rule_sentence,
    split,
)
from pulse.domain.schedule_rules import (
    even_quantities_are_even,
    quantities_stay_near_average,
    quantities_sum_to_total,
    slices_are_numbered,
    slices_are_well_formed,
    times_increase_in_window,
    times_stay_near_even,
    window_is_filled,
)
from pulse.testing import split_terms

STARTS_AT = datetime(2026, 3, 2, 9, 15, tzinfo=UTC)

EVEN = SplitTerms(
    total_quantity=102,
    num_splits=5,
    duration_minutes=1,
    randomize=False,
    seed=7,
    starts_at=STARTS_AT,
)
"""20.4 shares a slice, 16 to 25 allowed; 15 s between slices, of which 30 % are 4.5 s."""

RANDOM = msgspec.structs.replace(EVEN, randomize=True)
QUANTITIES = (20, 20, 21, 20, 21)
SECONDS = (0.0, 15.0, 30.0, 45.0, 60.0)


def schedule(
    quantities: tuple[int, ...] = QUANTITIES,
    seconds: tuple[float, ...] = SECONDS,
    numbers: tuple[int, ...] = (1, 2, 3, 4, 5),
) -> tuple[Slice, ...]:
    return tuple(
        Slice(
            sequence_number=number,
            quantity=quantity,
            scheduled_at=STARTS_AT + timedelta(seconds=second),
        )
        for number, quantity, second in zip(numbers, quantities, seconds, strict=True)
    )


def test_the_schedule_that_the_other_tests_break_keeps_every_rule() -> None:
    assert broken_rules(EVEN, schedule()) == ()
    assert broken_rules(RANDOM, schedule()) == ()
    assert split(EVEN, 1) == schedule()


def test_a_missing_slice_is_found() -> None:
    assert list(slices_are_numbered(EVEN, schedule()[:4])) == [
        "4 slices numbered [1, 2, 3, 4], expected 1 to 5"
    ]


@pytest.mark.parametrize(
    "numbers", [(0, 1, 2, 3, 4), (1, 2, 2, 4, 5), (1, 2, 4, 3, 5), (1, 2, 3, 4, 6)]
)
def test_wrong_numbers_are_found(numbers: tuple[int, ...]) -> None:
    assert list(slices_are_numbered(EVEN, schedule(numbers=numbers))) == [
        f"5 slices numbered {list(numbers)}, expected 1 to 5"
    ]


@pytest.mark.parametrize(("last", "total"), [(20, 101), (22, 103)])
def test_a_lost_or_a_surplus_share_is_found(last: int, total: int) -> None:
    assert list(quantities_sum_to_total(EVEN, schedule((20, 20, 21, 20, last)))) == [
        f"quantities sum to {total}, expected 102"
    ]


def test_a_quantity_beyond_the_bounds_is_found_at_any_position() -> None:
    assert list(quantities_stay_near_average(RANDOM, schedule((15, 20, 21, 20, 26)))) == [
        "slice 1 has 15 shares, expected 16 to 25",
        "slice 5 has 26 shares, expected 16 to 25",
    ]


def test_a_quantity_on_a_bound_is_allowed() -> None:
    assert list(quantities_stay_near_average(RANDOM, schedule((16, 25, 21, 16, 24)))) == []


def test_a_slice_without_shares_is_found_even_where_80_percent_rounds_to_nothing() -> None:
    one_share_each = msgspec.structs.replace(RANDOM, total_quantity=5)
    assert list(quantities_stay_near_average(one_share_each, schedule((0, 1, 1, 1, 2)))) == [
        "slice 1 has 0 shares, expected 1 to 2"
    ]


def test_even_quantities_that_differ_by_two_are_found() -> None:
    assert list(even_quantities_are_even(EVEN, schedule((20, 21, 20, 22, 19)))) == [
        "quantities run from 19 to 22",
        "the first 4 slices hold 83 shares of 102",
    ]


def test_a_surplus_in_a_bunch_is_found_at_its_first_place() -> None:
    assert list(even_quantities_are_even(EVEN, schedule((21, 21, 20, 20, 20)))) == [
        "the first 2 slices hold 42 shares of 102"
    ]


def test_a_surplus_a_whole_share_ahead_is_found_though_all_quantities_are_near() -> None:
    six_in_four = msgspec.structs.replace(EVEN, total_quantity=6, num_splits=4)
    slices = schedule((2, 2, 1, 1, 0))[:4]
    assert list(even_quantities_are_even(six_in_four, slices)) == [
        "the first 2 slices hold 4 shares of 6"
    ]


def test_randomised_quantities_need_not_be_even() -> None:
    assert list(even_quantities_are_even(RANDOM, schedule((16, 24, 21, 20, 21)))) == []


def test_a_first_slice_that_is_late_is_found() -> None:
    late = schedule(seconds=(0.000001, 15, 30, 45, 60))
    assert list(window_is_filled(EVEN, late)) == [
        "slice 1 is 1 us after the window's start, expected 0"
    ]


@pytest.mark.parametrize(("last", "offset"), [(59.999999, 59_999_999), (60.000001, 60_000_001)])
def test_a_last_slice_off_the_windows_end_is_found(last: float, offset: int) -> None:
    assert list(window_is_filled(EVEN, schedule(seconds=(0, 15, 30, 45, last)))) == [
        f"the last slice is at {offset} us, expected 60000000"
    ]


@pytest.mark.parametrize(("second", "offset"), [(10.499999, 10_499_999), (19.500001, 19_500_001)])
def test_a_randomised_time_beyond_30_percent_is_found(second: float, offset: int) -> None:
    assert list(times_stay_near_even(RANDOM, schedule(seconds=(0, second, 30, 45, 60)))) == [
        f"slice 2 is at {offset} us, its even time is 15000000.0 us"
    ]


@pytest.mark.parametrize("second", [10.5, 19.5])
def test_a_randomised_time_at_exactly_30_percent_is_allowed(second: float) -> None:
    assert list(times_stay_near_even(RANDOM, schedule(seconds=(0, second, 30, 45, 60)))) == []


@pytest.mark.parametrize(("second", "offset"), [(14.999999, 14_999_999), (15.000001, 15_000_001)])
def test_an_even_time_off_by_a_microsecond_is_found(second: float, offset: int) -> None:
    assert list(times_stay_near_even(EVEN, schedule(seconds=(0, second, 30, 45, 60)))) == [
        f"slice 2 is at {offset} us, its even time is 15000000.0 us"
    ]


def test_an_even_time_may_be_rounded_either_way() -> None:
    thirds = msgspec.structs.replace(EVEN, total_quantity=8, num_splits=8)  # 8571428.57 us apart
    offsets = [i * 60_000_000 // 7 for i in range(8)]
    rounded_up = [-(-i * 60_000_000 // 7) for i in range(8)]
    for places in (offsets, rounded_up):
        slices = tuple(
            Slice(sequence_number=i, quantity=1, scheduled_at=STARTS_AT + timedelta(0, 0, place))
            for i, place in enumerate(places, 1)
        )
        assert broken_rules(thirds, slices) == ()


def test_two_slices_at_one_time_are_found() -> None:
    twins = schedule(seconds=(0, 15, 15, 45, 60))
    assert list(times_increase_in_window(RANDOM, twins)) == [
        "slice 3 is at 15000000 us, slice 2 at 15000000 us"
    ]


def test_a_time_before_its_predecessor_is_found() -> None:
    swapped = schedule(seconds=(0, 30, 15, 45, 60))
    assert list(times_increase_in_window(RANDOM, swapped)) == [
        "slice 3 is at 15000000 us, slice 2 at 30000000 us"
    ]


def test_times_outside_the_window_are_found_at_both_ends() -> None:
    outside = schedule(seconds=(-1, 15, 30, 45, 60.000001))
    assert list(times_increase_in_window(RANDOM, outside)) == [
        "slice 1 is at -1000000 us, outside the window of 60000000 us",
        "slice 5 is at 60000001 us, outside the window of 60000000 us",
    ]


@pytest.mark.parametrize("terms", [EVEN, RANDOM], ids=["even", "randomised"])
def test_no_slices_at_all_are_found_without_a_crash(terms: SplitTerms) -> None:
    assert broken_rules(terms, ()) == (
        BrokenRule(rule="slices_are_numbered", breach="0 slices numbered [], expected 1 to 5"),
        BrokenRule(rule="quantities_sum_to_total", breach="quantities sum to 0, expected 102"),
    )


def test_every_breach_of_every_rule_is_reported_with_the_rules_name() -> None:
    broken = schedule((0, 20, 21, 20, 20), (1, 15, 14, 45, 61), (2, 3, 4, 5, 6))
    found = broken_rules(EVEN, broken)
    _, *rules_of_numbers, of_sessions = (rule.__name__ for rule in SCHEDULE_RULES)
    assert of_sessions == "slices_are_in_sessions"
    assert list(dict.fromkeys(breach.rule for breach in found)) == rules_of_numbers
    assert len(found) > len(SCHEDULE_RULES)


IST = timezone(timedelta(hours=5, minutes=30))
ILL_FORMED: list[tuple[dict[str, Any], str]] = [
    ({"sequence_number": 2.0}, "item 2 has the number 2.0"),
    ({"sequence_number": True}, "item 2 has the number True"),
    ({"sequence_number": "2"}, "item 2 has the number '2'"),
    ({"quantity": 20.0}, "item 2 has 20.0 shares"),
    ({"quantity": None}, "item 2 has None shares"),
    ({"quantity": float("nan")}, "item 2 has nan shares"),
    ({"quantity": Decimal(20)}, "item 2 has a value of type Decimal shares"),
    ({"quantity": 2**63}, "item 2 has a value of type int shares"),
    ({"quantity": -(2**63)}, "item 2 has a value of type int shares"),
    ({"quantity": "x" * 99}, f"item 2 has '{'x' * 39} shares"),
    ({"scheduled_at": "09:15"}, "item 2 is at '09:15'"),
    ({"scheduled_at": 915}, "item 2 is at 915"),
    (
        {"scheduled_at": datetime(2026, 3, 2, 9, 15, 15)},  # noqa: DTZ001 - the fault itself
        "item 2 is at 2026-03-02T09:15:15",
    ),
]


@pytest.mark.parametrize(("change", "breach"), ILL_FORMED, ids=lambda value: str(value)[:30])
def test_an_ill_formed_slice_is_found_and_no_other_rule_is_checked(
    change: dict[str, Any], breach: str
) -> None:
    slices = list(schedule((20, 20, 21, 20, 99)))
    slices[1] = msgspec.structs.replace(slices[1], **change)
    assert list(slices_are_well_formed(EVEN, slices)) == [breach]
    assert broken_rules(EVEN, slices) == (BrokenRule(rule="slices_are_well_formed", breach=breach),)


@pytest.mark.parametrize("not_a_slice", [None, 20, {"quantity": 20}, EVEN])
def test_a_value_that_is_not_a_slice_is_found(not_a_slice: Any) -> None:
    breach = f"item 2 is not a Slice: {type(not_a_slice).__name__}"
    first, _, third, *others = schedule()
    halved = msgspec.structs.replace(third, quantity=10.5)
    assert broken_rules(EVEN, (first, not_a_slice, halved, *others)) == (
        BrokenRule(rule="slices_are_well_formed", breach=breach),
        BrokenRule(rule="slices_are_well_formed", breach="item 3 has 10.5 shares"),
    )


def test_a_time_with_a_zone_that_equals_utc_is_well_formed() -> None:
    other_utc = timezone(timedelta(0), "Etc/UTC")
    assert other_utc is not UTC
    slices = [
        msgspec.structs.replace(s, scheduled_at=s.scheduled_at.replace(tzinfo=other_utc))
        for s in schedule()
    ]
    assert broken_rules(RANDOM, slices) == ()


def test_a_time_in_another_zone_is_found_and_the_other_rules_are_checked() -> None:
    slices = list(schedule((20, 20, 21, 20, 22)))
    slices[1] = msgspec.structs.replace(
        slices[1], scheduled_at=slices[1].scheduled_at.astimezone(IST)
    )
    assert broken_rules(RANDOM, slices) == (
        BrokenRule(
            rule="slices_are_well_formed",
            breach="item 2 is at 2026-03-02T14:45:15+05:30",
        ),
        BrokenRule(rule="quantities_sum_to_total", breach="quantities sum to 103, expected 102"),
    )


def test_a_quantity_of_64_bits_is_well_formed() -> None:
    slices = [msgspec.structs.replace(s, quantity=2**63 - 1) for s in schedule()]
    assert list(slices_are_well_formed(EVEN, slices)) == []
    slices = [msgspec.structs.replace(s, quantity=-(2**63) + 1) for s in schedule()]
    assert list(slices_are_well_formed(EVEN, slices)) == []


def test_slices_can_be_an_iterator() -> None:
    assert broken_rules(EVEN, iter(schedule())) == ()
    assert len(broken_rules(EVEN, iter(schedule((20, 20, 21, 20, 22))))) == 3


def test_every_fault_of_form_is_reported() -> None:
    slices = [msgspec.structs.replace(s, quantity=s.quantity / 2) for s in schedule()]
    assert len(list(slices_are_well_formed(EVEN, slices))) == 5


@pytest.mark.parametrize("rule", SCHEDULE_RULES, ids=lambda rule: rule.__name__)
def test_every_rule_says_what_it_requires_in_one_sentence(rule: Rule) -> None:
    sentence = rule_sentence(rule)
    assert sentence == (rule.__doc__ or "").splitlines()[0]
    assert sentence[0].isupper()
    assert sentence.endswith(".")


def test_a_function_without_a_docstring_has_no_sentence() -> None:
    assert rule_sentence(lambda: None) == ""


@given(split_terms(), st.data())
def test_one_share_too_many_or_too_few_is_always_found(
    terms: SplitTerms, data: st.DataObject
) -> None:
    slices = list(split(terms, 1))
    i = data.draw(st.integers(0, len(slices) - 1))
    change = data.draw(st.sampled_from((-1, 1)))
    slices[i] = msgspec.structs.replace(slices[i], quantity=slices[i].quantity + change)
    assert "quantities_sum_to_total" in {b.rule for b in broken_rules(terms, slices)}


@given(split_terms(), st.data())
def test_two_swapped_times_are_always_found(terms: SplitTerms, data: st.DataObject) -> None:
    slices = list(split(terms, 1))
    i = data.draw(st.integers(0, len(slices) - 2))
    mine, next_one = slices[i].scheduled_at, slices[i + 1].scheduled_at
    slices[i] = msgspec.structs.replace(slices[i], scheduled_at=next_one)
    slices[i + 1] = msgspec.structs.replace(slices[i + 1], scheduled_at=mine)
    assert "times_increase_in_window" in {b.rule for b in broken_rules(terms, slices)}
