"""The position: how far the projection of the order queue has read the log.

The row of the position is also the lock that lets one process at a time apply events to the queue.
"""

from typing import Final

from pulse.postgres import Connection, fetch, load_sql

PROJECTION_NAME: Final = "order_queue"

_SELECT_POSITION = load_sql(__package__, "select_position")
_TRY_LOCK_POSITION = load_sql(__package__, "try_lock_position")
_LOCK_POSITION = load_sql(__package__, "lock_position")
_ADVANCE_POSITION = load_sql(__package__, "advance_position")


async def read_position(connection: Connection) -> int:
    """How far the projection has read the log."""
    rows = await fetch(connection, _SELECT_POSITION, (PROJECTION_NAME,))
    return rows[0][0] if rows else 0


async def try_lock_position(connection: Connection) -> tuple[int, bool] | None:
    """Lock the position until the transaction ends. Returns it, and whether any order is parked.

    Returns None at once if another process holds the lock.
    """
    rows = await fetch(connection, _TRY_LOCK_POSITION, (PROJECTION_NAME,))
    return (rows[0][0], rows[0][1]) if rows else None


async def lock_position(connection: Connection) -> int:
    """Lock the position until the transaction ends, and return it. Waits while it is locked."""
    rows = await fetch(connection, _LOCK_POSITION, (PROJECTION_NAME,))
    return rows[0][0] if rows else 0


async def advance_position(connection: Connection, position: int) -> None:
    """Store the position up to which the projection has read the log."""
    await connection.execute(_ADVANCE_POSITION, (position, PROJECTION_NAME), prepare=True)
