"""How far the order queue is behind the log."""

import msgspec

from pulse.domain import SPLITTERS
from pulse.postgres import Connection, Database, load_sql
from pulse.projections.projector import PROJECTION_NAME

_SELECT_LAG = load_sql(__package__, "select_lag")


class Lag(msgspec.Struct, frozen=True):
    """`behind_seconds` is the age of the first event not yet projected, by the database's clock."""

    position: int
    behind_seconds: float
    parked_orders: int
    orders_for_newer_code: int


async def read_lag(database: Database) -> Lag:
    """The lag now.

    Raises:
        DatabaseUnavailable: it cannot be told.
    """
    return await database.read(_lag)


async def _lag(connection: Connection) -> Lag:
    cursor = await connection.execute(
        _SELECT_LAG, (sorted(SPLITTERS), PROJECTION_NAME), prepare=True
    )
    row = await cursor.fetchone()
    return Lag(0, 0.0, 0, 0) if row is None else Lag(*row)
