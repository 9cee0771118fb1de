"""An append is answered only once a replica has it, whatever ends the wait for the replica."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest

from pulse.eventstore import AppendLimits, AppendOutcomeUnknown, AppendRefused, VersionTaken
from pulse.postgres import Database
from pulse.postgres.embedded import EmbeddedServer
from tests.support.events import foreign_event
from tests.support.log import running_appender
from tests.support.waiting import until

LIMITS = AppendLimits(answer_seconds=2.0, statement_seconds=0.5)
NOT_CONFIRMED = (AppendRefused, AppendOutcomeUnknown)


@pytest.fixture
def conninfo(data_dir: Path) -> Iterator[str]:
    """A server of the test's own, as its superuser."""
    server = EmbeddedServer.acquire(data_dir, {"fsync": "off"})
    yield server.conninfo
    server.release()


@pytest.fixture
async def database(conninfo: str) -> AsyncIterator[Database]:
    database = Database(conninfo, pool_size=2)
    yield database
    await database.close()


async def on_server(conninfo: str, statement: LiteralString) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        await connection.execute("SET synchronous_commit = local")
        cursor = await connection.execute(statement)
        return await cursor.fetchall() if cursor.description else []


async def until_rows(conninfo: str, statement: LiteralString) -> None:
    async def found() -> bool:
        return bool(await on_server(conninfo, statement))

    await until(found, statement)


async def require_replica(conninfo: str) -> None:
    """From now on each commit waits for a replica, and there is none."""
    await on_server(conninfo, "ALTER SYSTEM SET synchronous_standby_names = 'missing'")
    await on_server(conninfo, "SELECT pg_reload_conf()")
    await until_rows(
        conninfo,
        "SELECT 1 FROM pg_settings WHERE name = 'synchronous_standby_names' AND setting <> ''",
    )


async def require_none(conninfo: str) -> None:
    """What waits for a replica is released."""
    await on_server(conninfo, "ALTER SYSTEM RESET synchronous_standby_names")
    await on_server(conninfo, "SELECT pg_reload_conf()")


WAITING: LiteralString = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
END_WAITING: LiteralString = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
)


async def test_after_the_time_limit_of_the_statement_the_commit_still_waits_for_its_replica(
    conninfo: str, database: Database
) -> None:
    async with running_appender(database, limits=LIMITS) as appender:
        await appender.append([foreign_event()])
        await require_replica(conninfo)
        event = foreign_event(uuid4())
        for _ in range(3):  # a caller that retries
            with pytest.raises(NOT_CONFIRMED):
                await appender.append([event])
        assert await on_server(conninfo, "SELECT count(*) FROM stored_events") == [(1,)]
        await require_none(conninfo)
        await _until_stored(appender, event)
    assert await on_server(conninfo, "SELECT count(*) FROM stored_events") == [(2,)]


async def test_a_commit_that_no_replica_has_is_not_confirmed_to_a_retry(
    conninfo: str, database: Database
) -> None:
    """A terminated backend leaves its commit visible; a server that crashed does, too."""
    async with running_appender(database, limits=LIMITS) as appender:
        await appender.append([foreign_event()])
        await require_replica(conninfo)
        event = foreign_event(uuid4())
        first = asyncio.ensure_future(appender.append([event]))
        await until_rows(conninfo, WAITING)
        await on_server(conninfo, END_WAITING)
        with pytest.raises(NOT_CONFIRMED):
            await first
        await until_rows(conninfo, "SELECT 1 FROM stored_events OFFSET 1")
        with pytest.raises(NOT_CONFIRMED):
            await appender.append([event])
        await require_none(conninfo)
        await _until_stored(appender, event)
    assert await on_server(conninfo, "SELECT count(*) FROM stored_events") == [(2,)]


async def _until_stored(appender: Any, event: Any) -> None:
    """Append it until the log has answered that it is stored."""
    async with asyncio.timeout(30):
        while True:
            try:
                await appender.append([event])
            except VersionTaken:
                return
            except NOT_CONFIRMED:
                await asyncio.sleep(0.05)
            else:
                return
