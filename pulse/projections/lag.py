"""How far the order queue is behind the log."""

from typing import Final

import msgspec

from pulse.domain import SPLITTERS
from pulse.eventstore import read_log_state
from pulse.postgres import Connection, Database, load_sql
from pulse.projections.projector import PROJECTION_NAME

_SELECT_LAG = load_sql(__package__, "select_lag")
_SELECT_POSITION = load_sql(__package__, "select_position")
_LAST_BIGINT: Final = 2**63 - 1


class Lag(msgspec.Struct, frozen=True):
    """`behind_seconds` is the age of the first event not yet projected, by the database's clock.

    An id that the log's sequence has not issued is not waited for.
    """

    position: int
    behind_seconds: float
    parked_orders: int
    orders_for_newer_code: int


async def read_lag(database: Database) -> Lag:
    """The lag now.

    Raises:
        DatabaseUnavailable: it cannot be read.
    """
    return await database.read(select_lag)


async def select_lag(connection: Connection) -> Lag:
    """The lag now, read on a connection of the caller's."""
    issued = (await read_log_state(connection)).last_issued
    last_issued = _LAST_BIGINT if issued is None else issued
    parameters = (last_issued, sorted(SPLITTERS), PROJECTION_NAME)
    cursor = await connection.execute(_SELECT_LAG, parameters, prepare=True)
    row = await cursor.fetchone()
    return Lag(0, 0.0, 0, 0) if row is None else Lag(*row)


async def read_position(connection: Connection) -> int:
    """How far the projection has read the log."""
    cursor = await connection.execute(_SELECT_POSITION, (PROJECTION_NAME,), prepare=True)
    row = await cursor.fetchone()
    return row[0] if row else 0
