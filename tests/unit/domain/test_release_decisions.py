"""What an order decides about ReleaseSlices, as given / when / then."""

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import pytest

from pulse.domain import (
    DueOrder,
    Event,
    Halts,
    OrderNotPlaced,
    Quantities,
    RecordedBy,
    ReleaseSlices,
    Slice,
    SlicesExpired,
    SlicesReleased,
    SlicesScheduled,
    Trace,
    TraceContext,
    decide,
    due_at,
    evolve,
    expires_at,
    fold,
    release_due,
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
MICROSECOND: Final = timedelta(microseconds=1)
RELEASER: Final = RecordedBy(component="releaser", instance="releaser-1", code_version="0.1.0")
CREATED: Final = order_created("ouk_1", timestamp=T0, total_quantity=1000, num_splits=5)
TRACE: Final = Trace(
    trace_id=CREATED.trace.trace_id,
    trace_source="PULSE_BACKGROUND:releaser-1",
    request_id="r-releaser",
    request_source="PULSE_BACKGROUND:releaser-1",
)


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def planned(*seconds: float) -> tuple[Event, ...]:
    """An order with slices at these times, of 100, 101, 102 and so on shares."""
    slices = tuple(
        Slice(sequence_number=number, quantity=99 + number, scheduled_at=after(offset))
        for number, offset in enumerate(seconds, 1)
    )
    return CREATED, msgspec.structs.replace(slices_scheduled(CREATED), slices=slices)


def released(*history: Event, count: int = 1, at: float | None = None) -> tuple[Event, ...]:
    moment = None if at is None else after(at)
    return (*history, slices_released(*history, count=count, at=moment))


def expired(*history: Event, count: int = 1, at: float | None = None) -> tuple[Event, ...]:
    moment = None if at is None else after(at)
    return (*history, slices_expired(*history, count=count, at=moment))


def release(at: float | datetime, max_delay_seconds: float = 60) -> ReleaseSlices:
    return ReleaseSlices(
        halts=Halts(),
        max_delay_seconds=max_delay_seconds,
        released_by="releaser-1",
        at=at if isinstance(at, datetime) else after(at),
        request_id="r-releaser",
        recorded_by=RELEASER,
    )


def slices_of(history: tuple[Event, ...]) -> tuple[Slice, ...]:
    scheduled = history[1]
    assert isinstance(scheduled, SlicesScheduled)
    return scheduled.slices


def release_of(
    history: tuple[Event, ...], numbers: tuple[int, ...], at: float | datetime
) -> SlicesReleased:
    """The release of these slices as next event."""
    return SlicesReleased(
        originator_id=CREATED.originator_id,
        originator_version=len(history) + 1,
        timestamp=at if isinstance(at, datetime) else after(at),
        recorded_by=RELEASER,
        trace=TRACE,
        order_unique_key="ouk_1",
        instrument="NSE:RELIANCE",
        side="BUY",
        slices=tuple(s for s in slices_of(history) if s.sequence_number in numbers),
    )


def expiry_of(
    history: tuple[Event, ...], numbers: tuple[int, ...], at: float | datetime
) -> SlicesExpired:
    """The expiry of these slices as next event."""
    return SlicesExpired(
        originator_id=CREATED.originator_id,
        originator_version=len(history) + 1,
        timestamp=at if isinstance(at, datetime) else after(at),
        recorded_by=RELEASER,
        trace=TRACE,
        sequence_numbers=numbers,
        quantity=sum(s.quantity for s in slices_of(history) if s.sequence_number in numbers),
        reason="RELEASE_TOO_LATE",
    )


# Released at its time, never before


@pytest.mark.parametrize("at", [after(-86_400), after(0) - MICROSECOND])
def test_a_slice_is_not_released_before_its_time(at: datetime) -> None:
    given_events(*planned(0, 300)).when(release(at)).then()


@pytest.mark.parametrize("at", [after(0), after(0) + MICROSECOND, after(59.999999)])
def test_a_slice_is_released_from_its_time_on(at: datetime) -> None:
    history = planned(0, 300)
    given_events(*history).when(release(at)).then(release_of(history, (1,), at))


def test_after_a_release_nothing_is_due_until_the_next_slice_is() -> None:
    history = released(*planned(0, 300))
    given_events(*history).when(release(after(300) - MICROSECOND)).then()
    given_events(*history).when(release(300)).then(release_of(history, (2,), 300))


def test_the_last_slice_is_released_at_its_time() -> None:
    history = released(*planned(0, 300), count=1)
    given_events(*history).when(release(310)).then(release_of(history, (2,), 310))


def test_slices_that_can_all_be_released_are_released_together() -> None:
    history = planned(0, 0.3, 0.6, 0.9)
    given_events(*history).when(release(0.6)).then(release_of(history, (1, 2, 3), 0.6))


def test_a_slice_that_is_not_due_is_not_released_with_the_others() -> None:
    history = planned(0, 0.3, 0.6)
    at = after(0.6) - MICROSECOND
    given_events(*history).when(release(at)).then(release_of(history, (1, 2), at))


# How long it can be released


@pytest.mark.parametrize(
    ("times", "max_delay_seconds", "limit"),
    [
        pytest.param((0, 30), 60, 30, id="until its successor is due"),
        pytest.param((0, 1), 60, 1, id="until its successor is due, after a second"),
        pytest.param((0, 0.3, 300), 60, 1, id="for a second, though its successor is due earlier"),
        pytest.param((0, 300), 60, 60, id="for the delay at most"),
        pytest.param((0, 300), 0.25, 0.25, id="for a delay below a second"),
        pytest.param((0, 0.3), 0.25, 0.25, id="for a delay that ends before its successor is due"),
        pytest.param(
            (0, 0.3), 0.5, 0.5, id="for a delay below a second, though its successor is due earlier"
        ),
        pytest.param((0, 300), 301, 300, id="until its successor is due, before the delay ends"),
    ],
)
def test_a_slice_can_be_released(
    times: tuple[float, ...], max_delay_seconds: float, limit: float
) -> None:
    history = planned(*times)
    last_moment = after(limit) - MICROSECOND
    (event,) = decide(release(last_moment, max_delay_seconds), fold(history))
    assert isinstance(event, SlicesReleased)
    assert event.slices[0].sequence_number == 1
    (event,) = decide(release(limit, max_delay_seconds), fold(history))
    assert event == expiry_of(history, (1,), limit)


@pytest.mark.parametrize("max_delay_seconds", [0.25, 1, 60])
def test_the_last_slice_can_be_released_for_the_delay(max_delay_seconds: float) -> None:
    history = released(*planned(0, 300))
    limit = after(300 + max_delay_seconds)
    last_moment = limit - MICROSECOND
    command = release(last_moment, max_delay_seconds)
    given_events(*history).when(command).then(release_of(history, (2,), last_moment))
    command = release(limit, max_delay_seconds)
    given_events(*history).when(command).then(expiry_of(history, (2,), limit))


def test_expired_slices_are_recorded_first_and_the_release_follows_in_the_next_step() -> None:
    history = planned(0, 30, 60, 90)
    expiry = expiry_of(history, (1, 2), 65)
    given_events(*history).when(release(65)).then(expiry)
    history = (*history, expiry)
    given_events(*history).when(release(65)).then(release_of(history, (3,), 65))


def test_long_after_the_window_all_slices_expire_in_one_event() -> None:
    history = planned(0, 30, 60)
    given_events(*history).when(release(86_400)).then(expiry_of(history, (1, 2, 3), 86_400))


def test_an_expiry_does_not_delay_the_slices_that_follow() -> None:
    history = expired(*planned(0, 2, 4), at=2)
    given_events(*history).when(release(2)).then(release_of(history, (2,), 2))


# The distance to a slice that was released late


@pytest.mark.parametrize(
    ("next_at", "released_at", "due"),
    [
        pytest.param(30, 0, 30, id="released at its time"),
        pytest.param(30, 29, 30, id="released a second before its successor is due"),
        pytest.param(30, 29.000001, 30.000001, id="released less than a second before"),
        pytest.param(30, 29.999999, 30.999999, id="released at the last moment"),
        pytest.param(1.2, 0.75, 1.75, id="planned more than a second apart"),
        pytest.param(1.1, 0.75, 1.75, id="planned a second and the catch-up apart"),
        pytest.param(1.099999, 0.75, 1.749999, id="planned less than that apart"),
        pytest.param(1, 0.75, 1.65, id="planned a second apart"),
        pytest.param(1, 0.05, 1, id="released less late than the catch-up"),
        pytest.param(0.999999, 0.75, 0.999999, id="planned less than a second apart"),
    ],
)
def test_a_slice_keeps_a_distance_of_a_second_if_it_was_planned_with_one(
    next_at: float, released_at: float, due: float
) -> None:
    history = released(*planned(0, next_at, 300), at=released_at)
    given_events(*history).when(release(after(due) - MICROSECOND)).then()
    given_events(*history).when(release(due)).then(release_of(history, (2,), due))
    order = fold(history)
    assert order is not None
    assert order.due_at == after(due)


def test_the_distance_is_kept_from_the_last_slice_of_a_release() -> None:
    history = released(*planned(0, 0.5, 1.4), count=2, at=0.75)
    given_events(*history).when(release(1.4)).then(release_of(history, (3,), 1.4))
    history = released(*planned(0, 0.5, 1.5, 300), count=2, at=0.75)
    given_events(*history).when(release(1.6)).then()
    given_events(*history).when(release(1.65)).then(release_of(history, (3,), 1.65))


def test_a_slice_that_keeps_its_distance_can_still_be_released() -> None:
    history = released(*planned(0, 1, 2), at=0.4)
    given_events(*history).when(release(1.2, 0.5)).then()
    command = release(1.3, 0.5)
    given_events(*history).when(command).then(release_of(history, (2,), 1.3))


def test_a_slice_is_due_at_its_time_or_after_the_distance() -> None:
    first = Slice(sequence_number=1, quantity=1, scheduled_at=after(0))
    second = Slice(sequence_number=2, quantity=1, scheduled_at=after(1))
    assert due_at(second, None, after(7)) == after(1)
    assert due_at(second, first, after(7)) == after(7.9)
    assert due_at(second, first, after(0)) == after(1)


def test_slices_planned_a_second_apart_are_all_released_though_each_is_a_little_late() -> None:
    """Without the catch-up, the delays of all slices would add up until slices expire."""
    history = planned(*range(100))
    order = fold(history)
    while order is not None and (due := order.due_at) is not None:
        (event,) = decide(release(due + timedelta(seconds=0.05)), order)
        assert isinstance(event, SlicesReleased)
        order = evolve(order, event)
    assert order is not None
    assert order.quantities.expired == 0


def test_a_slice_expires_at_the_end_of_its_time() -> None:
    first = Slice(sequence_number=1, quantity=1, scheduled_at=after(0))
    second = Slice(sequence_number=2, quantity=1, scheduled_at=after(30))
    assert expires_at(first, second, 60) == after(30)
    assert expires_at(first, second, 20) == after(20)
    assert expires_at(first, None, 20) == after(20)


# Orders that have nothing to release


@pytest.mark.parametrize(
    "history",
    [
        pytest.param((CREATED,), id="pending"),
        pytest.param((CREATED, splitting_failed(CREATED)), id="failed"),
        pytest.param((CREATED, timed_out(CREATED)), id="timed out"),
        pytest.param((CREATED, order_cancelled(CREATED)), id="cancelled before its split"),
        pytest.param(
            (*planned(0, 300), order_cancelled(*planned(0, 300))), id="cancelled after its split"
        ),
        pytest.param(released(*planned(0, 0.5), count=2), id="all released"),
        pytest.param(expired(*planned(0, 0.5), count=2), id="all expired"),
        pytest.param(
            (msgspec.structs.replace(CREATED, release=False), planned(0, 300)[1]),
            id="not released by Pulse",
        ),
    ],
)
def test_an_order_with_nothing_to_release_causes_nothing(history: tuple[Event, ...]) -> None:
    order = fold(history)
    assert order is not None
    assert order.due_at is None
    given_events(*history).when(release(86_400)).then()


def test_a_release_needs_an_order() -> None:
    refusal = given_events().when(release(0)).then_refused(OrderNotPlaced)
    assert str(refusal) == "there is no order in this stream"


def test_without_unsettled_slices_nothing_is_released() -> None:
    order = DueOrder(
        order_id=CREATED.originator_id,
        version=2,
        order_unique_key="ouk_1",
        instrument="NSE:RELIANCE",
        side="BUY",
        placed_by="anonymous",
        trace_id="t1",
        unsettled=(),
    )
    assert release_due(release(0), order) == ()


# What an order is after a release and an expiry


def test_released_and_expired_slices_are_settled_in_their_order() -> None:
    history = planned(0, 30, 60, 90)
    order = fold(history)
    assert order is not None
    assert order.slice_states == ("SCHEDULED",) * 4
    assert order.quantities == Quantities(remaining=406)
    assert order.due_at == after(0)

    order = fold(history := released(*history, at=7))
    assert order is not None
    assert order.slice_states == ("RELEASED", "SCHEDULED", "SCHEDULED", "SCHEDULED")
    assert order.quantities == Quantities(remaining=306, released=100)
    assert (order.version, order.updated_at, order.due_at) == (3, after(7), after(30))

    order = fold(history := expired(*history, count=2, at=91))
    assert order is not None
    assert order.slice_states == ("RELEASED", "EXPIRED", "EXPIRED", "SCHEDULED")
    assert order.quantities == Quantities(remaining=103, released=100, expired=203)
    assert (order.version, order.updated_at, order.due_at) == (4, after(91), after(90))

    order = fold(released(*history, at=92))
    assert order is not None
    assert order.slice_states == ("RELEASED", "EXPIRED", "EXPIRED", "RELEASED")
    assert order.quantities == Quantities(remaining=0, released=203, expired=203)
    assert (order.state, order.cancelled, order.due_at) == ("COMPLETED", False, None)
    assert (order.unsettled, order.split_completed_at) == ((), history[1].timestamp)


@pytest.mark.parametrize("at", [0, 61], ids=["release", "expiry"])
def test_the_event_has_the_context_of_the_span_that_writes_it(at: float) -> None:
    context = TraceContext(traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    command = msgspec.structs.replace(release(at), context=context)
    (event,) = decide(command, fold(planned(0, 600)))
    assert event.trace == TRACE.within(context)
