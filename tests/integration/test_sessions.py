"""Every session has Pulse's settings, whatever role, database and URL set."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pulse.postgres import (
    Connection,
    Connector,
    Database,
    DatabaseUnavailable,
    PostgresLimits,
    SessionUnfit,
)
from pulse.postgres.limits import session_settings
from pulse.postgres.migrations import Migrations
from pulse.process.revisions import REVISIONS
from pulse.settings import Settings
from tests.support.api import api_settings, serving
from tests.support.database import ROLES, as_runtime, database_in
from tests.support.log import fetch
from tests.support.orders import ORDERS, order, post
from tests.support.waiting import until

ODD = {
    "datestyle": "'German, DMY'",
    "intervalstyle": "'sql_standard'",
    "timezone": "'Asia/Kolkata'",
    "client_encoding": "'LATIN1'",
    "bytea_output": "'escape'",
    "quote_all_identifiers": "on",
    "extra_float_digits": "-10",
    "standard_conforming_strings": "off",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "default_transaction_isolation": "'serializable'",
    "synchronous_commit": "off",
    "statement_timeout": "'90s'",
    "lock_timeout": "'90s'",
    "idle_in_transaction_session_timeout": "'90s'",
    "idle_session_timeout": "'300ms'",
    "enable_sort": "on",
    "jit": "on",
}
"""Settings of a database that would break Pulse or change its responses."""

_SELECT_SETTINGS: Final = "SELECT lower(name), setting FROM pg_settings"


def alter(conninfo: str, name: str, value: str) -> None:
    """Change a setting of the database for the sessions to come."""
    database = sql.Identifier(str(conninfo_to_dict(conninfo)["dbname"]))
    statement = f"ALTER DATABASE {{}} SET {name} = {value}"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(sql.SQL(statement).format(database))


@asynccontextmanager
async def opened(conninfo: str) -> AsyncIterator[Database]:
    database = Database(
        as_runtime(conninfo), pool_size=1, limits=PostgresLimits(checkout_seconds=1.0)
    )
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def settings_of(connection: Connection) -> dict[str, str]:
    cursor = await connection.execute(_SELECT_SETTINGS)
    return dict(await cursor.fetchall())


async def test_settings_of_role_and_database_are_overridden_in_every_session(
    conninfo: str,
) -> None:
    for name, value in ODD.items():
        alter(conninfo, name, value)
    needed = session_settings(PostgresLimits())
    async with opened(conninfo) as database:
        async with database.connection() as pooled:
            found = await settings_of(pooled)
        assert {name: found[name] for name in ODD} == {name: needed[name] for name in ODD}
        async with await database.connect("test") as dedicated:
            found = await settings_of(dedicated)
        assert {name: found[name] for name in ODD} == {name: needed[name] for name in ODD}


async def test_orders_work_on_a_database_with_unusual_settings(
    conninfo: str,
) -> None:
    for name, value in ODD.items():
        alter(conninfo, name, value)
    async with serving(api_settings(conninfo, release_slices=False)) as api:
        before = datetime.now(UTC)
        order_id = (await post(api, order())).json()["order_id"]

        async def completed() -> bool:
            answered = (await api.get(f"{ORDERS}/{order_id}")).json()
            return bool(answered.get("order_queue_status") == "COMPLETED")

        await until(completed, "the order is COMPLETED")
        answered = (await api.get(f"{ORDERS}/{order_id}")).json()
        assert answered["created_at"].endswith("Z")
        created = datetime.fromisoformat(answered["created_at"])
        assert before <= created <= datetime.now(UTC)
        events = (await api.get(f"{ORDERS}/{order_id}/events")).json()["events"]
        assert [datetime.fromisoformat(e["recorded_at"]) >= before for e in events] == [True, True]


async def test_the_urls_options_apply_unless_pulse_needs_another_value(
    conninfo: str,
) -> None:
    options = "-c work_mem=7MB -c statement_timeout=77s"
    connector = Connector(make_conninfo(conninfo, options=options), PostgresLimits())
    async with await connector.connect("test") as connection:
        cursor = await connection.execute(
            "SELECT current_setting('work_mem'), current_setting('statement_timeout')"
        )
        found = await cursor.fetchone()
    assert found == ("7MB", "10s")


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP", "MULE_INTERNAL"])
async def test_a_database_of_another_encoding_is_refused_by_name(
    postgres: str, encoding: str
) -> None:
    with (
        database_in(encoding, postgres) as conninfo,
        pytest.raises(SessionUnfit, match=f"encoding is {encoding}, Pulse needs UTF8"),
    ):
        await Migrations(REVISIONS).migrate(conninfo, PostgresLimits())


async def test_a_session_that_is_read_only_is_replaced_and_not_used_again(conninfo: str) -> None:
    async with opened(conninfo) as database:
        async with database.connection() as connection:
            await connection.execute("SET default_transaction_read_only = on")
            pid = connection.info.backend_pid
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            async with database.connection() as connection:
                await connection.execute("DELETE FROM order_queue")
        async with database.connection() as connection:
            assert connection.info.backend_pid != pid
            await connection.execute("DELETE FROM order_queue")


async def test_a_checked_session_that_is_unfit_is_named_and_replaced(
    conninfo: str,
) -> None:
    async with opened(conninfo) as database:
        await database.verify()
        async with database.connection() as connection:
            await connection.execute("SET synchronous_commit = off")
        with pytest.raises(DatabaseUnavailable, match="synchronous_commit"):
            await database.verify()
        await database.verify()


async def repeated(connection: Connection) -> None:
    """A statement that the driver prepares when it is repeated."""
    for n in range(3):
        await connection.execute("SELECT %s::int", (n,))


async def test_a_statement_that_another_client_prepared_fails_one_request(conninfo: str) -> None:
    async with opened(conninfo) as database:
        async with database.connection() as connection:
            pid = connection.info.backend_pid
            cursor = psycopg.AsyncClientCursor(connection)
            await cursor.execute("PREPARE _pg3_0 AS SELECT 1")
        with pytest.raises(DatabaseUnavailable, match="already exists"):
            await database.read(repeated)
        async with database.connection() as connection:
            assert connection.info.backend_pid != pid


async def test_while_the_database_is_read_only_no_session_is_used_and_the_setting_is_named(
    conninfo: str,
) -> None:
    alter(conninfo, "default_transaction_read_only", "on")
    async with opened(conninfo) as database:
        with pytest.raises(DatabaseUnavailable, match="default_transaction_read_only is on"):
            async with database.connection():
                raise AssertionError("a session was used")
        with pytest.raises(SessionUnfit, match="default_transaction_read_only is on"):
            await database.connect("test")
        alter(conninfo, "default_transaction_read_only", "off")

        async def is_usable() -> bool:
            try:
                await database.verify()
            except DatabaseUnavailable:
                return False
            return True

        await until(is_usable, "a session is usable again")


async def test_a_search_path_that_was_changed_after_the_start_is_refused_by_name(
    conninfo: str,
) -> None:
    async with opened(conninfo) as database:
        await (await database.connect("test")).close()
        with psycopg.connect(conninfo, autocommit=True) as admin:
            admin.execute("CREATE SCHEMA elsewhere")
            admin.execute(f"GRANT USAGE ON SCHEMA elsewhere TO {ROLES.runtime}".encode())
        alter(conninfo, "search_path", "elsewhere, public")
        with pytest.raises(SessionUnfit, match="search_path now resolves to schema elsewhere"):
            await database.connect("test")
        alter(conninfo, "search_path", "nowhere")
        with pytest.raises(SessionUnfit, match="has no existing schema"):
            await database.connect("test")


async def test_orders_are_split_again_after_the_database_was_read_only_for_a_while(
    conninfo: str,
) -> None:
    async with serving(Settings(database_url=as_runtime(conninfo))) as api:
        alter(conninfo, "default_transaction_read_only", "on")
        with psycopg.connect(conninfo, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

        async def named() -> bool:
            said = (await api.get("/pulse/health/ready")).text
            return "default_transaction_read_only is on" in said

        await until(named, "readiness names the setting")
        assert (await post(api, order())).status_code == 503
        alter(conninfo, "default_transaction_read_only", "off")

        async def split() -> bool:
            placed = await post(api, order())
            if placed.status_code != 201:
                return False
            path = f"{ORDERS}/{placed.json()['order_id']}"

            async def completed() -> bool:
                answered = (await api.get(path)).json()
                return bool(answered.get("order_queue_status") == "COMPLETED")

            await until(completed, "the order is COMPLETED")
            return True

        await until(split, "an order is taken and split")
        for _ in range(20):
            assert await split()


async def test_a_session_that_began_under_a_role_without_rights_is_replaced(conninfo: str) -> None:
    own = sql.Identifier(str(conninfo_to_dict(conninfo)["dbname"]))
    role = sql.Identifier(f"other_{uuid4().hex[:8]}")
    with psycopg.connect(conninfo, autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE ROLE {}").format(role))
        owner.execute(sql.SQL("GRANT {} TO {}").format(role, sql.Identifier(ROLES.runtime)))
        owner.execute(sql.SQL("ALTER DATABASE {} SET role = {}").format(own, role))
        async with opened(conninfo) as database:
            with pytest.raises(DatabaseUnavailable, match="permission denied"):
                await database.read(count_orders)
            owner.execute(sql.SQL("ALTER DATABASE {} RESET role").format(own))
            assert await database.read(count_orders) == 0
        owner.execute(sql.SQL("DROP ROLE {}").format(role))


async def count_orders(connection: Connection) -> int:
    cursor = await connection.execute("SELECT count(*) FROM order_queue")
    row = await cursor.fetchone()
    return 0 if row is None else int(row[0])


async def test_a_read_only_pool_reads_and_cannot_write(conninfo: str) -> None:
    database = Database(as_runtime(conninfo), pool_size=2, read_only=True)
    await database.open()
    try:
        assert await fetch(database, "SELECT count(*) FROM order_queue") == [(0,)]
        with pytest.raises(DatabaseUnavailable, match="read-only transaction"):
            await fetch(database, "DELETE FROM order_queue")
    finally:
        await database.close()
