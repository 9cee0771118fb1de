"""A pool without a free connection: the first to come wait, the next are told at once."""

import asyncio
import time

import pytest
from psycopg.errors import LockNotAvailable

from pulse.postgres import Connection, Database, DatabaseUnavailable, Limits

UNHURRIED = Limits(checkout_seconds=20, exhausted_checkout_seconds=0.5)
LIMITS = Limits(checkout_seconds=20, exhausted_checkout_seconds=0.001, exhausted_seconds=0.01)


async def test_after_one_waited_in_vain_nobody_waits_and_a_free_connection_serves_at_once(
    database: Database,
) -> None:
    small = Database(database.conninfo, pool_size=2, limits=LIMITS)
    await small.open()
    assert small._patience_seconds() == 20
    async with small.connection(), small.connection():
        small._exhausted_until = time.monotonic() + 20  # somebody waited in vain
        waiting = [asyncio.ensure_future(small.read(one)) for _ in range(20)]
        refused = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(outcome) for outcome in refused} == {DatabaseUnavailable}
    assert await small.read(one) == 1
    await small.close()


async def test_who_waited_in_vain_spares_the_next_ones_the_wait(database: Database) -> None:
    limits = Limits(checkout_seconds=0.1, exhausted_checkout_seconds=0.001, exhausted_seconds=3600)
    small = Database(database.conninfo, pool_size=2, limits=limits)
    await small.open()
    async with small.connection(), small.connection():
        with pytest.raises(DatabaseUnavailable):
            await small.read(one)
    assert small._patience_seconds() == limits.exhausted_checkout_seconds
    await small.close()


async def test_patience_comes_back_once_nobody_has_waited_in_vain_for_a_while(
    database: Database,
) -> None:
    small = Database(database.conninfo, pool_size=2, limits=LIMITS)
    await small.open()
    small._exhausted_until = time.monotonic() + 0.01
    await asyncio.sleep(0.02)
    async with small.connection():
        async with small.connection():
            waiting = asyncio.ensure_future(small.read(one))
            await asyncio.sleep(0.05)
            assert not waiting.done()
        assert await waiting == 1
    await small.close()


async def test_while_exhausted_a_read_waits_for_no_lock_either_and_afterwards_it_does(
    database: Database,
) -> None:
    small = Database(database.conninfo, pool_size=2, limits=UNHURRIED)
    await small.open()
    assert await small.read(one) == 1

    async def lock_timeout(connection: Connection) -> str:
        row = await (await connection.execute("SHOW lock_timeout")).fetchone()
        return "" if row is None else str(row[0])

    async def stored(connection: Connection) -> None:
        await connection.execute("SELECT FROM stored_events")

    for _ in range(2):
        small._exhausted_until = time.monotonic() + 20
        assert await small.read(lock_timeout) == "500ms"
        async with small.connection() as connection:
            assert await lock_timeout(connection) == "4s"
        async with await database.connect("test") as other, other.transaction():
            await other.execute("LOCK TABLE stored_events IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(DatabaseUnavailable, match="lock timeout"):
                await small.read(stored)
        small._exhausted_until = 0.0
        assert await small.read(lock_timeout) == "4s"
    await small.close()


async def test_a_read_refused_for_a_lock_keeps_the_pool_exhausted(database: Database) -> None:
    small = Database(database.conninfo, pool_size=2, limits=UNHURRIED)
    await small.open()
    assert await small.read(one) == 1

    async def locked(_: Connection) -> None:
        small._exhausted_until = 0.0
        raise LockNotAvailable("canceling statement due to lock timeout")

    small._exhausted_until = time.monotonic() + 20
    with pytest.raises(DatabaseUnavailable):
        await small.read(locked)
    assert small._exhausted_until > 0
    await small.close()


async def one(connection: Connection) -> int:
    cursor = await connection.execute("SELECT 1")
    row = await cursor.fetchone()
    return 0 if row is None else int(row[0])
