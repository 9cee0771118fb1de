"""Stalled sessions that hold locks are terminated, and no others."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg
import pytest

from pulse.postgres import Database, DatabaseUnavailable, PostgresLimits
from pulse.workers.recovery import StalledSessions
from tests.support.database import as_runtime
from tests.support.waiting import until

NAME = "pulse:pool@elsewhere:1"
REBUILD = "pulse:rebuild@elsewhere:1"
HOLDS_THE_POSITION = "SELECT 1 FROM notification_tracking FOR UPDATE"
WRITES = "INSERT INTO pending_orders VALUES (1, gen_random_uuid(), now(), 1, 'NSE:X')"
READS = "SELECT 1 FROM notification_tracking"
WORKS = "SELECT pg_sleep(30) FROM (SELECT 1 FROM notification_tracking FOR UPDATE) held"

Stalled = Callable[..., AbstractContextManager[psycopg.Connection]]


@contextmanager
def unsynced(conninfo: str, statement: str, *, name: str = NAME) -> Iterator[psycopg.Connection]:
    """A client that stalled after a statement, before the Sync message that commits it."""
    with psycopg.connect(conninfo, application_name=name, autocommit=True) as connection:
        connection.pgconn.enter_pipeline_mode()
        connection.pgconn.send_query_params(statement.encode(), None)
        connection.pgconn.flush()
        yield connection
        connection.pgconn.finish()


@contextmanager
def idle_after_a_pipeline(
    conninfo: str, statement: str, *, name: str = NAME
) -> Iterator[psycopg.Connection]:
    """A client that stalled in a transaction after a pipeline, with a timeout of Postgres.

    The timeout has no effect: libpq sends Flush after Sync, which stops the timer.
    """
    # A shorter timeout may end the session first on a slow machine.
    options = "-c idle_in_transaction_session_timeout=10000"
    with psycopg.connect(conninfo, application_name=name, options=options) as connection:
        with connection.pipeline():
            connection.execute(statement.encode())
        yield connection
        connection.close()


@contextmanager
def in_a_copy(conninfo: str, statement: str, *, name: str = NAME) -> Iterator[psycopg.Connection]:
    """A client that stalled during a COPY, to which no timeout applies."""
    with psycopg.connect(conninfo, application_name=name) as connection:
        connection.execute(statement.encode())
        connection.pgconn.exec_(b"COPY pending_orders FROM STDIN")
        yield connection
        connection.pgconn.finish()


async def is_held(database: Database) -> bool:
    async with database.connection() as connection:
        cursor = await connection.execute(
            "SELECT count(*) FROM pg_locks"
            " WHERE relation IN ('notification_tracking'::regclass, 'pending_orders'::regclass)"
            " AND pid <> pg_backend_pid()"
        )
        return await cursor.fetchone() != (0,)


async def until_held(database: Database) -> None:
    await until(lambda: is_held(database), "the statement has arrived")


@pytest.mark.parametrize("statement", [HOLDS_THE_POSITION, WRITES])
@pytest.mark.parametrize("stalled", [unsynced, idle_after_a_pipeline, in_a_copy])
async def test_a_stalled_client_that_holds_locks_is_terminated(
    database: Database, conninfo: str, stalled: Stalled, statement: str
) -> None:
    sessions = StalledSessions(database, stalled_seconds=0.05)
    ended: list[str] = []

    async def is_ended() -> bool:
        ended.extend(await sessions.run_once())
        return not await is_held(database)

    with stalled(as_runtime(conninfo), statement):
        await until_held(database)
        await until(is_ended, "its locks are free")
    assert set(ended) == {NAME}


async def test_a_stalled_rebuild_that_holds_the_position_is_terminated(
    database: Database, conninfo: str
) -> None:
    sessions = StalledSessions(database, stalled_seconds=60.0, rebuild_stalled_seconds=0.05)

    async def is_ended() -> bool:
        await sessions.run_once()
        return not await is_held(database)

    with unsynced(as_runtime(conninfo), HOLDS_THE_POSITION, name=REBUILD):
        await until_held(database)
        await until(is_ended, "the position is free")


@pytest.mark.timing
@pytest.mark.parametrize(
    ("statement", "name", "stalled_seconds"),
    [
        (HOLDS_THE_POSITION, NAME, 60.0),
        (HOLDS_THE_POSITION, "somebody", 0.05),
        (HOLDS_THE_POSITION, REBUILD, 0.05),
        (READS, NAME, 0.05),
        (WORKS, NAME, 0.05),
    ],
    ids=["not yet for long", "not Pulse's", "a rebuild", "only reads", "works"],
)
async def test_other_sessions_are_not_terminated(
    database: Database, conninfo: str, statement: str, name: str, stalled_seconds: float
) -> None:
    sessions = StalledSessions(database, stalled_seconds=stalled_seconds)
    with unsynced(as_runtime(conninfo), statement, name=name):
        await until_held(database)
        await asyncio.sleep(0.2)
        assert await sessions.run_once() == []
        assert await is_held(database)


@pytest.mark.timing
async def test_a_session_whose_transaction_was_ended_raises_database_unavailable(
    conninfo: str,
) -> None:
    """The interrupted step has no bug: it raises an error that the loop retries."""
    frozen = Database(
        as_runtime(conninfo), pool_size=2, limits=PostgresLimits(idle_in_transaction_seconds=0.05)
    )
    await frozen.open()
    with pytest.raises(DatabaseUnavailable):
        await stop_in_a_transaction(frozen)
    await frozen.close()


async def stop_in_a_transaction(database: Database) -> None:
    async with database.connection() as connection, connection.transaction():
        await asyncio.sleep(0.5)
        await connection.execute("SELECT 1")
