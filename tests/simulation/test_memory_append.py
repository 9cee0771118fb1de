"""The in-memory log passes Pulse's append tests, except those that need a network."""

import pytest

from tests.integration.test_event_store_append import (
    test_a_batch_is_never_larger_than_its_bound,
    test_a_stream_is_read_oldest_first_and_alone,
    test_an_append_returns_the_positions_of_its_events_in_their_order,
    test_an_event_is_read_back_as_it_was_appended,
    test_appending_nothing_writes_nothing,
    test_several_streams_are_read_in_one_go_and_unknown_ones_left_out,
    test_the_log_is_read_in_commit_order_from_a_position_on,
    test_two_hundred_concurrent_appends_each_get_the_position_of_their_own_event,
)
from tests.integration.test_event_store_conflicts import (
    test_a_taken_version_is_refused_with_its_facts,
    test_an_append_that_names_one_version_twice_is_refused_whole,
    test_an_append_that_postgres_cannot_take_hurts_no_other,
    test_of_a_hundred_concurrent_appends_exactly_the_colliding_ones_are_refused,
    test_of_many_claimants_of_one_version_the_first_to_come_wins,
    test_several_events_go_in_whole_or_not_at_all,
    test_several_events_that_overlap_within_a_burst_go_in_one_after_the_other,
    test_the_conflict_of_several_events_hurts_no_other_in_the_same_burst,
    test_the_same_event_appended_twice_is_a_conflict,
    test_who_followed_several_events_that_were_refused_may_have_their_versions,
)
from tests.simulation.memory.connection import MemoryDatabase
from tests.simulation.memory.server import Result, Server, Session
from tests.simulation.memory.statements import STATEMENTS

__all__ = [
    "test_a_batch_is_never_larger_than_its_bound",
    "test_a_stream_is_read_oldest_first_and_alone",
    "test_a_taken_version_is_refused_with_its_facts",
    "test_an_append_returns_the_positions_of_its_events_in_their_order",
    "test_an_append_that_names_one_version_twice_is_refused_whole",
    "test_an_append_that_postgres_cannot_take_hurts_no_other",
    "test_an_event_is_read_back_as_it_was_appended",
    "test_appending_nothing_writes_nothing",
    "test_of_a_hundred_concurrent_appends_exactly_the_colliding_ones_are_refused",
    "test_of_many_claimants_of_one_version_the_first_to_come_wins",
    "test_several_events_go_in_whole_or_not_at_all",
    "test_several_events_that_overlap_within_a_burst_go_in_one_after_the_other",
    "test_several_streams_are_read_in_one_go_and_unknown_ones_left_out",
    "test_the_conflict_of_several_events_hurts_no_other_in_the_same_burst",
    "test_the_log_is_read_in_commit_order_from_a_position_on",
    "test_the_same_event_appended_twice_is_a_conflict",
    "test_two_hundred_concurrent_appends_each_get_the_position_of_their_own_event",
    "test_who_followed_several_events_that_were_refused_may_have_their_versions",
]

_SELECT_EVENTS = (
    "SELECT originator_id, originator_version, notification_id, state FROM stored_events"
)


def _select_events(server: Server, _: Session, __: object) -> Result:
    rows = server.log.rows
    return Result([(r.originator_id, r.originator_version, r.position, r.state) for r in rows])


@pytest.fixture
def database() -> MemoryDatabase:
    """Replaces the Postgres database of the imported tests."""
    return MemoryDatabase(
        Server(lambda: 0.0), statements=STATEMENTS | {_SELECT_EVENTS: _select_events}
    )
