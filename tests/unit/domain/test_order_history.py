"""An order is the fold of its events, and an invalid history is refused."""

from datetime import timedelta
from typing import cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.domain import (
    Claim,
    Event,
    HistoryBroken,
    Order,
    OrderCreated,
    OrderSpec,
    OrderState,
    RecordedBy,
    Session,
    SlicesScheduled,
    SplitConfigRequest,
    SplitOrder,
    SplittingFailed,
    TimedOut,
    decide,
    evolve,
    fold,
)
from pulse.domain.orders import outcome_of
from tests.support.events import order_created
from tests.support.histories import histories


def whole(history: tuple[Event, ...]) -> Order:
    order = fold(history)
    assert order is not None
    return order


def at_version(event: Event, version: int) -> Event:
    return msgspec.structs.replace(event, originator_version=version)


def test_a_second_creation_is_refused() -> None:
    created = order_created("ouk_1")
    with pytest.raises(HistoryBroken, match="OrderCreated at version 2 is not the first event"):
        fold([created, at_version(created, 2)])


def too_late(history: tuple[Event, ...]) -> Event:
    """The failure of this order had it been claimed a second after its window's end."""
    order = whole(history[:1])
    claimed_at = order.window.ends_at + timedelta(seconds=1)
    command = SplitOrder(
        claim=Claim(worker="worker-1", claimed_at=claimed_at, first_claimed_at=claimed_at),
        max_split_delay_seconds=0,
        at=claimed_at,
        request_id="r-1",
        recorded_by=RecordedBy(component="worker", instance="worker-1", code_version="0.1.0"),
    )
    (failed,) = decide(command, order)
    return failed


@st.composite
def outcomes(draw: st.DrawFn) -> tuple[OrderCreated, Event]:
    """A creation, and an outcome other than a cancellation."""
    created, outcome = draw(st.one_of(histories("COMPLETED"), histories("FAILED")))
    assert isinstance(created, OrderCreated)
    return created, draw(st.sampled_from((outcome, too_late((created,)))))


def test_an_empty_history_is_no_order() -> None:
    assert fold([]) is None


@given(histories("PENDING"))
def test_a_created_order_is_pending_with_every_requested_value(
    history: tuple[OrderCreated],
) -> None:
    (created,) = history
    assert whole(history) == Order(
        id=created.originator_id,
        version=1,
        key_scope=created.key_scope,
        placed_by=created.placed_by,
        spec=OrderSpec(
            order_unique_key=created.order_unique_key,
            instrument=created.instrument,
            side=created.side,
            total_quantity=created.total_quantity,
            split_config=SplitConfigRequest(
                num_splits=created.num_splits,
                duration_minutes=created.duration_minutes,
                randomize=created.randomize,
                start_at=created.start_at,
                session_policy=created.session_policy,
            ),
        ),
        split_seed=int(created.split_seed, base=16),
        splitter_version=created.splitter_version,
        release=created.release,
        trace_id=created.trace.trace_id,
        context=created.trace.context,
        created_at=created.timestamp,
        updated_at=created.timestamp,
        window_starts_at=created.window_starts_at,
        sessions=tuple(
            Session(opens_at=opens_at, closes_at=closes_at)
            for opens_at, closes_at in created.sessions
        ),
        state="PENDING",
        slices=(),
        failure_reason=None,
        failure_message=None,
    )


@given(outcomes())
def test_an_outcome_changes_nothing_but_the_outcome(history: tuple[OrderCreated, Event]) -> None:
    created, outcome = history
    expected = msgspec.structs.replace(whole((created,)), version=2, updated_at=outcome.timestamp)
    match outcome:
        case SlicesScheduled():
            expected = msgspec.structs.replace(
                expected,
                state="COMPLETED",
                slices=outcome.slices,
                split_completed_at=outcome.timestamp,
            )
        case SplittingFailed():
            expected = msgspec.structs.replace(
                expected,
                state="FAILED",
                failure_reason=outcome.reason,
                failure_message=outcome.message,
            )
        case TimedOut():
            expected = msgspec.structs.replace(
                expected,
                state="FAILED",
                failure_reason="TIMED_OUT",
                failure_message=(
                    f"claimed by {outcome.claimed_by} and not split within 300 s; "
                    "place it again under a new key if it is still wanted"
                ),
            )
        case _:
            pytest.fail("this event is not an outcome")
    assert whole(history) == expected


@given(outcomes(), st.integers(1, 3))
def test_an_order_is_created_once_and_first(
    history: tuple[OrderCreated, Event], version: int
) -> None:
    created, outcome = history
    for before in ((created,), (created, outcome)):
        with pytest.raises(
            HistoryBroken, match=f"OrderCreated at version {version} is not the fir"
        ):
            fold((*before, at_version(created, version)))


@given(outcomes(), st.sampled_from((0, 2, 3)))
def test_a_creation_at_another_version_than_one_is_refused(
    history: tuple[OrderCreated, Event], version: int
) -> None:
    with pytest.raises(
        HistoryBroken, match=f"OrderCreated at version {version} is not the first event"
    ):
        fold([at_version(history[0], version)])


@given(outcomes())
def test_an_outcome_without_an_order_is_refused(history: tuple[OrderCreated, Event]) -> None:
    with pytest.raises(HistoryBroken, match="does not follow the order's last event"):
        fold(history[1:])


@given(outcomes(), st.sampled_from((0, 1, 3, 4)))
def test_an_outcome_at_another_version_than_the_next_is_refused(
    history: tuple[OrderCreated, Event], version: int
) -> None:
    created, outcome = history
    message = f"{type(outcome).__name__} at version {version} of order {created.originator_id} does"
    with pytest.raises(HistoryBroken, match=message):
        fold((created, at_version(outcome, version)))


@given(outcomes(), st.sampled_from((2, 3)))
def test_a_second_outcome_never_follows_the_first(
    history: tuple[OrderCreated, Event], version: int
) -> None:
    for second in (history[1], too_late(history)):
        with pytest.raises(HistoryBroken, match=f"{type(second).__name__} at version {version} of"):
            fold((*history, at_version(second, version)))


@given(histories())
def test_a_history_that_was_decided_always_folds(history: tuple[Event, ...]) -> None:
    order = whole(history)
    assert order.version == len(history) == history[-1].originator_version
    assert order.updated_at == history[-1].timestamp
    assert order.created_at == history[0].timestamp


def test_an_unknown_state_raises_assertion_error() -> None:
    order = msgspec.structs.replace(whole((order_created(),)), state=cast("OrderState", "a state"))
    with pytest.raises(AssertionError, match="a state"):
        _ = order.quantities


def test_a_creation_of_class_version_1_is_of_an_order_that_is_not_released() -> None:
    first: dict[str, object] = {"timestamp": "2026-03-02T03:45:00Z", "placed_by": "desk"}
    state = dict(first)
    OrderCreated.upcast_v1_v2(state)
    assert state == first | {"release": False}
    OrderCreated.downcast_v2_v1(state)
    assert state == first


def test_a_creation_of_class_version_2_has_a_window_from_its_creation_on() -> None:
    second: dict[str, object] = {"timestamp": "2026-03-02T03:45:00Z", "release": True}
    state = dict(second)
    OrderCreated.upcast_v2_v3(state)
    assert state == second | {
        "start_at": None,
        "session_policy": None,
        "window_starts_at": "2026-03-02T03:45:00Z",
        "applied_policy": "NONE",
        "sessions": [],
        "calendar_digest": None,
    }
    OrderCreated.downcast_v3_v2(state)
    assert state == second


def test_an_unknown_event_raises_assertion_error() -> None:
    with pytest.raises(AssertionError, match="an event"):
        evolve(None, cast("Event", "an event"))
    with pytest.raises(AssertionError):
        outcome_of(cast("TimedOut", "an event"))


@given(histories())
def test_the_creation_alone_determines_the_terms_of_the_schedule(
    history: tuple[Event, ...],
) -> None:
    created = history[0]
    assert isinstance(created, OrderCreated)
    assert created.terms == whole(history).terms
    assert created.spec == whole(history).spec
