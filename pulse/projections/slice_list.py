"""The slices of all orders by time, as the projection has them."""

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from pulse.postgres import Connection, Database, load_sql

MOST_SLICES_A_PAGE: Final = 1000
_FIRST_TIME: Final = datetime.min.replace(tzinfo=UTC)
_LAST_TIME: Final = datetime.max.replace(tzinfo=UTC)
_BEFORE_EVERY_ORDER: Final = UUID(int=0)

SELECT_SLICES = load_sql(__package__, "select_slices")


class SlicePlace(msgspec.Struct, frozen=True):
    """The place of a slice in the list; no two have the same."""

    scheduled_at: datetime
    order_id: UUID
    sequence_number: int


class SliceQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which slices: from that time on, before that time, after that place in the list."""

    limit: int
    scheduled_from: datetime | None = None
    scheduled_before: datetime | None = None
    after: SlicePlace | None = None


class ScheduledSlice(msgspec.Struct, frozen=True, gc=False):
    """A slice with what it needs of its order."""

    order_id: UUID
    instrument: str
    side: str
    sequence_number: int
    quantity: int
    scheduled_at: datetime


class SlicePage(msgspec.Struct, frozen=True):
    """Slices by time; `next_after` is the last one's place, None if there is nothing more."""

    slices: tuple[ScheduledSlice, ...]
    next_after: SlicePlace | None


async def read_slices(database: Database, query: SliceQuery) -> SlicePage:
    """A page of the list. A slice never changes, so no page skips or repeats one that was there.

    Raises:
        DatabaseUnavailable: it cannot be told.
    """
    return await database.read(lambda connection: _page(connection, query))


def slices_parameters(query: SliceQuery) -> dict[str, Any]:
    """The parameters of SELECT_SLICES; the first page begins before the first slice of its time."""
    after = query.after or SlicePlace(query.scheduled_from or _FIRST_TIME, _BEFORE_EVERY_ORDER, 0)
    return {
        "scheduled_at": after.scheduled_at,
        "order_id": after.order_id,
        "sequence_number": after.sequence_number,
        "scheduled_before": query.scheduled_before or _LAST_TIME,
        "rows": query.limit + 1,
    }


async def _page(connection: Connection, query: SliceQuery) -> SlicePage:
    if not 1 <= query.limit <= MOST_SLICES_A_PAGE:
        raise ValueError(f"a page has 1 to {MOST_SLICES_A_PAGE} slices, not {query.limit}")
    cursor = connection.cursor(binary=True)
    await cursor.execute(SELECT_SLICES, slices_parameters(query), prepare=True)
    rows = await cursor.fetchall()
    slices = tuple(ScheduledSlice(*row) for row in rows[: query.limit])
    return SlicePage(slices, _place(slices[-1]) if len(rows) > query.limit else None)


def _place(last: ScheduledSlice) -> SlicePlace:
    return SlicePlace(last.scheduled_at, last.order_id, last.sequence_number)
