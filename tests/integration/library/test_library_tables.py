"""Where the tables are, what they are called, and that those the factory makes are Pulse's."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from eventsourcing.persistence import InfrastructureFactoryError, ProgrammingError, Tracking
from eventsourcing.utils import Environment
from psycopg import sql

from pulse.eventstore import Factory
from pulse.eventstore.append_statements import LOG_LOCK, PULSE_LOG, lock_of, naming
from pulse.eventstore.library.environment import conninfo_of
from pulse.postgres import load_sql
from tests.integration.library.conftest import MakeFactory
from tests.integration.library.stock import postgres_variables
from tests.support.events import foreign_event

_LAYOUT = """
SELECT 'column', attname::text, format_type(atttypid, atttypmod) || attnotnull,
       pg_get_expr(adbin, adrelid)
  FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
 WHERE attrelid = %(table)s::regclass AND attnum > 0
UNION ALL
SELECT 'index', pg_get_indexdef(indexrelid), null, null
  FROM pg_index WHERE indrelid = %(table)s::regclass
UNION ALL
SELECT 'trigger', pg_get_triggerdef(oid), null, null
  FROM pg_trigger WHERE tgrelid = %(table)s::regclass AND NOT tgisinternal
UNION ALL
SELECT 'options', reloptions::text, null, null FROM pg_class WHERE oid = %(table)s::regclass
 ORDER BY 1, 2
"""


def layout(connection: psycopg.Connection, table: str, prefix: str) -> list[tuple[Any, ...]]:
    """Everything about a table, with names that begin with that prefix made comparable."""
    rows = connection.execute(_LAYOUT, {"table": table}).fetchall()
    return [
        tuple(part.replace(prefix, "*") if isinstance(part, str) else part for part in row)
        for row in rows
    ]


def test_a_log_that_the_factory_makes_has_the_layout_of_the_one_pulse_migrated(
    make_factory: MakeFactory, connection: psycopg.Connection
) -> None:
    make_factory("orders").application_recorder()
    made = layout(connection, "orders_events", "orders_events")
    assert made == layout(connection, "stored_events", "stored_events")
    assert len(made) == 10
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="orders_events"):
        connection.execute("DELETE FROM orders_events")


def test_a_tracking_table_that_the_factory_makes_is_the_one_pulse_migrated(
    make_factory: MakeFactory, connection: psycopg.Connection
) -> None:
    make_factory("orders").tracking_recorder()
    made = layout(connection, "orders_tracking", "orders_tracking")
    assert made == layout(connection, "notification_tracking", "notification_tracking")


def test_what_exists_is_left_as_it_is_and_needs_no_right_to_create(
    make_factory: MakeFactory, conninfo: str, connection: psycopg.Connection
) -> None:
    connection.execute("CREATE ROLE appending LOGIN")
    try:
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        connection.execute("GRANT SELECT, INSERT ON stored_events TO appending")
        connection.execute("GRANT USAGE ON SEQUENCE stored_events_notification_id_seq TO appending")
        as_appending = psycopg.conninfo.make_conninfo(conninfo, user="appending")
        factory = make_factory(PULSE_DATABASE_URL=as_appending)
        assert factory.application_recorder().insert_events([foreign_event()]) == [1]
        with pytest.raises(ProgrammingError, match="permission denied"):
            make_factory("orders", PULSE_DATABASE_URL=as_appending).application_recorder()
        factory.close()
    finally:
        connection.execute("DROP OWNED BY appending")
        connection.execute("DROP ROLE appending")


def test_two_that_make_the_same_table_at_once_do_not_disturb_each_other(
    make_factory: MakeFactory,
) -> None:
    factories = [make_factory("orders") for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        recorders = list(threads.map(lambda factory: factory.process_recorder(), factories))
    for number, recorder in enumerate(recorders, start=1):
        assert recorder.insert_events([foreign_event()], tracking=Tracking("up", number))


def test_tables_can_lie_in_another_schema(
    make_factory: MakeFactory, connection: psycopg.Connection
) -> None:
    connection.execute("CREATE SCHEMA trading")
    factory = make_factory("Search-Orders", POSTGRES_SCHEMA="trading")
    recorder, tracking = factory.process_recorder(), factory.tracking_recorder()
    event = foreign_event()
    assert recorder.insert_events([event], tracking=Tracking("up", 1)) == [1]
    assert recorder.select_events(event.originator_id) == [event]
    assert tracking.max_tracking_id("up") == 1
    row = connection.execute('SELECT count(*) FROM trading."search-orders_events"').fetchone()
    assert row == (1,)


@pytest.mark.parametrize("name", ["x; DROP TABLE stored_events", 'a"b', "a'b", "a%sb", "a{}b"])
def test_names_that_could_be_more_than_names_are_refused(
    make_factory: MakeFactory, name: str
) -> None:
    with pytest.raises(ProgrammingError, match="Identifier"):
        make_factory(name).application_recorder()


@pytest.mark.parametrize("length", [40, 64])
def test_names_that_postgres_would_cut_off_are_refused(
    make_factory: MakeFactory, length: int
) -> None:
    with pytest.raises(ProgrammingError, match="Identifier too long"):
        make_factory("n" * length).application_recorder()


def test_each_table_has_a_lock_of_its_own_and_pulses_log_the_one_it_always_had(
    make_factory: MakeFactory, connection: psycopg.Connection
) -> None:
    recorder = make_factory("orders").application_recorder()
    connection.execute("SELECT pg_advisory_lock(%s)", (LOG_LOCK,))
    assert recorder.insert_events([foreign_event()]) == [1]
    assert lock_of("stored_events") == LOG_LOCK
    assert lock_of("orders_events") == recorder.table.append_statements.lock != LOG_LOCK
    assert 0 < lock_of("orders_events") < 2**63


def test_the_database_may_be_named_as_the_library_names_it(conninfo: str) -> None:
    factory = Factory(Environment("stored", postgres_variables(conninfo)))
    assert factory.application_recorder().insert_events([foreign_event()]) == [1]
    factory.close()


def test_pulses_variable_goes_first_and_the_applications_own_before_the_common_one() -> None:
    library = {"POSTGRES_DBNAME": "a", "POSTGRES_HOST": "h", "POSTGRES_PASSWORD": ""}
    url = {"PULSE_DATABASE_URL": "postgresql://h/b"}
    own = {"ORDERS_PULSE_DATABASE_URL": "postgresql://h/c"}
    assert conninfo_of(Environment("orders", library)) == "dbname=a host=h"
    assert conninfo_of(Environment("orders", library | url)) == "postgresql://h/b"
    assert conninfo_of(Environment("orders", library | url | own)) == "postgresql://h/c"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"PULSE_DATABASE_URL": ""}, "PULSE_DATABASE_URL"),
        ({"PULSE_DATABASE_URL": "dbname='x"}, "PULSE_DATABASE_URL"),
        ({"POSTGRES_POOL_SIZE": "1"}, "POSTGRES_POOL_SIZE"),
        ({"ORIGINATOR_ID_TYPE": "text"}, "ORIGINATOR_ID_TYPE"),
        ({"SINGLE_ROW_TRACKING": "no"}, "SINGLE_ROW_TRACKING"),
        ({"POSTGRES_ENABLE_DB_FUNCTIONS": "yes"}, "POSTGRES_ENABLE_DB_FUNCTIONS"),
        (
            {
                "PULSE_DATABASE_URL": "",
                "POSTGRES_DBNAME": "x",
                "POSTGRES_GET_PASSWORD_TOPIC": "a:b",
            },
            "POSTGRES_GET_PASSWORD_TOPIC",
        ),
    ],
)
def test_an_environment_that_will_not_do_is_refused_by_name(
    make_factory: MakeFactory, changes: dict[str, str], named: str
) -> None:
    with pytest.raises(OSError, match=named):
        make_factory(**changes)


def test_a_recorder_class_of_another_kind_is_refused(make_factory: MakeFactory) -> None:
    factory = make_factory(APPLICATION_RECORDER_TOPIC="eventsourcing.popo:POPOApplicationRecorder")
    with pytest.raises(InfrastructureFactoryError, match="POPOApplicationRecorder"):
        factory.application_recorder()


def test_the_statements_of_pulses_own_appender_are_the_files_word_for_word() -> None:
    assert PULSE_LOG.append == load_sql("pulse.eventstore", "append_events")
    renamed = naming(PULSE_LOG.append, {"stored_events": sql.Identifier("x")})
    assert renamed == PULSE_LOG.append.replace("stored_events", '"x"')
