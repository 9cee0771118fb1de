"""The position: how far the projection of the order queue has read the log.

Its row is also the lock that lets one process at a time write the queue.
"""

from typing import Final

from pulse.postgres import Connection, fetch, load_sql

PROJECTION_NAME: Final = "order_queue"
BEFORE_LOG: Final = -(2**63)
AFTER_LOG: Final = 2**63 - 1
"""Positions before and after every event, whatever ids were given by hand."""

_SELECT_POSITION = load_sql(__package__, "select_position")
_LOCK_POSITION = load_sql(__package__, "lock_position")
_WAIT_FOR_POSITION = load_sql(__package__, "wait_for_position")
_ADVANCE_POSITION = load_sql(__package__, "advance_position")


async def read_position(connection: Connection) -> int:
    """How far the projection has read the log."""
    rows = await fetch(connection, _SELECT_POSITION, (PROJECTION_NAME,))
    return rows[0][0] if rows else 0


async def lock_position(connection: Connection) -> tuple[int, bool] | None:
    """The position, held until the transaction ends, and whether any order is parked.

    None where another process holds it.
    """
    rows = await fetch(connection, _LOCK_POSITION, (PROJECTION_NAME,))
    return (rows[0][0], rows[0][1]) if rows else None


async def wait_for_position(connection: Connection) -> int:
    """The position, held until the transaction ends, after whichever process holds it now."""
    rows = await fetch(connection, _WAIT_FOR_POSITION, (PROJECTION_NAME,))
    return rows[0][0] if rows else 0


async def advance_position(connection: Connection, position: int) -> None:
    """Record that the projection has read the log up to there."""
    await connection.execute(_ADVANCE_POSITION, (position, PROJECTION_NAME), prepare=True)
