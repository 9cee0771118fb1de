"""The lists: orders newest first, slices by time, as the projection has them."""

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg.sql import SQL, Composed, Identifier, Literal

from pulse.domain import Slice
from pulse.postgres import Connection, Database, fetch, load_sql
from pulse.projections.order_view import ROW_COLUMNS, OrderQueueStatus, OrderView, Row, order_view
from pulse.projections.position import AFTER_LOG, BEFORE_LOG, PROJECTION_NAME

MAX_ORDERS_A_PAGE: Final = 200
MAX_SLICES_A_PAGE: Final = 1000
_FIRST_TIME: Final = datetime.min.replace(tzinfo=UTC)
_LAST_TIME: Final = datetime.max.replace(tzinfo=UTC)

SELECT_SLICES: Final = load_sql(__package__, "select_slices")
_SELECT_SLICES_OF = load_sql(__package__, "select_slices_of")
_WAITING: Final[tuple[OrderQueueStatus, ...]] = ("PENDING", "IN_PROGRESS")
_COLUMNS: Final = SQL(", ").join(
    Identifier("q", column) for column in ("created_position", *ROW_COLUMNS)
)
_CREATED_POSITION, _STATE = 1, 2
"""Places in a row of the statements, which begins with the projection's position."""
_SELECT_ORDERS: Final = SQL(load_sql(__package__, "select_orders"))
_SELECT_ORDERS_OF_INSTRUMENT: Final = SQL(load_sql(__package__, "select_orders_of_instrument"))
_SELECT_PENDING_ORDERS: Final = SQL(load_sql(__package__, "select_pending_orders"))
_COMPLETED: Final = SQL("state = 'COMPLETED'")
_FAILED: Final = SQL("failure_reason IS NOT NULL")
_FAILED_OF_INSTRUMENT: Final = SQL(
    "failure_reason IS NOT NULL AND instrument = %(instrument)b::text"
)


def _orders(conditions: SQL) -> Composed:
    return _SELECT_ORDERS.format(columns=_COLUMNS, conditions=conditions)


def _of_instrument(conditions: SQL) -> Composed:
    return _SELECT_ORDERS_OF_INSTRUMENT.format(columns=_COLUMNS, conditions=conditions)


def _pending(status: OrderQueueStatus) -> Composed:
    return _SELECT_PENDING_ORDERS.format(columns=_COLUMNS, status=Literal(status))


_STATEMENTS: Final[dict[tuple[OrderQueueStatus | None, bool], Composed]] = {
    (None, False): _orders(SQL("true")),
    (None, True): _of_instrument(SQL("true")),
    ("COMPLETED", False): _orders(_COMPLETED),
    ("COMPLETED", True): _of_instrument(_COMPLETED),
    ("FAILED", False): _orders(_FAILED),
    ("FAILED", True): _orders(_FAILED_OF_INSTRUMENT),
    **{(status, False): _pending(status) for status in _WAITING},
    **{(status, True): _pending(status) for status in _WAITING},
}
"""By status and whether of one instrument: each keeps to one index, so that no page is sorted."""


class OrderQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which orders: of that status, of that instrument, created before that position."""

    limit: int
    order_queue_status: OrderQueueStatus | None = None
    instrument: str | None = None
    before: int | None = None


class OrderPage(msgspec.Struct, frozen=True):
    """Orders, newest first by position of creation, as of a position of the log.

    `next_before` is where the next page begins; None if there is nothing more.
    """

    orders: tuple[OrderView, ...]
    as_of_position: int
    next_before: int | None


class SlicePlace(msgspec.Struct, frozen=True):
    """The place of a slice in the list: unique, as no order has two slices at one time."""

    scheduled_at: datetime
    created_position: int


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


async def read_orders(database: Database, query: OrderQuery) -> OrderPage:
    """A page of the list. Pages that follow each other neither skip nor repeat an order.

    A status is the one an order has when its page is read: an order that changes its status
    between two pages is where its new status has it.

    Raises:
        DatabaseUnavailable: it cannot be read.
    """
    if not 1 <= query.limit <= MAX_ORDERS_A_PAGE:
        raise ValueError(f"a page has 1 to {MAX_ORDERS_A_PAGE} orders, not {query.limit}")
    return await database.read(lambda connection: _order_page(connection, query))


async def read_slices(database: Database, query: SliceQuery) -> SlicePage:
    """A page of the list. A slice never changes, so no page skips or repeats one that was there.

    Raises:
        DatabaseUnavailable: it cannot be read.
    """
    if not 1 <= query.limit <= MAX_SLICES_A_PAGE:
        raise ValueError(f"a page has 1 to {MAX_SLICES_A_PAGE} slices, not {query.limit}")
    parameters = slices_parameters(query)
    rows = await database.read(lambda connection: fetch(connection, SELECT_SLICES, parameters))
    slices = tuple(ScheduledSlice(*row[1:]) for row in rows[: query.limit])
    if len(rows) <= query.limit:
        return SlicePage(slices, None)
    return SlicePage(slices, SlicePlace(slices[-1].scheduled_at, rows[query.limit - 1][0]))


def orders_statement(query: OrderQuery) -> Composed:
    """The statement that answers such a query, prepared once a connection."""
    return _STATEMENTS[query.order_queue_status, query.instrument is not None]


def orders_parameters(query: OrderQuery) -> dict[str, Any]:
    """The parameters of its statement; one row more than the page tells whether another follows."""
    return {
        "projection": PROJECTION_NAME,
        "before": AFTER_LOG if query.before is None else query.before,
        "instrument": query.instrument,
        "rows": query.limit + 1,
    }


def slices_parameters(query: SliceQuery) -> dict[str, Any]:
    """The parameters of SELECT_SLICES; the first page begins before the first slice of its time."""
    after = query.after or SlicePlace(query.scheduled_from or _FIRST_TIME, BEFORE_LOG)
    return {
        "scheduled_at": after.scheduled_at,
        "created_position": after.created_position,
        "scheduled_before": query.scheduled_before or _LAST_TIME,
        "rows": query.limit + 1,
    }


async def _order_page(connection: Connection, query: OrderQuery) -> OrderPage:
    rows = await fetch(connection, orders_statement(query), orders_parameters(query))
    found = [row for row in rows if row[_CREATED_POSITION] is not None]
    page = found[: query.limit]
    slices = await _slices_of(connection, page)
    return OrderPage(
        orders=tuple(
            order_view(row[_STATE:], slices.get(row[_CREATED_POSITION], ())) for row in page
        ),
        as_of_position=rows[0][0] if rows else 0,
        next_before=page[-1][_CREATED_POSITION] if len(found) > query.limit else None,
    )


async def _slices_of(connection: Connection, page: list[Row]) -> dict[int, tuple[Slice, ...]]:
    """By position of creation. They are written with the outcome and never change."""
    positions = [row[_CREATED_POSITION] for row in page if row[_STATE] == "COMPLETED"]
    if not positions:
        return {}
    rows = await fetch(connection, _SELECT_SLICES_OF, (positions,))
    return {position: tuple(map(Slice, *columns)) for position, *columns in rows}
