"""An exhausted pool: the first callers wait, later ones fail at once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from pulse.postgres import Connection, Database, DatabaseUnavailable, PostgresLimits
from tests.support.database import as_runtime, as_superuser
from tests.support.waiting import until

pytestmark = pytest.mark.timing

LASTING = PostgresLimits(
    checkout_seconds=0.3, exhausted_checkout_seconds=0.01, exhausted_seconds=3600
)
PASSING = PostgresLimits(
    checkout_seconds=0.3, exhausted_checkout_seconds=0.01, exhausted_seconds=0.1
)


@asynccontextmanager
async def exhausted(conninfo: str, limits: PostgresLimits) -> AsyncIterator[Database]:
    """A pool of two from which a checkout has timed out; both connections are free again."""
    database = Database(as_runtime(conninfo), pool_size=2, limits=limits)
    await database.open()

    async def has_both() -> bool:
        with suppress(DatabaseUnavailable):
            async with database.connection(), database.connection():
                return True
        return False

    try:
        await until(has_both, "the pool has opened both connections")
        async with database.connection(), database.connection():
            with pytest.raises(DatabaseUnavailable):
                await database.read(select_one)
        yield database
    finally:
        await database.close()


def owner(database: Database) -> Database:
    """The same database as its superuser, which may lock the log."""
    return Database(as_superuser(database.conninfo), pool_size=1)


async def select_one(connection: Connection) -> int:
    cursor = await connection.execute("SELECT 1")
    row = await cursor.fetchone()
    return 0 if row is None else int(row[0])


async def lock_timeout(connection: Connection) -> str:
    row = await (await connection.execute("SHOW lock_timeout")).fetchone()
    return "" if row is None else str(row[0])


async def stored(connection: Connection) -> None:
    await connection.execute("SELECT FROM stored_events")


async def test_after_a_checkout_timeout_callers_fail_fast(
    conninfo: str,
) -> None:
    async with exhausted(conninfo, LASTING) as database:
        async with database.connection(), database.connection():
            began = time.monotonic()
            waiting = [database.read(select_one) for _ in range(20)]
            refused = await asyncio.gather(*waiting, return_exceptions=True)
            assert time.monotonic() - began < LASTING.checkout_seconds
        assert {type(outcome) for outcome in refused} == {DatabaseUnavailable}
        assert await database.read(select_one) == 1


async def test_callers_wait_again_after_a_time_without_checkout_timeouts(conninfo: str) -> None:
    async with exhausted(conninfo, PASSING) as database:
        await asyncio.sleep(PASSING.exhausted_seconds)
        async with database.connection():
            async with database.connection():
                waiting = asyncio.ensure_future(database.read(select_one))
                await asyncio.sleep(5 * PASSING.exhausted_checkout_seconds)
                assert not waiting.done()
            assert await waiting == 1


async def test_while_the_pool_is_exhausted_reads_do_not_wait_for_locks(conninfo: str) -> None:
    async with exhausted(conninfo, LASTING) as database:
        assert await database.read(lock_timeout) == "10ms"
        async with database.connection() as connection:
            assert await lock_timeout(connection) == "4s"
        async with await owner(database).connect("test") as other, other.transaction():
            await other.execute("LOCK TABLE stored_events IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(DatabaseUnavailable, match="lock timeout"):
                await database.read(stored)


async def test_after_the_exhaustion_reads_wait_for_locks_again(conninfo: str) -> None:
    async with exhausted(conninfo, PASSING) as database:
        assert await database.read(lock_timeout) == "10ms"
        await asyncio.sleep(PASSING.exhausted_seconds)
        assert await database.read(lock_timeout) == "4s"


async def test_a_read_refused_for_a_lock_keeps_the_pool_exhausted(conninfo: str) -> None:
    limits = PostgresLimits(
        lock_seconds=0.05, exhausted_checkout_seconds=0.01, exhausted_seconds=3600
    )
    database = Database(as_runtime(conninfo), pool_size=2, limits=limits)
    await database.open()
    async with await owner(database).connect("test") as other, other.transaction():
        await other.execute("LOCK TABLE stored_events IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DatabaseUnavailable, match="lock timeout"):
            await database.read(stored)
        assert await database.read(lock_timeout) == "10ms"
    await database.close()
