"""The in-memory log passes Pulse's append tests, except those that need a network."""

import pytest

from tests.integration.test_event_store_append import (
    test_a_batch_is_never_larger_than_its_bound,
    test_a_stream_is_read_oldest_first_and_alone,
    test_an_append_returns_the_positions_of_its_events_in_their_order,
    test_an_event_is_read_back_as_it_was_appended,
    test_appending_nothing_writes_nothing,
    test_several_streams_are_read_together_without_unknown_ones,
    test_the_log_is_read_in_commit_order_from_a_position_on,
    test_two_hundred_concurrent_appends_each_get_the_position_of_their_own_event,
)
from tests.integration.test_event_store_conflicts import (
    test_a_conflict_affects_no_other_append_of_the_burst,
    test_a_taken_version_is_refused_with_its_facts,
    test_an_append_behind_a_refused_one_can_use_its_versions,
    test_an_append_that_postgres_rejects_affects_no_other,
    test_an_append_with_a_duplicate_version_is_refused,
    test_of_a_hundred_concurrent_appends_exactly_the_colliding_ones_are_refused,
    test_of_many_appends_at_one_version_the_first_wins,
    test_overlapping_appends_of_a_burst_are_written_in_order,
    test_several_events_are_appended_atomically,
    test_the_same_event_appended_twice_is_a_conflict,
)
from tests.simulation.memory.connection import MemoryDatabase
from tests.simulation.memory.server import Result, Server, Session
from tests.simulation.memory.statements import STATEMENTS

__all__ = [
    "test_a_batch_is_never_larger_than_its_bound",
    "test_a_conflict_affects_no_other_append_of_the_burst",
    "test_a_stream_is_read_oldest_first_and_alone",
    "test_a_taken_version_is_refused_with_its_facts",
    "test_an_append_behind_a_refused_one_can_use_its_versions",
    "test_an_append_returns_the_positions_of_its_events_in_their_order",
    "test_an_append_that_postgres_rejects_affects_no_other",
    "test_an_append_with_a_duplicate_version_is_refused",
    "test_an_event_is_read_back_as_it_was_appended",
    "test_appending_nothing_writes_nothing",
    "test_of_a_hundred_concurrent_appends_exactly_the_colliding_ones_are_refused",
    "test_of_many_appends_at_one_version_the_first_wins",
    "test_overlapping_appends_of_a_burst_are_written_in_order",
    "test_several_events_are_appended_atomically",
    "test_several_streams_are_read_together_without_unknown_ones",
    "test_the_log_is_read_in_commit_order_from_a_position_on",
    "test_the_same_event_appended_twice_is_a_conflict",
    "test_two_hundred_concurrent_appends_each_get_the_position_of_their_own_event",
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
