"""Laws of an order's whole life: its shares, and when its slices are released and expire."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.domain import (
    Claim,
    DueOrder,
    Event,
    Halts,
    HistoryBroken,
    Order,
    OrderCancelled,
    OrderCreated,
    Quantities,
    RecordedBy,
    ReleasesHalted,
    ReleaseSlices,
    ReleasesResumed,
    Slice,
    SlicesExpired,
    SlicesReleased,
    SlicesScheduled,
    SliceState,
    SplitOrder,
    SplittingFailed,
    TimedOut,
    decide,
    evolve,
    fold,
    release_due,
)
from tests.support.histories import life_orders, lives, moments_from
from tests.support.releases import check_release_times, limits_of, release_times

DELAYS: Final = (0.25, 1.0, 5.0, 60.0)
MAX_SLICES_PER_SECOND: Final = 3
"""Of 100 slices in a minute, each within 30 % of an interval of its place, 3 fit in a second."""
NEVER: Final = datetime.max.replace(tzinfo=UTC)
AUTHOR: Final = RecordedBy(component="test", instance="test-1", code_version="0.1.0")


@st.composite
def lives_with_delay(draw: st.DrawFn) -> tuple[float, tuple[Event, ...]]:
    """A releaser's delay in seconds, and a life in which slices are released with it."""
    max_delay_seconds = draw(st.sampled_from(DELAYS))
    return max_delay_seconds, draw(lives(max_delay_seconds))


def whole(history: tuple[Event, ...]) -> Order:
    order = fold(history)
    assert order is not None
    return order


def prefixes(history: tuple[Event, ...]) -> Iterator[tuple[Event, ...]]:
    return (history[:length] for length in range(1, len(history) + 1))


def release_at(at: datetime, max_delay_seconds: float) -> ReleaseSlices:
    return ReleaseSlices(
        halts=Halts(),
        max_delay_seconds=max_delay_seconds,
        released_by="releaser-1",
        at=at,
        request_id="r-1",
        recorded_by=AUTHOR,
    )


# Shares


def tallied(history: tuple[Event, ...]) -> tuple[Quantities, list[SliceState]]:
    """The shares and the states of the slices by the numbers in the events alone."""
    shares: Counter[str] = Counter()
    states: dict[int, SliceState] = {}
    total = whole(history).spec.total_quantity
    for event in history[1:]:
        match event:
            case SlicesScheduled():
                states = {s.sequence_number: "SCHEDULED" for s in event.slices}
            case SplittingFailed() | TimedOut():
                shares["EXPIRED"] += total
            case SlicesReleased():
                shares["RELEASED"] += sum(s.quantity for s in event.slices)
                states |= {s.sequence_number: "RELEASED" for s in event.slices}
            case SlicesExpired():
                shares["EXPIRED"] += event.quantity
                states |= dict.fromkeys(event.sequence_numbers, "EXPIRED")
            case OrderCancelled():
                shares["CANCELLED"] += event.quantity
                states |= dict.fromkeys(event.sequence_numbers, "CANCELLED")
            case OrderCreated() | ReleasesHalted() | ReleasesResumed():
                raise AssertionError(f"a later {type(event).__name__}")
    quantities = Quantities(
        remaining=total - shares.total(),
        released=shares["RELEASED"],
        cancelled=shares["CANCELLED"],
        expired=shares["EXPIRED"],
    )
    return quantities, list(states.values())


@given(lives())
def test_at_every_prefix_all_shares_are_accounted_for(history: tuple[Event, ...]) -> None:
    for prefix in prefixes(history):
        order = whole(prefix)
        shares = msgspec.structs.astuple(order.quantities)
        assert sum(shares) == order.spec.total_quantity
        assert min(shares) >= 0
        quantities = order.quantities
        match order.state:
            case "PENDING":
                assert quantities.remaining == order.spec.total_quantity
            case "FAILED":
                assert quantities.expired == order.spec.total_quantity
            case "CANCELLED":
                assert quantities.cancelled == order.spec.total_quantity
            case "COMPLETED":
                assert quantities.remaining == sum(s.quantity for s in order.unsettled)


@given(lives())
def test_at_every_prefix_the_order_is_what_its_events_sum_to(history: tuple[Event, ...]) -> None:
    for prefix in prefixes(history):
        order = whole(prefix)
        quantities, states = tallied(prefix)
        assert order.quantities == quantities
        assert list(order.slice_states) == states
        assert order.version == len(prefix)
        assert order.updated_at == prefix[-1].timestamp
        assert order.cancelled == isinstance(prefix[-1], OrderCancelled)


@given(lives())
def test_an_event_settles_the_next_slices_and_changes_no_settled_one(
    history: tuple[Event, ...],
) -> None:
    order = whole(history[:1])
    for event in history[1:]:
        before, order = order, evolve(order, event)
        assert order.settled[: len(before.settled)] == before.settled
        assert order.slices[: len(before.slices)] == before.slices
        if before.state != "PENDING":
            assert len(order.settled) > len(before.settled)
        if before.cancelled or before.state == "FAILED":
            raise AssertionError("an event follows the last one")


@given(lives(), st.data())
def test_no_event_of_a_life_can_be_applied_twice(
    history: tuple[Event, ...], data: st.DataObject
) -> None:
    event = data.draw(st.sampled_from(history))
    again = msgspec.structs.replace(event, originator_version=len(history) + 1)
    with pytest.raises(HistoryBroken):
        evolve(whole(history), again)


# Times


@given(lives_with_delay())
def test_slices_are_released_in_their_time_and_as_far_apart_as_planned(
    life: tuple[float, tuple[Event, ...]],
) -> None:
    max_delay_seconds, history = life
    check_release_times(history, whole(history).slices, max_delay_seconds)


# The projected view


def projected(order: Order, at: datetime) -> DueOrder:
    """The order as a releaser reads it: the slices whose time has come, and the next one."""
    before: tuple[Slice | None, ...] = (None, *order.unsettled)
    return DueOrder(
        order_id=order.id,
        version=order.version,
        order_unique_key=order.spec.order_unique_key,
        instrument=order.spec.instrument,
        side=order.spec.side,
        placed_by=order.placed_by,
        trace_id=order.trace_id,
        unsettled=tuple(
            s
            for s, predecessor in zip(order.unsettled, before, strict=False)
            if predecessor is None or predecessor.scheduled_at <= at
        ),
    )


@given(lives_with_delay(), st.data())
def test_a_releaser_decides_from_the_projected_view_as_the_order_does(
    life: tuple[float, tuple[Event, ...]], data: st.DataObject
) -> None:
    max_delay_seconds, history = life
    for prefix in prefixes(history):
        order = whole(prefix)
        at = data.draw(st.sampled_from(moments_from(order.updated_at, order, max_delay_seconds)))
        command = release_at(at, max_delay_seconds)
        if order.due_at is not None and order.due_at <= at:
            assert decide(command, order) == release_due(command, projected(order, at)) != ()
        else:
            assert decide(command, order) == ()


# Releasers and outages


@st.composite
def split_orders(draw: st.DrawFn) -> tuple[Event, ...]:
    """An order that was split at its creation, with slices to release."""
    place = draw(life_orders())
    (created,) = decide(msgspec.structs.replace(place, release=True), None)
    claim = Claim(
        worker="worker-1", claimed_at=created.timestamp, first_claimed_at=created.timestamp
    )
    split = SplitOrder(
        claim=claim,
        max_split_delay_seconds=0,
        at=created.timestamp,
        request_id="r-1",
        recorded_by=AUTHOR,
    )
    return created, *decide(split, fold([created]))


def with_releases(
    history: tuple[Event, ...],
    since: datetime,
    max_delay_seconds: float,
    until: datetime = NEVER,
) -> tuple[Event, ...]:
    """The history after a releaser that decides as soon as the order is due, in this time."""
    order, events = whole(history), list(history)
    while order.due_at is not None and order.due_at < until:
        (event,) = decide(release_at(max(since, order.due_at), max_delay_seconds), order)
        events.append(event)
        order = evolve(order, event)
    return tuple(events)


@given(split_orders(), st.sampled_from(DELAYS))
def test_without_an_outage_every_slice_is_released_at_its_time(
    history: tuple[Event, ...], max_delay_seconds: float
) -> None:
    order = whole(history)
    history = with_releases(history, order.created_at, max_delay_seconds)
    planned = {s.sequence_number: s.scheduled_at for s in order.slices}
    assert release_times(history) == planned


@given(split_orders(), st.sampled_from(DELAYS), st.data())
def test_after_an_outage_only_slices_whose_time_ended_in_it_expire_and_no_burst_follows(
    history: tuple[Event, ...], max_delay_seconds: float, data: st.DataObject
) -> None:
    order = whole(history)
    window_seconds = 60 * order.spec.split_config.duration_minutes
    before_seconds = data.draw(st.floats(0, window_seconds))
    outage_seconds = data.draw(st.floats(0, 2 * window_seconds) | st.floats(0, 3))
    outage_starts = order.created_at + timedelta(seconds=before_seconds)
    outage_ends = outage_starts + timedelta(seconds=outage_seconds)
    history = with_releases(history, order.created_at, max_delay_seconds, until=outage_starts)
    limits = limits_of(whole(history).unsettled, max_delay_seconds)
    history = with_releases(history, outage_ends, max_delay_seconds)

    expirations = [event for event in history if isinstance(event, SlicesExpired)]
    expired = set(chain.from_iterable(event.sequence_numbers for event in expirations))
    assert expired == {number for number, limit in limits.items() if limit <= outage_ends}
    check_release_times(history, order.slices, max_delay_seconds)
    at_once = Counter(release_times(history).values())
    assert max(at_once.values(), default=0) <= MAX_SLICES_PER_SECOND
