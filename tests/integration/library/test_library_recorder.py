"""What the recorder promises beyond the library's cases: errors in its words, bounds, an end."""

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest
from eventsourcing.persistence import (
    DataError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    StoredEvent,
    Tracking,
)

from pulse.eventstore import AppendLimits, AppendOutcomeUnknown, AppendRefused, Factory
from pulse.eventstore.append_statements import LOG_LOCK
from tests.integration.library.conftest import MakeFactory
from tests.integration.library.stock import terminate, until
from tests.support.events import foreign_event, foreign_events


class Hasty(Factory):
    append_limits = AppendLimits(answer_seconds=0.3, queue_events=100)


@pytest.fixture
def new_threads() -> Callable[[], set[threading.Thread]]:
    """Those that have begun since and still run; an earlier test's may yet be collected."""
    before = set(threading.enumerate())
    return lambda: set(threading.enumerate()) - before


def connections(connection: psycopg.Connection) -> int:
    row = connection.execute(
        """SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name LIKE 'pulse:%'"""
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_table_that_is_not_there_is_a_programming_error(make_factory: MakeFactory) -> None:
    recorder = make_factory("absent", CREATE_TABLE="no").application_recorder()
    with pytest.raises(ProgrammingError, match="absent_events"):
        recorder.insert_events([foreign_event()])
    with pytest.raises(ProgrammingError, match="absent_events"):
        recorder.select_events(uuid4())
    with pytest.raises(ProgrammingError, match="absent_events"):
        recorder.max_notification_id()
    with recorder.subscribe() as subscription, pytest.raises(ProgrammingError, match="absent"):
        next(subscription)


def test_a_taken_version_is_an_integrity_error_and_touches_nobody_elses_append(
    make_factory: MakeFactory,
) -> None:
    recorder = make_factory().application_recorder()
    taken = foreign_event()
    recorder.insert_events([taken])
    again = [foreign_event(taken.originator_id) for _ in range(20)]
    with ThreadPoolExecutor(20) as threads:
        losing = [threads.submit(recorder.insert_events, [event]) for event in again]
        winning = [threads.submit(recorder.insert_events, [event]) for event in foreign_events(20)]
    assert [type(future.exception()) for future in losing] == [IntegrityError] * 20
    ids = [future.result() for future in winning]
    assert len({tuple(found or ()) for found in ids}) == 20


def test_ids_come_back_in_the_order_of_the_events(make_factory: MakeFactory) -> None:
    recorder = make_factory().application_recorder()
    events = foreign_events(300)
    ids = recorder.insert_events(events)
    assert ids == sorted(ids or ())
    read = recorder.select_notifications(start=None, limit=300)
    assert [event.originator_id for event in read] == [event.originator_id for event in events]
    assert [event.id for event in read] == ids


def test_ids_that_come_with_a_position_are_in_the_order_of_the_events_too(
    make_factory: MakeFactory,
) -> None:
    recorder = make_factory().process_recorder()
    events = foreign_events(50)
    ids = recorder.insert_events(events, tracking=Tracking("upstream", 1))
    assert ids == sorted(ids or ())
    read = recorder.select_notifications(start=None, limit=50)
    assert [event.originator_id for event in read] == [event.originator_id for event in events]


def test_ids_as_strings_are_uuids_all_the_same(make_factory: MakeFactory) -> None:
    recorder = make_factory().application_recorder()
    stream = uuid4()
    recorder.insert_events([StoredEvent(str(stream), 1, "topic", b"{}")])
    assert recorder.select_events(str(stream)) == [StoredEvent(stream, 1, "topic", b"{}")]
    with pytest.raises(DataError, match="'order-1'"):
        recorder.insert_events([StoredEvent("order-1", 1, "topic", b"{}")])
    with pytest.raises(DataError, match="'order-1'"):
        recorder.select_events("order-1")


def test_data_that_postgres_refuses_is_a_data_error(make_factory: MakeFactory) -> None:
    recorder = make_factory().application_recorder()
    with pytest.raises(DataError):
        recorder.insert_events([StoredEvent(uuid4(), 1, "nul\0", b"{}")])
    assert recorder.insert_events([foreign_event()])


def test_an_append_without_an_answer_in_time_is_an_operational_error_that_says_what_is_known(
    make_factory: MakeFactory, connection: psycopg.Connection
) -> None:
    recorder = make_factory(kind=Hasty).application_recorder()
    event = foreign_event()
    connection.execute("SELECT pg_advisory_lock(%s)", (LOG_LOCK,))
    with pytest.raises(OperationalError) as caught:
        recorder.insert_events([event])
    connection.execute("SELECT pg_advisory_unlock(%s)", (LOG_LOCK,))
    assert isinstance(caught.value.__cause__, AppendOutcomeUnknown)
    until(lambda: recorder.select_events(event.originator_id), "it stands after all")


def test_more_events_than_may_wait_are_refused_with_nothing_written(
    make_factory: MakeFactory,
) -> None:
    recorder = make_factory(kind=Hasty).application_recorder()
    with pytest.raises(OperationalError) as caught:
        recorder.insert_events(foreign_events(101))
    assert isinstance(caught.value.__cause__, AppendRefused)
    assert recorder.max_notification_id() is None


def test_connections_that_die_are_replaced(
    make_factory: MakeFactory, connection: psycopg.Connection
) -> None:
    factory = make_factory()
    recorder, tracking = factory.application_recorder(), factory.tracking_recorder()
    recorder.insert_events([foreign_event()])
    tracking.max_tracking_id("x")
    for role in ("appender", "pool", "views"):
        assert terminate(connection, role)
    assert recorder.max_notification_id() == 1
    assert recorder.insert_events([foreign_event()]) == [2]
    assert tracking.max_tracking_id("x") is None


def test_closing_ends_threads_and_connections_and_refuses_what_comes_later(
    make_factory: MakeFactory,
    connection: psycopg.Connection,
    new_threads: Callable[[], set[threading.Thread]],
) -> None:
    factory = make_factory()
    recorder, tracking = factory.application_recorder(), factory.tracking_recorder()
    recorder.insert_events([foreign_event()])
    tracking.max_tracking_id("x")
    assert new_threads()
    factory.close()
    factory.close()
    assert new_threads() == set()
    until(lambda: connections(connection) == 0, "every connection is closed")
    with pytest.raises(OperationalError, match="closed"):
        recorder.insert_events([foreign_event()])
    with pytest.raises(OperationalError, match="closed"):
        recorder.max_notification_id()
    with pytest.raises(OperationalError, match="closed"):
        tracking.max_tracking_id("x")
    with pytest.raises(OperationalError, match="closed"):
        factory.application_recorder()


def test_what_waits_to_be_appended_is_written_before_closing(
    make_factory: MakeFactory, connection: psycopg.Connection
) -> None:
    factory = make_factory()
    recorder = factory.application_recorder()
    connection.execute("SELECT pg_advisory_lock(%s)", (LOG_LOCK,))
    with ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(recorder.insert_events, [foreign_event()])
        until(lambda: recorder._writer.appender._queued_events, "the append waits")
        closing = threads.submit(factory.close)
        until(lambda: recorder._writer.appender._closing, "it drains")
        connection.execute("SELECT pg_advisory_unlock(%s)", (LOG_LOCK,))
        assert waiting.result() == [1]
        closing.result()


def test_a_factory_that_nobody_has_any_more_ends_by_itself(
    conninfo: str, new_threads: Callable[[], set[threading.Thread]]
) -> None:
    env = {"PULSE_DATABASE_URL": conninfo}
    recorder = Factory(env).application_recorder()
    view = Factory(env).tracking_recorder()
    gc.collect()
    assert recorder.insert_events([foreign_event()]) == [1]
    assert view.max_tracking_id("x") is None
    gone = weakref.ref(recorder), weakref.ref(view)
    del recorder, view
    gc.collect()
    assert [reference() for reference in gone] == [None, None]
    until(lambda: not new_threads(), "the threads have ended")


def test_a_process_that_forgets_to_close_ends_all_the_same(conninfo: str) -> None:
    code = (
        "import sys; from pulse.eventstore import Factory; "
        "from eventsourcing.persistence import StoredEvent; from uuid import uuid4; "
        "factory = Factory({'PULSE_DATABASE_URL': sys.argv[1]}); "
        "print(factory.application_recorder().insert_events([StoredEvent(uuid4(), 1, 't', b'')]))"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, conninfo],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[1]\n", "")


def test_plain_pulse_does_not_pay_for_the_librarys_applications() -> None:
    code = (
        "import sys, logging; import pulse.eventstore; "
        "print([name for name in ('application', 'postgres', 'projection', 'system') "
        "if f'eventsourcing.{name}' in sys.modules], "
        "logging.getLogger('psycopg').level < logging.ERROR)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert ended.stdout == "[] True\n"
