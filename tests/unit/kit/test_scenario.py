"""Scenarios pass where the decision is the expected one, and show both sides where it is not."""

from datetime import timedelta

import pytest

from pulse.domain import (
    HistoryBroken,
    OrderNotPlaced,
    OrderUniqueKeyTaken,
    SlicesScheduled,
    SplittingFailed,
    TimedOut,
    decide,
    fold,
)
from pulse.testing import check_schedule, given_events, place_order, split_order, time_out_order
from pulse.testing.commands import T0

(CREATED,) = decide(place_order(), None)
ORDER = fold([CREATED])


def test_an_order_placed_is_created_and_placed_again_causes_nothing() -> None:
    given_events().when(place_order()).then(CREATED)
    given_events(CREATED).when(place_order()).then()


def test_the_ready_made_commands_lead_to_every_outcome() -> None:
    (scheduled,) = decide(split_order(), ORDER)
    (late,) = decide(split_order(claimed_at=T0 + timedelta(seconds=301)), ORDER)
    (given_up,) = decide(time_out_order(timeout_seconds=5), ORDER)
    assert isinstance(scheduled, SlicesScheduled)
    assert isinstance(late, SplittingFailed)
    assert isinstance(given_up, TimedOut)
    assert ORDER is not None
    check_schedule(ORDER, scheduled.slices)
    assert given_up.timestamp == T0 + timedelta(seconds=6)
    for outcome in (scheduled, late, given_up):
        given_events(CREATED, outcome).when(split_order()).then()


def test_a_refusal_is_handed_back_to_look_at() -> None:
    other = place_order(total_quantity=99)
    refusal = given_events(CREATED).when(other).then_refused(OrderUniqueKeyTaken)
    assert refusal.existing_order_id == CREATED.originator_id


def test_another_event_than_expected_shows_both() -> None:
    scenario = given_events().when(place_order(total_quantity=99))
    with pytest.raises(AssertionError) as caught:
        scenario.then(CREATED)
    first, expected, followed = str(caught.value).splitlines()
    assert first == "expected OrderCreated, but OrderCreated followed"
    assert expected.startswith("  expected: OrderCreated(")
    assert "total_quantity=100" in expected
    assert followed.startswith("  followed: OrderCreated(")
    assert "total_quantity=99" in followed


def test_nothing_expected_and_something_followed_is_told() -> None:
    with pytest.raises(AssertionError, match="expected nothing, but OrderCreated followed"):
        given_events().when(place_order()).then()


def test_something_expected_and_nothing_followed_is_told() -> None:
    with pytest.raises(AssertionError, match="expected OrderCreated, but nothing followed"):
        given_events(CREATED).when(place_order()).then(CREATED)


def test_a_refusal_that_does_not_come_is_told() -> None:
    scenario = given_events().when(place_order())
    with pytest.raises(AssertionError, match="expected OrderUniqueKeyTaken, but OrderCreated "):
        scenario.then_refused(OrderUniqueKeyTaken)


def test_another_refusal_is_passed_on_as_it_is() -> None:
    with pytest.raises(OrderNotPlaced):
        given_events().when(split_order()).then_refused(OrderUniqueKeyTaken)


def test_a_scenario_without_a_command_says_what_is_missing() -> None:
    with pytest.raises(AssertionError, match=r"call when\(command\) before then"):
        given_events(CREATED).then()


def test_a_history_that_no_order_has_is_no_beginning() -> None:
    with pytest.raises(HistoryBroken):
        given_events(CREATED, CREATED)


def test_a_scenario_has_one_command() -> None:
    scenario = given_events().when(place_order())
    with pytest.raises(AssertionError, match="a scenario has one command"):
        scenario.when(place_order())
