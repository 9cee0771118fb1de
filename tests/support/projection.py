"""Holding the projection back: the log goes on, the order queue stands still, workers starve."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg import AsyncConnection


@asynccontextmanager
async def projection_held_back(conninfo: str) -> AsyncIterator[None]:
    """Hold the lock on the projection's position, as a process that never ends its batch would."""
    async with await AsyncConnection.connect(conninfo) as holder:
        await holder.execute("SELECT FROM notification_tracking FOR UPDATE")
        yield
        await holder.rollback()
