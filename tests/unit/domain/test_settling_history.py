"""An event that does not settle exactly the next slices of its order is refused by `evolve`."""

from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec
import pytest

from pulse.domain import Event, HistoryBroken, Slice, evolve, fold
from tests.support.events import (
    order_cancelled,
    order_created,
    slices_expired,
    slices_released,
    slices_scheduled,
    splitting_failed,
    timed_out,
)

T = TypeVar("T", bound=msgspec.Struct)
T0: Final = datetime(2026, 3, 2, 9, 15, tzinfo=UTC)
CREATED: Final = order_created(
    "ouk_1", timestamp=T0, total_quantity=11, num_splits=4, duration_minutes=9, randomize=False
)
SCHEDULED: Final = slices_scheduled(CREATED)  # 2, 3, 3 and 3 shares
SPLIT: Final[tuple[Event, ...]] = (CREATED, SCHEDULED)
RELEASED: Final = slices_released(*SPLIT)
GIVEN: Final[tuple[Event, ...]] = (*SPLIT, RELEASED)
"""An order of which the first slice is released."""

NEXT_TWO: Final = slices_released(*GIVEN, count=2)
EXPIRY: Final = slices_expired(*GIVEN, count=2)
CANCEL: Final = order_cancelled(*GIVEN)
ONE, TWO, THREE, FOUR = SCHEDULED.slices


def altered(value: T, **changes: Any) -> T:
    return msgspec.structs.replace(value, **changes)


def refusal_of(history: tuple[Event, ...], event: Event) -> str:
    with pytest.raises(HistoryBroken) as caught:
        evolve(fold(history), event)
    return str(caught.value)


def expected(event: Event, why: str, settled: str = "1 of its 4") -> str:
    return (
        f"{type(event).__name__} at version {event.originator_version} of order "
        f"{CREATED.originator_id} cannot follow: {why} "
        f"(the order is COMPLETED, {settled} slices are settled)"
    )


@pytest.mark.parametrize("event", [NEXT_TWO, EXPIRY, CANCEL], ids=lambda e: type(e).__name__)
def test_an_event_that_settles_the_next_slices_follows(event: Event) -> None:
    order = evolve(fold(GIVEN), event)
    assert order.version == 4
    assert len(order.settled) >= 3


NOT_NEXT: Final = "its slices are not the next unsettled ones"


@pytest.mark.parametrize(
    "slices",
    [
        pytest.param((ONE,), id="released before"),
        pytest.param((ONE, TWO), id="one of them released before"),
        pytest.param((THREE,), id="the next one left out"),
        pytest.param((TWO, FOUR), id="one between them left out"),
        pytest.param((THREE, TWO), id="in another order"),
        pytest.param((TWO, TWO), id="one twice"),
        pytest.param((TWO, THREE, FOUR, FOUR), id="more than there are"),
        pytest.param((altered(TWO, quantity=4),), id="another quantity"),
        pytest.param((altered(TWO, scheduled_at=T0),), id="another time"),
        pytest.param((altered(TWO, sequence_number=3),), id="another number"),
        pytest.param((TWO, altered(THREE, quantity=2)), id="another quantity of the last one"),
    ],
)
def test_a_release_of_other_slices_is_refused(slices: tuple[Slice, ...]) -> None:
    event = altered(NEXT_TWO, slices=slices)
    assert refusal_of(GIVEN, event) == expected(event, NOT_NEXT)


@pytest.mark.parametrize(
    "change",
    [{"order_unique_key": "ouk_2"}, {"instrument": "NSE:TCS"}, {"side": "SELL"}],
    ids=str,
)
def test_a_release_with_other_data_than_the_orders_is_refused(change: dict[str, str]) -> None:
    event = altered(NEXT_TWO, **change)
    why = "its key, instrument or side is not the order's"
    assert refusal_of(GIVEN, event) == expected(event, why)


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param((1,), id="settled before"),
        pytest.param((1, 2), id="one of them settled before"),
        pytest.param((3, 4), id="the next one left out"),
        pytest.param((2, 4), id="one between them left out"),
        pytest.param((3, 2), id="in another order"),
        pytest.param((2, 2), id="one twice"),
        pytest.param((2, 3, 4, 5), id="more than there are"),
    ],
)
def test_an_expiry_of_other_slices_is_refused(numbers: tuple[int, ...]) -> None:
    event = altered(EXPIRY, sequence_numbers=numbers)
    assert refusal_of(GIVEN, event) == expected(event, NOT_NEXT)


@pytest.mark.parametrize("quantity", [0, 5, 7, 9, 11])
def test_an_expiry_of_another_quantity_is_refused(quantity: int) -> None:
    event = altered(EXPIRY, quantity=quantity)
    why = f"its slices have 6 shares, not {quantity}"
    assert refusal_of(GIVEN, event) == expected(event, why)


@pytest.mark.parametrize("quantity", [0, 8, 10, 11])
def test_a_cancellation_of_another_quantity_is_refused(quantity: int) -> None:
    event = altered(CANCEL, quantity=quantity)
    why = f"its slices have 9 shares, not {quantity}"
    assert refusal_of(GIVEN, event) == expected(event, why)


@pytest.mark.parametrize("numbers", [(), (2,), (2, 3), (1, 2, 3, 4), (2, 3, 4, 5)], ids=str)
def test_a_cancellation_of_more_or_less_than_is_left_is_refused(numbers: tuple[int, ...]) -> None:
    event = altered(CANCEL, sequence_numbers=numbers)
    why = "it does not cancel every unsettled slice"
    assert refusal_of(GIVEN, event) == expected(event, why)


@pytest.mark.parametrize("numbers", [(1, 2, 3), (2, 4, 3), (3, 4, 5), (2, 2, 2)], ids=str)
def test_a_cancellation_of_other_slices_is_refused(numbers: tuple[int, ...]) -> None:
    event = altered(CANCEL, sequence_numbers=numbers)
    assert refusal_of(GIVEN, event) == expected(event, NOT_NEXT)


@pytest.mark.parametrize(
    ("numbers", "quantity"), [((), 10), ((), 0), ((1,), 11), ((1, 2, 3, 4), 11)], ids=str
)
def test_a_pending_order_is_cancelled_as_a_whole_or_not_at_all(
    numbers: tuple[int, ...], quantity: int
) -> None:
    event = altered(order_cancelled(CREATED), sequence_numbers=numbers, quantity=quantity)
    assert refusal_of((CREATED,), event) == (
        f"OrderCancelled at version 2 of order {CREATED.originator_id} cannot follow: "
        "it does not cancel the whole order (the order is PENDING, 0 of its 0 slices are settled)"
    )


@pytest.mark.parametrize(
    "event",
    [altered(NEXT_TWO, slices=()), altered(EXPIRY, sequence_numbers=(), quantity=0)],
    ids=lambda e: type(e).__name__,
)
def test_an_event_that_settles_no_slice_is_refused(event: Event) -> None:
    assert refusal_of(GIVEN, event) == expected(event, "it settles no slice")


ENDED: Final = {
    "failed": (CREATED, splitting_failed(CREATED)),
    "timed out": (CREATED, timed_out(CREATED)),
    "cancelled before its split": (CREATED, order_cancelled(CREATED)),
    "cancelled after its split": (*SPLIT, order_cancelled(*SPLIT)),
    "all released": (*SPLIT, slices_released(*SPLIT, count=4)),
    "all expired": (*SPLIT, slices_expired(*SPLIT, count=4)),
}


@pytest.mark.parametrize("history", [(CREATED,), *ENDED.values()], ids=["pending", *ENDED])
@pytest.mark.parametrize("event", [NEXT_TWO, EXPIRY], ids=lambda e: type(e).__name__)
def test_an_order_without_unsettled_slices_has_no_release_or_expiry(
    history: tuple[Event, ...], event: Event
) -> None:
    event = altered(event, originator_version=len(history) + 1)
    assert NOT_NEXT in refusal_of(history, event)


@pytest.mark.parametrize("history", ENDED.values(), ids=ENDED)
@pytest.mark.parametrize(
    "event",
    [CANCEL, order_cancelled(CREATED), altered(CANCEL, sequence_numbers=(), quantity=0)],
    ids=["of slices", "of the whole order", "of nothing"],
)
def test_an_order_with_nothing_left_is_not_cancelled(
    history: tuple[Event, ...], event: Event
) -> None:
    event = altered(event, originator_version=len(history) + 1)
    refusal_of(history, event)


@pytest.mark.parametrize("history", [SPLIT, *ENDED.values()], ids=["split", *ENDED])
@pytest.mark.parametrize(
    "event",
    [SCHEDULED, splitting_failed(CREATED), timed_out(CREATED)],
    ids=lambda e: type(e).__name__,
)
def test_a_second_outcome_is_refused(history: tuple[Event, ...], event: Event) -> None:
    event = altered(event, originator_version=len(history) + 1)
    assert "cannot follow: the order already has an outcome (" in refusal_of(history, event)


@pytest.mark.parametrize("event", [NEXT_TWO, EXPIRY, CANCEL], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("version", [1, 3, 5])
def test_an_event_at_another_version_than_the_next_is_refused(event: Event, version: int) -> None:
    event = altered(event, originator_version=version)
    assert refusal_of(GIVEN, event) == (
        f"{type(event).__name__} at version {version} of order {CREATED.originator_id} "
        "does not follow the order's last event"
    )


@pytest.mark.parametrize("event", [NEXT_TWO, EXPIRY, CANCEL], ids=lambda e: type(e).__name__)
def test_an_event_needs_an_order(event: Event) -> None:
    assert "does not follow the order's last event" in refusal_of((), event)


@pytest.mark.parametrize(
    "event",
    [slices_released(*SPLIT), slices_expired(*SPLIT)],
    ids=lambda e: type(e).__name__,
)
def test_slices_that_pulse_does_not_release_are_neither_released_nor_expired(event: Event) -> None:
    history = (altered(CREATED, release=False), SCHEDULED)
    why = "the slices of this order are not released"
    assert refusal_of(history, event) == expected(event, why, settled="0 of its 4")


def test_slices_that_pulse_does_not_release_are_cancelled() -> None:
    history = (altered(CREATED, release=False), SCHEDULED)
    order = evolve(fold(history), order_cancelled(*history))
    assert order.slice_states == ("CANCELLED",) * 4
