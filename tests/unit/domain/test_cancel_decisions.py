"""What an order decides about CancelOrder, as given / when / then."""

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import pytest

from pulse.domain import (
    CancelOrder,
    Event,
    NothingToCancel,
    OrderCancelled,
    OrderNotPlaced,
    PlaceOrder,
    Quantities,
    RecordedBy,
    Trace,
    fold,
)
from tests.support.events import (
    order_cancelled,
    order_created,
    slices_expired,
    slices_released,
    slices_scheduled,
    splitting_failed,
    timed_out,
)
from tests.support.scenario import given_events

T0: Final = datetime(2026, 3, 2, 9, 15, 0, 123456, tzinfo=UTC)
API: Final = RecordedBy(component="api", instance="api-1", code_version="0.1.0")
TRACE: Final = Trace(
    trace_id="t-cancel", trace_source="GAPI", request_id="r-cancel", request_source="GAPI:POST"
)

CREATED: Final = order_created(
    "ouk_1", timestamp=T0, total_quantity=7, num_splits=3, duration_minutes=10, randomize=False
)
SCHEDULED: Final = slices_scheduled(CREATED)  # 2, 2 and 3 shares, 5 minutes apart
CANCEL: Final = CancelOrder(
    reason="the desk closed",
    cancelled_by="desk",
    at=T0 + timedelta(seconds=90),
    recorded_by=API,
    trace=TRACE,
)


def cancelled(version: int, sequence_numbers: tuple[int, ...], quantity: int) -> OrderCancelled:
    return OrderCancelled(
        originator_id=CREATED.originator_id,
        originator_version=version,
        timestamp=T0 + timedelta(seconds=90),
        recorded_by=API,
        trace=TRACE,
        sequence_numbers=sequence_numbers,
        quantity=quantity,
        reason="the desk closed",
        cancelled_by="desk",
    )


def released(*history: Event, count: int = 1) -> tuple[Event, ...]:
    return (*history, slices_released(*history, count=count))


def expired(*history: Event, count: int = 1) -> tuple[Event, ...]:
    return (*history, slices_expired(*history, count=count))


def test_an_order_is_cancelled_as_a_whole_before_its_split() -> None:
    given_events(CREATED).when(CANCEL).then(cancelled(2, (), 7))


def test_all_slices_of_a_split_order_are_cancelled() -> None:
    given_events(CREATED, SCHEDULED).when(CANCEL).then(cancelled(3, (1, 2, 3), 7))


def test_only_the_slices_that_were_not_released_are_cancelled() -> None:
    given_events(*released(CREATED, SCHEDULED)).when(CANCEL).then(cancelled(4, (2, 3), 5))


def test_only_the_slices_that_did_not_expire_are_cancelled() -> None:
    history = released(*expired(CREATED, SCHEDULED))
    given_events(*history).when(CANCEL).then(cancelled(5, (3,), 3))


def test_a_last_share_is_cancelled() -> None:
    created = msgspec.structs.replace(CREATED, total_quantity=3)
    history = released(created, slices_scheduled(created), count=2)
    given_events(*history).when(CANCEL).then(cancelled(4, (3,), 1))


def test_slices_that_pulse_does_not_release_can_be_cancelled() -> None:
    created = msgspec.structs.replace(CREATED, release=False)
    given_events(created, SCHEDULED).when(CANCEL).then(cancelled(3, (1, 2, 3), 7))


def test_an_order_can_be_cancelled_without_a_reason() -> None:
    without = msgspec.structs.replace(CANCEL, reason=None)
    expected = msgspec.structs.replace(cancelled(2, (), 7), reason=None)
    given_events(CREATED).when(without).then(expected)


@pytest.mark.parametrize(
    "before",
    [(CREATED,), (CREATED, SCHEDULED), released(CREATED, SCHEDULED)],
    ids=["before the split", "after the split", "after a release"],
)
def test_a_cancelled_order_cancelled_again_causes_nothing(before: tuple[Event, ...]) -> None:
    again = msgspec.structs.replace(CANCEL, reason="another", cancelled_by="another")
    given_events(*before, order_cancelled(*before)).when(again).then()


FAILED_BEFORE = "it failed, so none of its shares will be released; no action is needed"
SETTLED_BEFORE = (
    "all of its slices are settled; read the order to see how many shares were released"
)


@pytest.mark.parametrize(
    ("history", "why", "quantities"),
    [
        ((CREATED, splitting_failed(CREATED)), FAILED_BEFORE, Quantities(remaining=0, expired=7)),
        ((CREATED, timed_out(CREATED)), FAILED_BEFORE, Quantities(remaining=0, expired=7)),
        (
            released(CREATED, SCHEDULED, count=3),
            SETTLED_BEFORE,
            Quantities(remaining=0, released=7),
        ),
        (
            released(*expired(CREATED, SCHEDULED), count=2),
            SETTLED_BEFORE,
            Quantities(remaining=0, released=5, expired=2),
        ),
    ],
    ids=["splitting failed", "timed out", "all released", "released and expired"],
)
def test_an_order_with_nothing_left_is_refused_with_its_quantities(
    history: tuple[Event, ...], why: str, quantities: Quantities
) -> None:
    refusal = given_events(*history).when(CANCEL).then_refused(NothingToCancel)
    assert refusal.order_id == CREATED.originator_id
    assert refusal.quantities == quantities
    assert refusal.why == why
    assert str(refusal) == f"this order cannot be cancelled: {why}"


def test_a_cancel_needs_an_order() -> None:
    refusal = given_events().when(CANCEL).then_refused(OrderNotPlaced)
    assert str(refusal) == "there is no order in this stream"


def test_a_cancelled_order_placed_again_causes_nothing() -> None:
    place = PlaceOrder(
        spec=CREATED.spec,
        key_scope=CREATED.key_scope,
        placed_by="tester",
        split_seed=1,
        release=True,
        at=T0,
        recorded_by=API,
        trace=TRACE,
    )
    given_events(CREATED, order_cancelled(CREATED)).when(place).then()


def test_an_order_cancelled_before_its_split_has_that_state_and_no_slices() -> None:
    order = fold([CREATED, cancelled(2, (), 7)])
    assert order is not None
    assert (order.state, order.cancelled, order.version) == ("CANCELLED", True, 2)
    assert (order.slices, order.slice_states, order.due_at) == ((), (), None)
    assert order.quantities == Quantities(remaining=0, cancelled=7)
    assert (order.failure_reason, order.split_completed_at) == (None, None)
    assert order.updated_at == T0 + timedelta(seconds=90)


def test_an_order_cancelled_after_its_split_stays_completed_and_keeps_its_slices() -> None:
    history = released(*expired(CREATED, SCHEDULED))
    order = fold((*history, cancelled(5, (3,), 3)))
    assert order is not None
    assert (order.state, order.cancelled, order.version) == ("COMPLETED", True, 5)
    assert order.slices == SCHEDULED.slices
    assert order.slice_states == ("EXPIRED", "RELEASED", "CANCELLED")
    assert (order.unsettled, order.due_at) == ((), None)
    assert order.quantities == Quantities(remaining=0, released=2, cancelled=3, expired=2)
    assert order.split_completed_at == SCHEDULED.timestamp
    assert order.updated_at == T0 + timedelta(seconds=90)


@pytest.mark.parametrize(
    "history",
    [
        (CREATED,),
        (CREATED, SCHEDULED),
        released(CREATED, SCHEDULED),
        (CREATED, timed_out(CREATED)),
        expired(CREATED, SCHEDULED, count=3),
    ],
    ids=["pending", "split", "one released", "failed", "all expired"],
)
def test_other_orders_are_not_cancelled(history: tuple[Event, ...]) -> None:
    order = fold(history)
    assert order is not None
    assert not order.cancelled
