"""Concurrent rebuilds: locks, blocking sessions, and objects that depend on the tables."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent
from psycopg.conninfo import make_conninfo

from pulse.domain import Event, SlicesScheduled
from pulse.eventstore import EventMapper, RecordedEvent
from pulse.postgres import Database, PostgresLimits
from pulse.projections.projector import Projected, Projector
from pulse.projections.rebuild import Rebuild, RebuildBlocked, RebuildRunning, Rebuilt
from tests.support.database import as_runtime
from tests.support.events import order_created, orders_created, slices_scheduled, stored
from tests.support.log import fetch, fetch_as_superuser, write
from tests.support.read_model import project, queue
from tests.support.waiting import until

SECRET = uuid4().hex


@pytest.fixture
def role(postgres: str) -> Iterator[str]:
    """Another role, which may log in."""
    name = f"other_{uuid4().hex[:8]}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'".encode())
        yield name
        connection.execute(f"DROP ROLE {name}".encode())


def execute(conninfo: str, *statements: str) -> None:
    with psycopg.connect(conninfo) as connection:
        for statement in statements:
            connection.execute(statement.encode())


async def rebuild(database: Database, window_events: int = 5_000) -> Rebuilt:
    return await Rebuild(
        database, EventMapper(), lambda *_: None, window_events=window_events
    ).run()


async def filled(conninfo: str, database: Database) -> None:
    write(conninfo, *stored(orders_created(20)))
    await project(database)


def altered(conninfo: str) -> None:
    execute(conninfo, "UPDATE order_queue SET total_quantity = 7")


async def test_a_reader_with_an_open_transaction_does_not_block_a_rebuild(
    conninfo: str, database: Database
) -> None:
    await filled(conninfo, database)
    right = await queue(database)
    altered(conninfo)
    async with await psycopg.AsyncConnection.connect(conninfo) as reader:
        await reader.execute("SELECT count(*) FROM order_queue_status, order_slices")
        assert (await rebuild(database)).replaced == 20
    assert await queue(database) == right


async def test_the_live_projection_continues_between_two_windows_of_a_rebuild(
    conninfo: str, database: Database
) -> None:
    await filled(conninfo, database)
    altered(conninfo)
    rebuilding = asyncio.ensure_future(rebuild(database, window_events=1))
    projector, projected = Projector(database, EventMapper()), 0
    while not rebuilding.done():
        write(conninfo, *stored([order_created()]))
        result = await projector.run_once()
        projected += result.events if isinstance(result, Projected) else 0
        await asyncio.sleep(0.005)
    assert (await rebuilding).replaced == 20
    assert projected > 0
    await project(database)
    assert (await rebuild(database)).replaced == 0


class Slow(EventMapper):
    """Takes half a second for each SlicesScheduled, as on a machine without free CPU time."""

    def event_of(self, record: RecordedEvent | StoredEvent) -> Event:
        event = super().event_of(record)
        if isinstance(event, SlicesScheduled):
            time.sleep(0.5)
        return event


async def test_a_rebuild_may_compute_for_longer_than_another_transaction_may_be_idle(
    conninfo: str,
) -> None:
    limits = PostgresLimits(idle_in_transaction_seconds=0.1)
    database = Database(as_runtime(conninfo), pool_size=2, limits=limits)
    await database.open()
    created = order_created()
    write(conninfo, *stored([created]))
    await project(database)
    outcomes = [stored([slices_scheduled(created)])]

    def split_meanwhile(*_: int) -> None:
        """Append after the window is read and before the position is locked."""
        if outcomes:
            write(conninfo, *outcomes.pop())
            execute(conninfo, "UPDATE notification_tracking SET notification_id = 2")

    rebuilt = await Rebuild(database, Slow(), split_meanwhile).run()
    assert (rebuilt.events, rebuilt.replaced) == (2, 1)
    assert [len(row["slices"]) for row in (await queue(database)).values()] == [5]
    await database.close()


@pytest.mark.parametrize("table", ["order_queue", "notification_tracking"])
async def test_a_blocked_rebuild_raises_with_the_sessions_that_lock_the_tables(
    conninfo: str, table: str
) -> None:
    database = Database(as_runtime(conninfo), pool_size=2, limits=PostgresLimits(lock_seconds=0.2))
    await database.open()
    await filled(conninfo, database)
    altered(conninfo)
    async with await psycopg.AsyncConnection.connect(
        as_runtime(conninfo), application_name="reporting"
    ) as holder:
        await holder.execute(f"SELECT FROM {table} FOR UPDATE".encode())
        named = (
            rf"pid {holder.info.backend_pid} \(reporting of role \w+, idle.* holds locks on {table}"
        )
        with pytest.raises(RebuildBlocked, match=named):
            await rebuild(database)

    async def is_rebuilt() -> bool:  # once the server has seen the first one's connection end
        with contextlib.suppress(RebuildRunning):
            return (await rebuild(database)).replaced == 20
        return False

    await until(is_rebuilt, "the rebuild runs")
    await database.close()


async def test_objects_that_depend_on_the_tables_are_kept(
    conninfo: str, database: Database, role: str
) -> None:
    await filled(conninfo, database)
    right = await queue(database)
    execute(
        conninfo,
        "CREATE VIEW mine AS SELECT * FROM order_slices",
        "CREATE TABLE audit_note (order_id uuid, note text)",
        "CREATE TRIGGER mine BEFORE UPDATE ON order_queue FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE INDEX mine_too ON scheduled_slices (quantity)",
        "CREATE PUBLICATION mine FOR TABLE order_queue",
        f"GRANT SELECT (order_id) ON order_queue TO {role} WITH GRANT OPTION",
    )
    altered(conninfo)

    await rebuild(database)

    assert await queue(database) == right
    rows = await fetch_as_superuser(
        database,
        "SELECT (SELECT count(*) FROM mine), (SELECT count(*) FROM pg_publication_tables),"
        " (SELECT count(*) FROM pg_trigger WHERE tgname = 'mine')",
    )
    assert rows[0][1:] == (1, 1)
    execute(conninfo, f"DROP OWNED BY {role} CASCADE")


async def test_a_column_of_newer_code_is_named_before_anything_is_changed(
    conninfo: str, database: Database
) -> None:
    await filled(conninfo, database)
    altered(conninfo)
    before = await queue(database)
    execute(conninfo, "ALTER TABLE order_queue ADD note text DEFAULT 'kept'")
    with pytest.raises(RebuildBlocked, match=r"order_queue\.note"):
        await rebuild(database)
    assert await queue(database) == before


async def test_a_row_that_the_tables_refuse_is_named_and_every_order_stays(
    conninfo: str, database: Database
) -> None:
    await filled(conninfo, database)
    altered(conninfo)
    before = await queue(database)
    execute(
        conninfo,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'sevens only'; END $$",
        "CREATE TRIGGER refuse BEFORE INSERT ON order_queue FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    with pytest.raises(RebuildBlocked, match="sevens only"):
        await rebuild(database)
    assert await queue(database) == before


async def test_slices_and_orders_that_no_event_made_are_deleted(
    conninfo: str, database: Database
) -> None:
    await filled(conninfo, database)
    right = await queue(database)
    execute(
        conninfo,
        "INSERT INTO scheduled_slices VALUES (1000, now(), 1, 1), (-7, now(), 1, 1)",
        "INSERT INTO parked_orders VALUES (gen_random_uuid(), 7, 'no event')",
        *(
            "INSERT INTO order_queue (order_id, order_unique_key, scope, placed_by, instrument,"
            " side, total_quantity, num_splits, duration_minutes, randomize, splitter_version,"
            " state, version, position, created_position, created_at, updated_at) VALUES"
            f" (gen_random_uuid(), 'x', 'x', 'x', 'x', 'BUY', 1, 2, 1, true, 1, 'PENDING', 1, 1,"
            f" {position}, now(), now())"
            for position in (-5, 1_000_000)
        ),
    )
    await rebuild(database)
    assert await queue(database) == right
    assert await fetch(database, "SELECT count(*) FROM scheduled_slices") == [(0,)]
    assert await fetch(database, "SELECT count(*) FROM parked_orders") == [(0,)]


async def test_two_orders_with_swapped_rows_are_repaired(conninfo: str, database: Database) -> None:
    await filled(conninfo, database)
    right = await queue(database)
    execute(
        conninfo,
        "UPDATE order_queue SET created_position = -20 WHERE created_position = 20",
        "UPDATE order_queue SET created_position = 20 WHERE created_position = 1",
        "UPDATE order_queue SET created_position = 1 WHERE created_position = -20",
    )
    await rebuild(database, window_events=4)
    assert await queue(database) == right


async def test_a_role_without_rights_to_create_anything_can_rebuild(
    conninfo: str, database: Database, role: str
) -> None:
    await filled(conninfo, database)
    right = await queue(database)
    altered(conninfo)
    execute(
        conninfo,
        f"CREATE SCHEMA {role} AUTHORIZATION {role}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}",
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {role}",
    )
    own = Database(make_conninfo(conninfo, user=role, password=SECRET), pool_size=2)
    await own.open()
    try:
        await rebuild(own)
    finally:
        await own.close()
    assert await queue(database) == right
    execute(conninfo, f"DROP OWNED BY {role} CASCADE")


SHADOWS = """
CREATE TABLE caught (what text);
GRANT INSERT ON caught TO PUBLIC;
CREATE FUNCTION catch(what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('application_name') LIKE 'pulse:rebuild@%' THEN
        RAISE EXCEPTION 'a function of another role was called: %', what;
    END IF;
END $$;
CREATE FUNCTION format(text, name) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN PERFORM catch('format'); RETURN pg_catalog.format($1, $2); END $$;
CREATE FUNCTION format(text, text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN PERFORM catch('format'); RETURN pg_catalog.format($1, VARIADIC ARRAY[$2]); END $$;
CREATE FUNCTION format(text, text, name) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN PERFORM catch('format'); RETURN pg_catalog.format($1, VARIADIC ARRAY[$2, $3]); END $$;
CREATE FUNCTION replace(text, text, unknown_text varchar) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN PERFORM catch('replace'); RETURN pg_catalog.replace($1, $2, $3); END $$;
CREATE FUNCTION unnest(uuid[]) RETURNS SETOF uuid LANGUAGE plpgsql AS
    $$ BEGIN PERFORM catch('unnest'); RETURN QUERY SELECT pg_catalog.unnest($1); END $$;
CREATE FUNCTION unnest(text[]) RETURNS SETOF text LANGUAGE plpgsql AS
    $$ BEGIN PERFORM catch('unnest'); RETURN QUERY SELECT pg_catalog.unnest($1); END $$;
CREATE FUNCTION array_to_string(text[], text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN PERFORM catch('array_to_string'); RETURN ''; END $$;
CREATE FUNCTION same(oid, regnamespace) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN PERFORM catch('='); RETURN $1 = $2::oid; END $$;
CREATE OPERATOR = (LEFTARG = oid, RIGHTARG = regnamespace, FUNCTION = same);
CREATE FUNCTION same(oid, regclass) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN PERFORM catch('='); RETURN $1 = $2::oid; END $$;
CREATE OPERATOR = (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = same);
"""


async def test_no_function_or_operator_of_another_role_is_called(
    conninfo: str, database: Database
) -> None:
    write(conninfo, *stored(orders_created(20)))
    poisoned = order_created("poisoned", num_splits=2**31)
    write(conninfo, *stored([poisoned]))
    await project(database)
    altered(conninfo)
    execute(conninfo, SHADOWS)

    rebuilt = await rebuild(database)

    assert (rebuilt.parked_orders, rebuilt.replaced) == (1, 20)
