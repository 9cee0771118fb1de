"""The orders that have slices to release now."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from pulse.domain import DueOrder, Slice
from pulse.postgres import Connection, Database, fetch, load_sql
from pulse.projections.position import read_position

SELECT_DUE_ORDERS: Final = load_sql(__package__, "select_due_orders")


class DueOrders(msgspec.Struct, frozen=True):
    """The orders due at the moment `at`, by the database's clock, the longest due first.

    `created_positions` are where they were created. `next_seconds` is when the next order will be
    due, from then; None if there is none yet. `unprojected` has the orders that were left out.
    """

    at: datetime
    orders: tuple[DueOrder, ...]
    created_positions: tuple[int, ...]
    next_seconds: float | None
    unprojected: dict[int, int]


async def read_due_orders(
    database: Database, limit: int, handled: Mapping[int, int] | None = None
) -> DueOrders:
    """Read up to `limit` of the orders that are due now.

    `handled` has, by an order's position of creation, the position of an event that settles its
    next slices. The order is left out until the projection has read this event.

    Raises:
        DatabaseUnavailable: they cannot be read.
    """

    async def select(connection: Connection) -> DueOrders:
        projected = await read_position(connection) if handled else 0
        unprojected = {o: settled for o, settled in (handled or {}).items() if settled > projected}
        parameters = (list(unprojected), limit)
        rows = await fetch(connection, SELECT_DUE_ORDERS, parameters, prepare=True)
        at, next_seconds = rows[0][:2]
        found = [row[2:] for row in rows if row[2] is not None]
        return DueOrders(
            at=at,
            orders=tuple(map(_due_order, found)),
            created_positions=tuple(row[-1] for row in found),
            next_seconds=next_seconds,
            unprojected=unprojected,
        )

    return await database.read(select)


def _due_order(row: Sequence[Any]) -> DueOrder:
    order_id, version, order_unique_key, instrument, side, trace_id, *columns, _ = row
    return DueOrder(
        order_id=order_id,
        version=version,
        order_unique_key=order_unique_key,
        instrument=instrument,
        side=side,
        trace_id=trace_id,
        unsettled=tuple(map(Slice, *columns)),
    )
