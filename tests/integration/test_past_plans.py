"""The plans of questions about the past and the tally: each reads one window of a long log."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pulse.domain import SlicesScheduled, SplittingFailed, TimedOut
from pulse.postgres import load_sql
from pulse.projections.queue_history import WINDOW_POSITIONS
from tests.support.database import cloned_database, connect
from tests.support.many_orders import fill
from tests.support.plans import PlanMode, explain_analyze

ORDERS = 60_000
MODES: list[PlanMode] = ["force_generic_plan", "force_custom_plan"]
TOPICS = {
    "failures": [SplittingFailed.TOPIC, TimedOut.TOPIC],
    "scheduled": SlicesScheduled.TOPIC,
}


@pytest.fixture(scope="module")
def long_log(postgres: str, template_database: str) -> Iterator[str]:
    """A log of 120,000 events, summed up but for its last window."""
    with cloned_database(postgres, template_database) as conninfo:
        fill(conninfo, ORDERS, pending=100, logged=ORDERS)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO queue_history"
                " SELECT (notification_id + %(size)s - 1) / %(size)s * %(size)s AS until_position,"
                "        max(recorded_at), 0, 0, 0, 0, 0, 0, 0, 0"
                "   FROM stored_events GROUP BY 1"
                " HAVING (max(notification_id) + %(size)s - 1) / %(size)s * %(size)s"
                "        <= (SELECT max(notification_id) FROM stored_events)",
                {"size": WINDOW_POSITIONS},
            )
            connection.execute(
                "INSERT INTO parked_orders SELECT order_id, 5, 'x' FROM order_queue LIMIT 3"
            )
            connection.execute("VACUUM (ANALYZE)")
        yield conninfo


@pytest.fixture(scope="module")
def middle(long_log: str) -> tuple[int, Any]:
    """A position in the middle of the log, and its recorded time."""
    with psycopg.connect(long_log) as connection:
        row = connection.execute(
            "SELECT notification_id, recorded_at FROM stored_events"
            " WHERE notification_id >= %s ORDER BY 1 LIMIT 1",
            (ORDERS + 7,),
        ).fetchone()
    assert row is not None
    return row[0], row[1]


def rows_of_log(conninfo: str, mode: PlanMode, name: str, **parameters: object) -> int:
    """The rows of the log that a statement reads."""
    return rows_of("stored_events", conninfo, mode, name, **parameters)


def rows_of(table: str, conninfo: str, mode: PlanMode, name: str, **parameters: object) -> int:
    """The rows of a table that a statement reads."""
    statement = load_sql("pulse.projections", name)
    with connect(conninfo) as connection:
        plan = explain_analyze(connection, mode, statement, parameters)
    assert not [node for node in plan if node.disk]
    return sum(node.rows_read for node in plan if node.relation == table)


@pytest.mark.parametrize("mode", MODES)
def test_a_moment_reads_one_window(long_log: str, middle: tuple[int, Any], mode: PlanMode) -> None:
    read = rows_of_log(
        long_log, mode, "select_position_at", at=middle[1], size=WINDOW_POSITIONS, max_scanned=10**6
    )
    assert 0 < read <= WINDOW_POSITIONS + 3


@pytest.mark.parametrize("mode", MODES)
def test_the_time_of_a_position_reads_one_window(
    long_log: str, middle: tuple[int, Any], mode: PlanMode
) -> None:
    read = rows_of_log(
        long_log, mode, "select_recorded_until", position=middle[0], max_scanned=10**6
    )
    assert 0 < read <= WINDOW_POSITIONS + 3


@pytest.mark.parametrize("mode", MODES)
def test_the_effects_in_a_window_read_its_events_once_and_creations_of_failed_orders(
    long_log: str, mode: PlanMode
) -> None:
    bounds = {"after": 4 * WINDOW_POSITIONS, "until": 5 * WINDOW_POSITIONS}
    read = rows_of_log(long_log, mode, "select_effects", **bounds, **TOPICS)
    failed = WINDOW_POSITIONS // 2 // 50 + 2
    assert WINDOW_POSITIONS * 0.9 < read <= WINDOW_POSITIONS + failed
    read = rows_of_log(long_log, mode, "select_effects_end", **bounds, count=100)
    assert read <= 100


@pytest.mark.parametrize("mode", MODES)
def test_parked_orders_are_read_by_their_streams(long_log: str, mode: PlanMode) -> None:
    read = rows_of_log(long_log, mode, "select_parked_effects", until=2 * ORDERS, **TOPICS)
    assert read <= 3 * 4


@pytest.mark.parametrize("mode", MODES)
def test_the_next_window_is_found_by_an_index(long_log: str, mode: PlanMode) -> None:
    parameters = {"size": WINDOW_POSITIONS, "projection": "order_queue"}
    assert rows_of_log(long_log, mode, "select_history_window", **parameters) <= 1


@pytest.mark.parametrize("mode", MODES)
def test_the_tally_starts_at_the_windows_since_a_moment(
    long_log: str, middle: tuple[int, Any], mode: PlanMode
) -> None:
    read = rows_of("queue_history", long_log, mode, "select_history_start", before=middle[1])
    since = (2 * ORDERS - middle[0]) // WINDOW_POSITIONS + 2
    assert 0 < read <= since


@pytest.mark.parametrize("mode", MODES)
def test_a_step_of_the_tally_reads_only_the_windows_after_its_position(
    long_log: str, middle: tuple[int, Any], mode: PlanMode
) -> None:
    after = (2 * ORDERS // WINDOW_POSITIONS - 3) * WINDOW_POSITIONS
    parameters = {"after": after, "recorded_until": middle[1]}
    assert rows_of("queue_history", long_log, mode, "select_history_minutes", **parameters) == 3
    assert rows_of_log(long_log, mode, "select_history_minutes", **parameters) == 0


@pytest.mark.parametrize("mode", MODES)
def test_the_minutes_of_a_window_read_it_once(
    long_log: str, middle: tuple[int, Any], mode: PlanMode
) -> None:
    bounds = {
        "after": 4 * WINDOW_POSITIONS,
        "until": 5 * WINDOW_POSITIONS,
        "recorded_until": middle[1],
    }
    assert rows_of_log(long_log, mode, "select_minute_ends", **bounds) <= WINDOW_POSITIONS


@pytest.mark.parametrize("mode", MODES)
def test_the_end_of_the_tally_is_one_row(long_log: str, mode: PlanMode) -> None:
    assert rows_of_log(long_log, mode, "select_tally_end") <= 1
