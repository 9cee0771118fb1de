"""Blocks the projection while appends continue."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg import AsyncConnection


@asynccontextmanager
async def projection_blocked(conninfo: str) -> AsyncIterator[None]:
    """Hold the lock on the projection's position, like a process that never ends its batch."""
    async with await AsyncConnection.connect(conninfo) as holder:
        await holder.execute("SELECT FROM notification_tracking FOR UPDATE")
        yield
        await holder.rollback()
