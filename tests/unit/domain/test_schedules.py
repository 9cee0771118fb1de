"""Every schedule keeps every rule, over the whole range of terms.

Each rule is checked twice: by its function in `pulse.domain.SCHEDULE_RULES`, and here again
with fractions, so that a fault in the function would show.
"""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import ceil, floor

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.domain import (
    CURRENT_SPLITTER_VERSION,
    SCHEDULE_RULES,
    SPLITTERS,
    OrderCreated,
    PlaceOrder,
    Slice,
    SplitTerms,
    SplitterUnknown,
    decide,
    fold,
    split,
    split_v1,
)
from pulse.testing import check_schedule, place_orders, split_terms

KEPT: dict[str, list[str]] = {rule.__name__: [] for rule in SCHEDULE_RULES}


def schedule_of(terms: SplitTerms) -> tuple[Slice, ...]:
    return split(terms, CURRENT_SPLITTER_VERSION)


def offsets_of(terms: SplitTerms, slices: tuple[Slice, ...]) -> list[Fraction]:
    """Exact microseconds from the window's start, counted by days, seconds and microseconds."""
    gaps = [s.scheduled_at - terms.starts_at for s in slices]
    return [Fraction((g.days * 86_400 + g.seconds) * 1_000_000 + g.microseconds) for g in gaps]


def even_places_of(terms: SplitTerms) -> list[Fraction]:
    duration = Fraction(terms.duration_minutes * 60 * 1_000_000)
    return [i * duration / (terms.num_splits - 1) for i in range(terms.num_splits)]


@given(split_terms())
def test_every_schedule_keeps_the_rules(terms: SplitTerms) -> None:
    slices = schedule_of(terms)
    assert {rule.__name__: list(rule(terms, slices)) for rule in SCHEDULE_RULES} == KEPT


@given(split_terms())
def test_there_are_exactly_n_slices_numbered_from_one(terms: SplitTerms) -> None:
    slices = schedule_of(terms)
    assert len(slices) == terms.num_splits
    assert all(s.sequence_number == place for place, s in enumerate(slices, start=1))


@given(split_terms())
def test_no_share_is_created_or_destroyed(terms: SplitTerms) -> None:
    left = terms.total_quantity
    for s in schedule_of(terms):
        left -= s.quantity
    assert left == 0


@given(split_terms())
def test_every_quantity_is_80_to_120_percent_of_the_average(terms: SplitTerms) -> None:
    average = Fraction(terms.total_quantity, terms.num_splits)
    least = max(1, floor(average * Fraction(80, 100)))
    most = ceil(average * Fraction(120, 100))
    for s in schedule_of(terms):
        assert least <= s.quantity <= most


@given(split_terms(st.just(False)))
def test_even_quantities_differ_by_at_most_one_share(terms: SplitTerms) -> None:
    average = Fraction(terms.total_quantity, terms.num_splits)
    assert {s.quantity for s in schedule_of(terms)} <= {floor(average), ceil(average)}


@given(split_terms(st.just(False)))
def test_the_surplus_is_spread_evenly(terms: SplitTerms) -> None:
    """Any two runs of equally many slices hold equally much, to one share: no bunch, no gap."""
    quantities = [s.quantity for s in schedule_of(terms)]
    for length in range(1, len(quantities) + 1):
        held = sum(quantities[:length])
        runs = [held]
        for enters, leaves in zip(quantities[length:], quantities, strict=False):
            held += enters - leaves
            runs.append(held)
        assert max(runs) - min(runs) <= 1


@given(split_terms(st.just(False)))
def test_even_times_are_evenly_spaced_to_the_microsecond(terms: SplitTerms) -> None:
    offsets = offsets_of(terms, schedule_of(terms))
    for offset, even in zip(offsets, even_places_of(terms), strict=True):
        assert abs(offset - even) < 1


@given(split_terms())
def test_the_first_slice_is_at_the_windows_start_and_the_last_at_its_end(terms: SplitTerms) -> None:
    slices = schedule_of(terms)
    assert slices[0].scheduled_at == terms.starts_at
    assert slices[-1].scheduled_at == terms.starts_at + timedelta(minutes=terms.duration_minutes)


@given(split_terms(st.just(True)))
def test_every_time_is_within_30_percent_of_the_interval_of_its_even_place(
    terms: SplitTerms,
) -> None:
    even_places = even_places_of(terms)
    reach = Fraction(30, 100) * even_places[1]
    for offset, even in zip(offsets_of(terms, schedule_of(terms)), even_places, strict=True):
        assert abs(offset - even) <= reach


@given(split_terms())
def test_times_strictly_increase_within_the_window(terms: SplitTerms) -> None:
    times = [s.scheduled_at for s in schedule_of(terms)]
    assert sorted(set(times)) == times
    ends_at = terms.starts_at + timedelta(minutes=terms.duration_minutes)
    assert all(terms.starts_at <= time <= ends_at for time in times)


@given(split_terms())
def test_the_same_terms_give_the_same_schedule(terms: SplitTerms) -> None:
    copy = SplitTerms(**msgspec.structs.asdict(terms))
    assert schedule_of(copy) == schedule_of(terms)


@given(place_orders(), place_orders())
def test_the_schedule_is_a_function_of_the_stored_creation_alone(
    command: PlaceOrder, other: PlaceOrder
) -> None:
    """Read back from JSON it is the same. Caller, instrument and key have no effect."""
    (created,) = decide(command, None)
    read_back = msgspec.json.decode(msgspec.json.encode(created), type=OrderCreated)
    other_caller = msgspec.structs.replace(
        other,
        spec=msgspec.structs.replace(
            other.spec,
            total_quantity=command.spec.total_quantity,
            split_config=command.spec.split_config,
        ),
        split_seed=command.split_seed,
        at=command.at,
        default_policy=command.default_policy,
        calendar=command.calendar,
    )
    orders = [fold([created]), fold([read_back]), fold(decide(other_caller, None))]
    first, *rest = [schedule_of(order.terms) for order in orders if order is not None]
    assert rest == [first, first]


def test_another_seed_gives_another_schedule() -> None:
    terms = SplitTerms(
        total_quantity=10_000,
        num_splits=10,
        duration_minutes=60,
        randomize=True,
        seed=0,
        starts_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    schedules = {schedule_of(msgspec.structs.replace(terms, seed=seed)) for seed in range(100)}
    assert len(schedules) == 100


@given(split_terms(st.just(False)), st.integers(0, 2**64 - 1))
def test_without_randomisation_the_seed_has_no_effect_on_the_schedule(
    terms: SplitTerms, seed: int
) -> None:
    assert schedule_of(msgspec.structs.replace(terms, seed=seed)) == schedule_of(terms)


@given(split_terms())
def test_no_rule_finds_a_fault_in_a_schedule(terms: SplitTerms) -> None:
    check_schedule(terms, schedule_of(terms))


def test_stored_orders_of_version_one_are_split_by_split_v1() -> None:
    assert SPLITTERS[1] is split_v1
    assert max(SPLITTERS) == CURRENT_SPLITTER_VERSION


@pytest.mark.parametrize("version", [0, 3, -1])
def test_an_unknown_splitter_version_is_refused(version: int) -> None:
    terms = SplitTerms(
        total_quantity=2,
        num_splits=2,
        duration_minutes=1,
        randomize=True,
        seed=0,
        starts_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    with pytest.raises(SplitterUnknown, match=f"no splitter version {version}") as caught:
        split(terms, version)
    assert caught.value.splitter_version == version
