"""A rebuild beside others: it gives way, names who blocks, keeps or names what hangs on tables."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pulse.eventstore import EventMapper
from pulse.postgres import Database, Limits
from pulse.postgres.embedded import EmbeddedServer
from pulse.postgres.migrations import Migrations
from pulse.process.revisions import REVISIONS
from pulse.projections import Projected, Projector, Rebuild
from pulse.projections.rebuild import RebuildBlocked, SwapLimits
from tests.support.events import order_created, orders_created, stored
from tests.support.log import fetch, write
from tests.support.read_model import project, queue
from tests.support.waiting import until

SECRET = uuid4().hex
FEW_TRIES = SwapLimits(attempts=3, pause_seconds=0.05)


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


def rebuild(database: Database, limits: SwapLimits | None = None) -> Rebuild:
    return Rebuild(database, EventMapper(), lambda *_: None, swap_limits=limits)


async def filled(conninfo: str, database: Database) -> None:
    write(conninfo, *stored(orders_created(20)))
    await project(database)


async def test_the_live_projection_goes_on_while_a_reader_keeps_the_tables(
    conninfo: str, database: Database
) -> None:
    await filled(conninfo, database)
    async with await psycopg.AsyncConnection.connect(
        conninfo, application_name="reporting"
    ) as reader:
        await reader.execute("SELECT count(*) FROM order_queue")
        rebuilding = asyncio.ensure_future(rebuild(database).run())
        await until_swap_was_tried(database)
        for number in range(10):
            late = order_created(f"late {number}")
            write(conninfo, *stored([late]))

            async def is_there(order: Any = late) -> bool:
                await Projector(database, EventMapper()).run_once()
                return order.originator_id in await queue(database)

            async with asyncio.timeout(3):
                await until(is_there, "the order is projected")
        assert not rebuilding.done()
        await reader.rollback()
    await rebuilding
    assert len(await queue(database)) == 30


async def until_swap_was_tried(database: Database) -> None:
    async def all_indexes_are_there() -> bool:
        rows = await fetch(
            database, "SELECT count(*) FROM pg_indexes WHERE schemaname = 'pulse_rebuild'"
        )
        return bool(rows[0][0] == 11)

    await until(all_indexes_are_there, "the rebuilt tables are complete")


async def test_it_gives_up_naming_who_keeps_the_tables(conninfo: str, database: Database) -> None:
    await filled(conninfo, database)
    before = await queue(database)
    async with await psycopg.AsyncConnection.connect(
        conninfo, application_name="reporting"
    ) as reader:
        await reader.execute("SELECT count(*) FROM order_slices")
        named = (
            rf"pid {reader.info.backend_pid} \(reporting of role \w+, idle in transaction, "
            r"transaction open since 20\S+Z\) holds order_slices"
        )
        with pytest.raises(RebuildBlocked, match=named):
            await rebuild(database, FEW_TRIES).run()
        assert isinstance(await Projector(database, EventMapper()).run_once(), Projected)
    assert await queue(database) == before


async def test_it_gives_up_naming_who_keeps_the_position(conninfo: str, database: Database) -> None:
    await filled(conninfo, database)
    async with await psycopg.AsyncConnection.connect(conninfo) as holder:
        await holder.execute("SELECT FROM notification_tracking FOR UPDATE")
        named = f"pid {holder.info.backend_pid} .* holds notification_tracking"
        with pytest.raises(RebuildBlocked, match=named):
            await rebuild(database, FEW_TRIES).run()


async def test_it_gives_up_naming_a_prepared_transaction(tmp_path: Path) -> None:
    with EmbeddedServer.acquire(
        tmp_path, options={"max_prepared_transactions": "1", "fsync": "off"}
    ) as server:
        await Migrations(REVISIONS).migrate(server.conninfo, Limits())
        database = Database(server.conninfo, pool_size=2)
        await database.open()
        with psycopg.connect(server.conninfo, autocommit=True) as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM parked_orders")
            other.execute("PREPARE TRANSACTION 'of yesterday'")
            named = "prepared transaction 'of yesterday' .* holds parked_orders"
            with pytest.raises(RebuildBlocked, match=named):
                await rebuild(database, FEW_TRIES).run()
            other.execute("ROLLBACK PREPARED 'of yesterday'")
        await rebuild(database).run()
        await database.close()


KEPT = """
SELECT c.relname, COALESCE(c.relacl, acldefault('r', c.relowner))::text, c.reloptions,
       obj_description(c.oid),
       array(SELECT (a.attname, a.attacl, a.attoptions, a.attstattarget)::text
               FROM pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 ORDER BY a.attnum),
       (SELECT reloptions FROM pg_class t WHERE t.oid = c.reltoastrelid),
       (SELECT indisclustered FROM pg_index i WHERE i.indexrelid = c.oid)
  FROM pg_class c
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'i')
 ORDER BY 1"""


async def test_what_hangs_on_the_tables_is_kept(
    conninfo: str, database: Database, role: str
) -> None:
    await filled(conninfo, database)
    execute(
        conninfo,
        f"GRANT SELECT (order_id, state), UPDATE (state) ON order_queue TO {role}",
        f"GRANT SELECT (order_id) ON order_queue TO {role} WITH GRANT OPTION",
        f"GRANT SELECT, INSERT ON order_slices TO {role} WITH GRANT OPTION",
        "GRANT SELECT ON parked_orders TO PUBLIC",
        f"GRANT SELECT ON order_queue_status TO {role}",
        f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {role}",
        "ALTER VIEW order_queue_status SET (security_barrier = true)",
        "ALTER TABLE order_queue SET (toast.autovacuum_enabled = false, fillfactor = 60)",
        "ALTER TABLE order_queue ALTER instrument SET STATISTICS 500",
        "ALTER TABLE order_queue ALTER instrument SET (n_distinct = 1000)",
        "ALTER TABLE order_queue CLUSTER ON order_queue_created_position_idx",
        "COMMENT ON TABLE order_slices IS 'every slice'",
        "COMMENT ON INDEX order_queue_pkey IS 'by id'",
        "CREATE INDEX mine ON order_slices (quantity)",
        "CREATE VIEW mine_above AS SELECT order_id FROM order_queue_status",
    )
    before = await fetch(database, KEPT)

    await rebuild(database).run()

    assert await fetch(database, KEPT) == before
    execute(conninfo, f"ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM {role}")
    execute(conninfo, f"DROP OWNED BY {role}")


GRANTED_BY_ANOTHER = (
    "GRANT SELECT ON order_queue TO {role} WITH GRANT OPTION; SET ROLE {role};"
    " GRANT SELECT ON order_queue TO PUBLIC; RESET ROLE"
)
MY_TRIGGER = (
    "CREATE TRIGGER mine BEFORE UPDATE ON order_queue FOR EACH ROW"
    " EXECUTE FUNCTION suppress_redundant_updates_trigger()"
)
OBSTACLES: list[tuple[str, str]] = [
    ("CREATE VIEW mine AS SELECT * FROM order_slices", "view mine"),
    ("CREATE MATERIALIZED VIEW mine AS SELECT * FROM order_queue", "materialized view mine"),
    ("CREATE TABLE mine (id uuid REFERENCES order_queue)", "constraint mine_id_fkey on table mine"),
    ("CREATE TABLE mine (was order_queue)", "column was of table mine"),
    ("CREATE TABLE mine () INHERITS (order_queue)", "table mine"),
    (
        "CREATE FUNCTION mine() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM order_queue; END",
        r"function mine\(\)",
    ),
    ("CREATE FUNCTION mine(order_queue) RETURNS int LANGUAGE sql AS 'SELECT 1'", "function mine"),
    (MY_TRIGGER, "trigger mine on table order_queue"),
    ("CREATE RULE mine AS ON DELETE TO order_queue DO INSTEAD NOTHING", "rule mine"),
    ("CREATE POLICY mine ON order_queue USING (true)", "policy mine on table order_queue"),
    ("ALTER TABLE order_queue ENABLE ROW LEVEL SECURITY", "row-level security"),
    ("ALTER TABLE order_queue ADD CONSTRAINT mine UNIQUE (created_position)", "constraint mine"),
    ("ALTER TABLE order_queue ADD note text", "column note"),
    ("ALTER TABLE order_queue REPLICA IDENTITY FULL", "order_queue has a replica identity"),
    ("ALTER TABLE order_queue SET UNLOGGED", "order_queue .* unlogged"),
    ("CREATE STATISTICS mine ON side, state FROM order_queue", "statistics object mine"),
    ("CREATE PUBLICATION mine FOR TABLE order_queue", "publication mine publishes order_queue"),
    ("CREATE PUBLICATION mine FOR ALL TABLES", "publication mine publishes order_slices"),
    ("CREATE PUBLICATION mine FOR TABLES IN SCHEMA public", "publication mine publishes"),
    ("ALTER TABLE parked_orders OWNER TO {role}", "parked_orders is owned by {role}"),
    ("ALTER VIEW order_queue_status OWNER TO {role}", "order_queue_status is owned by {role}"),
    ("CREATE SCHEMA pulse_rebuild AUTHORIZATION {role}", "pulse_rebuild belongs to role {role}"),
    (
        GRANTED_BY_ANOTHER,
        "a grant on order_queue was given by {role}",
    ),
]


@pytest.mark.parametrize(("statement", "named"), OBSTACLES)
@pytest.mark.filterwarnings("ignore")
async def test_what_cannot_be_kept_is_named_before_anything_begins(
    conninfo: str, database: Database, role: str, statement: str, named: str
) -> None:
    await filled(conninfo, database)
    execute(conninfo, statement.format(role=role))
    seen: list[int] = []

    with pytest.raises(RebuildBlocked) as caught:
        await Rebuild(database, EventMapper(), lambda at, _: seen.append(at)).run()

    assert re.search(named.format(role=role), str(caught.value).replace("public.", ""))
    assert not seen
    execute(conninfo, f"DROP OWNED BY {role} CASCADE")


def owned_by(conninfo: str, role: str) -> None:
    """Everything of Pulse's belongs to that role, as where no superuser runs Pulse."""
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'v')"
        ).fetchall()
        for (name,) in rows:
            kind = "VIEW" if name == "order_queue_status" else "TABLE"
            connection.execute(f"ALTER {kind} {name} OWNER TO {role}".encode())
        connection.execute(f"GRANT ALL ON SCHEMA public TO {role}".encode())


@pytest.mark.parametrize(
    ("revoked", "named"),
    [
        ("", "may not create schemas in database"),
        ("REVOKE CREATE ON SCHEMA public FROM {role}", "may not create tables in schema public"),
    ],
)
async def test_a_right_that_is_missing_is_named_before_anything_begins(
    conninfo: str, role: str, revoked: str, named: str
) -> None:
    owned_by(conninfo, role)
    if revoked:
        execute(conninfo, revoked.format(role=role))
    own = Database(make_conninfo(conninfo, user=role, password=SECRET), pool_size=2)
    await own.open()
    try:
        with pytest.raises(RebuildBlocked, match=named):
            await rebuild(own).run()
    finally:
        await own.close()
    execute(conninfo, f"DROP OWNED BY {role} CASCADE")


async def test_a_schema_named_like_the_role_changes_nothing(
    conninfo: str, database: Database, role: str
) -> None:
    await filled(conninfo, database)
    owned_by(conninfo, role)
    execute(
        conninfo,
        f"CREATE SCHEMA {role} AUTHORIZATION {role}",
        f"DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO {role}',"
        " current_database()); END $$",
    )
    before = await queue(database)
    own = Database(make_conninfo(conninfo, user=role, password=SECRET), pool_size=2)
    await own.open()
    try:
        await rebuild(own).run()
    finally:
        await own.close()
    assert await queue(database) == before
    assert await fetch(database, SCHEMAS_OF_THE_QUEUE) == [("public",)]
    execute(conninfo, f"REASSIGN OWNED BY {role} TO CURRENT_USER", f"DROP OWNED BY {role} CASCADE")


SCHEMAS_OF_THE_QUEUE: LiteralString = (
    "SELECT DISTINCT relnamespace::regnamespace::text FROM pg_class"
    " WHERE relname IN ('order_queue', 'order_slices', 'parked_orders', 'order_queue_status')"
)

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
    execute(conninfo, "ALTER TABLE order_queue SET (fillfactor = 60)", SHADOWS)

    assert (await rebuild(database).run()).parked_orders == 1
