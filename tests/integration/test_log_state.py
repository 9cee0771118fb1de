"""The state of the log: its end, its sequence, and databases that cannot hold one log."""

from collections.abc import AsyncIterator
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pulse.eventstore import LogState, read_log_faults, read_log_state
from pulse.postgres import Database, load_sql
from pulse.projections.overview import read_lag
from tests.support.events import order_created, orders_created, stored
from tests.support.log import fetch, running_store, write
from tests.support.plans import PlanMode, explain_analyze
from tests.support.read_model import project, queue


@pytest.fixture
async def database(conninfo: str) -> AsyncIterator[Database]:
    """A pool of the superuser, since the tests change the log's table and sequence."""
    database = Database(conninfo, pool_size=5)
    await database.open()
    yield database
    await database.close()


SEQUENCE = "public.stored_events_notification_id_seq"
FAR = 10**9


def write_at(conninfo: str, position: int) -> None:
    """An order's creation under an id that the sequence has not issued."""
    event = stored([order_created()])[0]
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            "INSERT INTO stored_events"
            " (originator_id, originator_version, topic, state, notification_id)"
            " VALUES (%s, %s, %s, %s, %s)",
            (event.originator_id, 1, event.topic, event.state, position),
        )


async def test_the_state_of_a_log_is_its_end_and_what_its_sequence_has_issued(
    database: Database,
) -> None:
    assert await database.read(read_log_state) == LogState(SEQUENCE, 0, 0, None, next_taken=False)
    write(database.conninfo, *stored(orders_created(3)))
    assert await database.read(read_log_state) == LogState(SEQUENCE, 3, 3, None, next_taken=False)


async def test_ids_beyond_the_sequence_and_a_used_next_id_are_found(
    database: Database,
) -> None:
    write(database.conninfo, *stored(orders_created(3)))
    write_at(database.conninfo, FAR)
    state = await database.read(read_log_state)
    assert state == LogState(SEQUENCE, FAR, 3, FAR, next_taken=False)
    write_at(database.conninfo, 4)
    state = await database.read(read_log_state)
    assert state == LogState(SEQUENCE, FAR, 3, 4, next_taken=True)


async def test_a_row_far_ahead_of_the_sequence_delays_no_order(
    database: Database,
) -> None:
    write(database.conninfo, *stored(orders_created(3)))
    write_at(database.conninfo, FAR)
    assert (await project(database))[-1].position == 3
    async with running_store(database) as store:
        created = order_created()
        assert await store.append(created) == 4
    assert (await project(database))[-1].position == 4
    assert created.originator_id in await queue(database)


async def test_a_row_far_ahead_of_the_sequence_is_not_waited_for(database: Database) -> None:
    write(database.conninfo, *stored(orders_created(1)))
    await project(database)
    write_at(database.conninfo, FAR)
    assert (await database.read(read_lag)).behind_seconds == 0
    write(database.conninfo, *stored(orders_created(1)))
    assert (await database.read(read_lag)).behind_seconds > 0


async def test_a_row_far_ahead_of_a_sequence_never_used_is_not_read_either(
    database: Database,
) -> None:
    write_at(database.conninfo, FAR)
    assert await project(database) == []


async def test_a_role_that_may_not_ask_the_sequence_learns_the_end_and_projects(
    database: Database,
) -> None:
    write(database.conninfo, *stored(orders_created(2)))
    role = f"pulse_{uuid4().hex[:12]}"
    async with await database.connect("test") as admin:
        await admin.execute(f"CREATE ROLE {role} LOGIN".encode())
        tables = "stored_events, notification_tracking, order_queue, parked_orders"
        await admin.execute(
            f"GRANT ALL ON {tables}, pending_orders, scheduled_slices TO {role}".encode()
        )
        await admin.execute(f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {role}".encode())
        limited = Database(make_conninfo(database.conninfo, user=role), pool_size=1)
        await limited.open()
        state = await limited.read(read_log_state)
        assert state == LogState(SEQUENCE, 2, None, None, next_taken=False)
        assert (await project(limited))[-1].position == 2
        await admin.execute(f"GRANT USAGE ON SEQUENCE {SEQUENCE} TO {role}".encode())
        assert (await limited.read(read_log_state)).last_issued == 2
        assert await limited.read(read_log_faults) == []
        await limited.close()
        await admin.execute(f"DROP OWNED BY {role}".encode())
        await admin.execute(f"DROP ROLE {role}".encode())


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
def test_the_state_is_read_from_indexes(conninfo: str, mode: PlanMode) -> None:
    write(conninfo, *stored(orders_created(50)))
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            "INSERT INTO stored_events SELECT gen_random_uuid(), 1, 'a:B', '{}'"
            " FROM generate_series(1, 5000)"
        )
        connection.execute("ANALYZE stored_events")
        statement = load_sql("pulse.eventstore", "select_log_state")
        nodes = explain_analyze(connection, mode, statement, {})
    of_the_log = [node for node in nodes if node.relation == "stored_events"]
    assert of_the_log
    assert {node.index for node in of_the_log} == {"stored_events_notification_id_idx"}
    assert all(node.rows <= 1 for node in of_the_log)


async def test_a_migrated_log_has_no_fault(database: Database) -> None:
    assert await database.read(read_log_faults) == []


COLUMNS = (
    "originator_id uuid, originator_version bigint, topic text, state bytea,"
    " notification_id bigint, recorded_at timestamptz"
)


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (
            "ALTER TABLE stored_events RENAME TO one; CREATE VIEW stored_events AS TABLE one",
            "is a view",
        ),
        (
            (
                "ALTER TABLE stored_events RENAME TO one;"
                f"CREATE TABLE stored_events ({COLUMNS}) PARTITION BY HASH (originator_id)"
            ),
            "is a partitioned table",
        ),
        (
            (
                "CREATE FOREIGN DATA WRAPPER elsewhere; CREATE SERVER other"
                " FOREIGN DATA WRAPPER elsewhere; ALTER TABLE stored_events RENAME TO one;"
                f"CREATE FOREIGN TABLE stored_events ({COLUMNS}) SERVER other"
            ),
            "is a foreign table",
        ),
        ("CREATE TABLE more () INHERITS (stored_events)", "child tables"),
        ("ALTER TABLE stored_events SET UNLOGGED", "not a logged table"),
        (
            (
                "CREATE TABLE elsewhere (LIKE stored_events); CREATE RULE divert AS ON INSERT"
                " TO stored_events DO INSTEAD INSERT INTO elsewhere VALUES (NEW.*)"
            ),
            "changes inserts into stored_events: divert",
        ),
        (
            (
                "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RETURN NULL; END $$;"
                "CREATE TRIGGER divert BEFORE INSERT ON stored_events"
                " FOR EACH ROW EXECUTE FUNCTION f()"
            ),
            "changes inserts into stored_events: divert",
        ),
        (
            (
                "SET allow_system_table_mods = on;"
                "CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass);"
                "INSERT INTO pg_catalog.pg_dist_partition VALUES ('stored_events')"
            ),
            "Citus manages stored_events",
        ),
        (
            (
                "CREATE SEQUENCE other;"
                "ALTER TABLE stored_events ALTER notification_id SET DEFAULT nextval('other')"
            ),
            "a sequence that the column owns",
        ),
        (
            "ALTER TABLE stored_events ALTER notification_id SET DEFAULT 7",
            "a sequence that the column owns",
        ),
        (f"ALTER SEQUENCE {SEQUENCE} OWNED BY NONE", "a sequence that the column owns"),
        (f"ALTER SEQUENCE {SEQUENCE} CACHE 20", "out of commit order"),
        (f"ALTER SEQUENCE {SEQUENCE} INCREMENT -1", "out of commit order"),
        (f"ALTER SEQUENCE {SEQUENCE} CYCLE", "out of commit order"),
        (f"ALTER SEQUENCE {SEQUENCE} SET UNLOGGED", "out of commit order"),
    ],
)
async def test_a_log_that_is_not_on_one_server_is_named(
    database: Database, statements: str, words: str
) -> None:
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute(statements.encode())
    faults = await database.read(read_log_faults)
    assert any(words in fault for fault in faults), faults


async def test_an_identity_column_is_accepted(database: Database) -> None:
    await fetch(database, f"DROP SEQUENCE {SEQUENCE} CASCADE")
    await fetch(
        database,
        "ALTER TABLE stored_events ALTER notification_id ADD GENERATED BY DEFAULT AS IDENTITY",
    )
    assert await database.read(read_log_faults) == []
