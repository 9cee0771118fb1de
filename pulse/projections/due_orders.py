"""The orders that have slices to release now."""

from datetime import datetime
from typing import Final

import msgspec

from pulse.domain import DueOrder, Slice
from pulse.postgres import Database, fetch, load_sql

SELECT_DUE_ORDERS: Final = load_sql(__package__, "select_due_orders")


class DueOrders(msgspec.Struct, frozen=True):
    """The orders due at the moment `at`, by the database's clock, the longest due first.

    `next_seconds` is when the next order will be due, from then; None if there is none yet.
    """

    at: datetime
    orders: tuple[DueOrder, ...]
    next_seconds: float | None


async def read_due_orders(database: Database, limit: int) -> DueOrders:
    """Read up to `limit` of the orders that are due now.

    Raises:
        DatabaseUnavailable: they cannot be read.
    """
    rows = await database.read(
        lambda connection: fetch(connection, SELECT_DUE_ORDERS, (limit,), prepare=True)
    )
    at, next_seconds = rows[0][:2]
    orders = tuple(
        DueOrder(
            order_id=order_id,
            version=version,
            order_unique_key=order_unique_key,
            instrument=instrument,
            side=side,
            trace_id=trace_id,
            unsettled=tuple(map(Slice, numbers, quantities, times)),
        )
        for (
            *_,
            order_id,
            version,
            order_unique_key,
            instrument,
            side,
            trace_id,
            numbers,
            quantities,
            times,
        ) in rows
        if order_id is not None
    )
    return DueOrders(at, orders, next_seconds)
