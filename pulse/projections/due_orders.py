"""The orders that have slices to release now."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from pulse.domain import MIN_RELEASE_SECONDS, DueOrder, Halts, HaltTarget, Slice
from pulse.postgres import Connection, Database, fetch, load_sql
from pulse.projections.position import read_position

SELECT_DUE_ORDERS: Final = load_sql(__package__, "select_due_orders")


_COUNT_DUE_SLICES: Final = load_sql(__package__, "count_due_slices")


class DueOrders(msgspec.Struct, frozen=True):
    """The orders due at the moment `at`, by the database's clock, the longest due first.

    `created_positions` are their positions of creation. `next_seconds` is how many seconds after
    `at` the next order is due; None if there is none yet. `unprojected` has the entries of
    `handled` whose event the projection has not read yet.
    """

    at: datetime
    orders: tuple[DueOrder, ...]
    created_positions: tuple[int, ...]
    next_seconds: float | None
    unprojected: dict[int, int]


async def read_due_orders(
    database: Database,
    limit: int,
    *,
    halts: Halts,
    max_delay_seconds: float,
    handled: Mapping[int, int] | None = None,
) -> DueOrders:
    """Read up to `limit` of the orders that are due now.

    Orders that `halts` cover are left out until their next slice expires, `max_delay_seconds` after
    its time or earlier. `handled` has, by an order's position of creation, the position of an event
    that settles its next slices. The order is left out until the projection has read this event.

    Raises:
        DatabaseUnavailable: they cannot be read.
    """

    async def select(connection: Connection) -> DueOrders:
        projected = await read_position(connection) if handled else 0
        unprojected = {o: settled for o, settled in (handled or {}).items() if settled > projected}
        parameters = {
            "left_out": list(unprojected),
            "limit": limit,
            "max_delay_seconds": max_delay_seconds,
            "min_release_seconds": MIN_RELEASE_SECONDS,
            **halt_parameters([halt.target for halt in halts.in_force]),
        }
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


async def count_due_slices(connection: Connection) -> int:
    """How many slices are due and not settled, of the 1,000 orders due first."""
    return int((await fetch(connection, _COUNT_DUE_SLICES))[0][0])


def halt_parameters(targets: Sequence[HaltTarget]) -> dict[str, Any]:
    """The parameters of a statement that say what halts of these targets cover."""
    return {
        "any_halted": bool(targets),
        "all_halted": any(target.scope == "ALL" for target in targets),
        "halted_instruments": [t.instrument for t in targets if t.instrument is not None],
        "halted_callers": [t.placed_by for t in targets if t.placed_by is not None],
    }


def _due_order(row: Sequence[Any]) -> DueOrder:
    order_id, version, order_unique_key, instrument, side, placed_by, trace_id, *columns, _ = row
    return DueOrder(
        order_id=order_id,
        version=version,
        order_unique_key=order_unique_key,
        instrument=instrument,
        side=side,
        placed_by=placed_by,
        trace_id=trace_id,
        unsettled=tuple(map(Slice, *columns)),
    )
