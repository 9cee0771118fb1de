"""All slices by time; the slices to release, counted by minute; the overdue slices."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from pulse.domain import HaltTarget, SliceState
from pulse.postgres import Connection, Database, Reads, fetch, load_sql
from pulse.projections.due_orders import halt_parameters
from pulse.projections.lists import (
    MAX_SLICES_PER_PAGE,
    SliceCursorKey,
    SliceQuery,
    log_id_of_page,
    slices_parameters,
)
from pulse.projections.position import read_position

MAX_COUNTED: Final = 10_000
"""The maximum number of slices that are counted by minute."""

OVERDUE_SECONDS: Final = 1.0
"""A slice that has been due for this long and is not settled is overdue."""

MAX_OVERDUE_ORDERS: Final = 200
"""Overdue slices are searched in this many orders, those that were due first."""

SELECT_SLICES_WITH_ORDERS: Final = load_sql(__package__, "select_slices_with_orders")
COUNT_SLICES_BY_MINUTE: Final = load_sql(__package__, "count_slices_by_minute")
SELECT_OVERDUE_SLICES: Final = load_sql(__package__, "select_overdue_slices")


class SliceWithOrder(msgspec.Struct, frozen=True, gc=False):
    """A slice in any state, and the fields of its order. Without `release` it is not released."""

    order_id: UUID
    order_unique_key: str
    instrument: str
    side: str
    placed_by: str
    release: bool
    sequence_number: int
    quantity: int
    scheduled_at: datetime
    state: SliceState


class SliceWithOrderPage(msgspec.Struct, frozen=True):
    """Slices by time. They reflect the log up to `as_of_position`, or a later position.

    `next_after` is the cursor of the next page, None on the last page. `log_id` is as in
    `OrderPage`.
    """

    slices: tuple[SliceWithOrder, ...]
    next_after: SliceCursorKey | None
    as_of_position: int
    log_id: UUID | None = None


class MinuteCount(msgspec.Struct, frozen=True):
    """The slices of one minute that Pulse will release; a halt covers `halted` of them.

    `quantity` is in shares.
    """

    minute: datetime
    slices: int
    quantity: int
    halted: int


class MinuteCounts(msgspec.Struct, frozen=True):
    """Counts of the minutes that have slices. Unless `complete`, later slices are not counted."""

    minutes: tuple[MinuteCount, ...]
    complete: bool


async def read_slices_with_orders(reads: Reads, query: SliceQuery) -> SliceWithOrderPage:
    """Read a page of slices by time, with one index range and a lookup for each slice.

    Raises:
        DatabaseUnavailable: they cannot be read.
    """
    if not 1 <= query.limit <= MAX_SLICES_PER_PAGE:
        raise ValueError(f"a page has 1 to {MAX_SLICES_PER_PAGE} slices, not {query.limit}")
    return await reads.read(lambda connection: _page_of(connection, query))


async def _page_of(connection: Connection, query: SliceQuery) -> SliceWithOrderPage:
    position = await read_position(connection)
    rows = await fetch(connection, SELECT_SLICES_WITH_ORDERS, slices_parameters(query))
    slices = tuple(SliceWithOrder(*row[1:]) for row in rows[: query.limit])
    last = None
    if len(rows) > query.limit:
        last = SliceCursorKey(slices[-1].scheduled_at, rows[query.limit - 1][0])
    return SliceWithOrderPage(slices, last, position, await log_id_of_page(connection, query, last))


async def count_by_minute(
    database: Database,
    scheduled_from: datetime,
    scheduled_before: datetime,
    targets: Sequence[HaltTarget],
) -> MinuteCounts:
    """Count the slices to release in a period by minute, and those that these halts would cover.

    Only the first MAX_COUNTED slices are counted.

    Raises:
        DatabaseUnavailable: they cannot be counted.
    """
    parameters = {
        "scheduled_from": scheduled_from,
        "scheduled_before": scheduled_before,
        "most": MAX_COUNTED,
        **halt_parameters(targets),
    }
    rows = await _read(database, COUNT_SLICES_BY_MINUTE, parameters)
    return MinuteCounts(
        minutes=tuple(MinuteCount(minute, *counts) for minute, _, *counts in rows if counts[0]),
        complete=sum(row[1] for row in rows) < MAX_COUNTED,
    )


async def read_overdue_slices(database: Database, limit: int) -> tuple[SliceWithOrder, ...]:
    """Read up to `limit` overdue slices, the longest due first, of the 200 orders due first.

    Raises:
        DatabaseUnavailable: they cannot be read.
    """
    parameters = {"overdue_seconds": OVERDUE_SECONDS, "rows": limit}
    rows = await _read(database, SELECT_OVERDUE_SLICES, parameters)
    return tuple(SliceWithOrder(*row) for row in rows)


async def _read(database: Database, statement: Any, parameters: dict[str, Any]) -> list[Any]:  # noqa: ANN401 - a LiteralString
    return await database.read(lambda connection: fetch(connection, statement, parameters))
