"""The election of the one process that exports the gauges of the whole database: a session lock."""

from typing import Final, Self

import psycopg

from pulse.postgres import Connection, Database, DatabaseUnavailable, describe, fetch, load_sql

GAUGES_LOCK: Final = 0x50554C53_45000005
"""The key of the lock."""

HOLD_SECONDS: Final = 15.0
"""Postgres ends the session of a holder that is idle for this long."""

_IS_FREE: Final = load_sql(__package__, "is_gauges_lock_free")
_TRY_HOLD: Final = load_sql(__package__, "try_hold_gauges_lock")


class GaugesLock:
    """The lock, held by a connection outside the pool.

    The holder reads the gauges on this connection, so a full pool does not stop monitoring. Only
    the holder has such a connection.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @classmethod
    async def take(cls, database: Database) -> Self | None:
        """Take the lock; None if another process holds it.

        Raises:
            DatabaseUnavailable: Postgres cannot be reached.
        """
        rows = await database.read(lambda c: fetch(c, _IS_FREE, (GAUGES_LOCK,)))
        if not rows[0][0]:
            return None
        try:
            connection = await database.connect("monitor")
        except psycopg.Error as error:
            raise DatabaseUnavailable(describe(error)) from error
        lock = cls(connection)
        try:
            milliseconds = str(round(HOLD_SECONDS * 1000))
            rows = await fetch(connection, _TRY_HOLD, (milliseconds, GAUGES_LOCK))
        except psycopg.Error as error:
            await lock.release()
            raise DatabaseUnavailable(describe(error)) from error
        if rows[0][1]:
            return lock
        await lock.release()
        return None

    async def release(self) -> None:
        """Release the lock by closing the connection."""
        await self.connection.close()
