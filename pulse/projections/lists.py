"""The lists: orders newest first, slices by time, read from the order queue."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg.sql import SQL, Composed, Identifier, Literal

from pulse.domain import Slice, SliceState
from pulse.eventstore import AFTER_LOG, BEFORE_LOG
from pulse.eventstore.log_fork import read_identity
from pulse.postgres import Connection, Reads, fetch, load_sql
from pulse.projections.order_view import ROW_COLUMNS, OrderQueueStatus, OrderView, Row, order_view
from pulse.projections.position import PROJECTION_NAME

MAX_ORDERS_PER_PAGE: Final = 200
MAX_SLICES_PER_PAGE: Final = 1000
MAX_EXAMINED: Final = 2_000
"""The maximum number of orders that a page with a filter by id, caller, trace or time examines."""

_FIRST_TIME: Final = datetime.min.replace(tzinfo=UTC)
_LAST_TIME: Final = datetime.max.replace(tzinfo=UTC)

SELECT_SLICES: Final = load_sql(__package__, "select_slices")
_SELECT_SLICES_OF = load_sql(__package__, "select_slices_of")
_WITHOUT_OUTCOME: Final[tuple[OrderQueueStatus, ...]] = ("PENDING", "IN_PROGRESS")
_COLUMNS: Final = SQL(", ").join(
    Identifier("q", column) for column in ("created_position", *ROW_COLUMNS)
)
_CREATED_POSITION, _STATE, _ORDER_ID = 1, 2, 3
"""Indexes into a row of the statements, whose first column is the projected position."""
_MATCHES, _NUMBER = 1, 2
"""The indexes of the columns that only find_orders has, after its first one."""
_SELECT_ORDERS: Final = SQL(load_sql(__package__, "select_orders"))
_SELECT_PENDING_ORDERS: Final = SQL(load_sql(__package__, "select_pending_orders"))
_FIND_ORDERS: Final = SQL(load_sql(__package__, "find_orders"))
_BEFORE: Final = SQL("created_position < %(before)b::bigint")
_OF_INSTRUMENT_BEFORE: Final = SQL(
    "(instrument, created_position) < (%(instrument)b::text, %(before)b::bigint)"
    " AND instrument >= %(instrument)b::text"
)
"""A range, not an equality: so only an index by instrument returns rows in the page's order."""
_COMPLETED: Final = SQL("state = 'COMPLETED'")
_FAILED: Final = SQL("failure_reason IS NOT NULL")
_FAILED_OF_INSTRUMENT: Final = SQL(
    "failure_reason IS NOT NULL AND instrument = %(instrument)b::text"
)
_CANCELLED: Final = SQL("cancelled_unsplit")
_CANCELLED_OF_INSTRUMENT: Final = SQL("cancelled_unsplit AND instrument = %(instrument)b::text")


def _orders(conditions: SQL) -> Composed:
    return _SELECT_ORDERS.format(
        columns=_COLUMNS,
        conditions=SQL(" AND ").join((_BEFORE, conditions)),
        order=SQL("created_position DESC"),
    )


def _orders_of_instrument(conditions: SQL) -> Composed:
    return _SELECT_ORDERS.format(
        columns=_COLUMNS,
        conditions=SQL(" AND ").join((_OF_INSTRUMENT_BEFORE, conditions)),
        order=SQL("instrument DESC, created_position DESC"),
    )


def _pending_orders(status: OrderQueueStatus) -> Composed:
    return _SELECT_PENDING_ORDERS.format(columns=_COLUMNS, status=Literal(status))


_STATEMENTS: Final[dict[tuple[OrderQueueStatus | None, bool], Composed]] = {
    (None, False): _orders(SQL("true")),
    (None, True): _orders_of_instrument(SQL("true")),
    ("COMPLETED", False): _orders(_COMPLETED),
    ("COMPLETED", True): _orders_of_instrument(_COMPLETED),
    ("FAILED", False): _orders(_FAILED),
    ("FAILED", True): _orders(_FAILED_OF_INSTRUMENT),
    ("CANCELLED", False): _orders(_CANCELLED),
    ("CANCELLED", True): _orders(_CANCELLED_OF_INSTRUMENT),
    **{(status, False): _pending_orders(status) for status in _WITHOUT_OUTCOME},
    **{(status, True): _pending_orders(status) for status in _WITHOUT_OUTCOME},
}
"""By status, and whether it is for one instrument. Each reads one index in order: at most the page
is sorted."""

_BY_INDEX: Final = {
    name: _FIND_ORDERS.format(columns=_COLUMNS, candidates=SQL(load_sql(__package__, file)))
    for name, file in (
        ("order_id", "candidates_of_id"),
        ("trace_id", "candidates_of_trace"),
        ("placed_by", "candidates_of_caller"),
        ("pending", "candidates_pending"),
        ("FAILED", "candidates_failed"),
        ("CANCELLED", "candidates_cancelled"),
        ("instrument", "candidates_of_instrument"),
        ("all", "candidates"),
    )
}
"""The statements, by the index from which the candidates are read."""


class OrderQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A query of the list of orders; None means no filter.

    `since` (inclusive) and `before` are positions of creation. `created_from` (inclusive) and
    `created_before` bound `created_at` exactly; they are fast only together with the positions.
    With `of_caller_only`, only orders of the caller `placed_by` are examined. `log_id` is the log
    that `before` refers to; None if no log is given. The page must reflect the log up to
    `min_position` or further.
    """

    limit: int
    order_queue_status: OrderQueueStatus | None = None
    instrument: str | None = None
    order_id: UUID | None = None
    placed_by: str | None = None
    trace_id: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None
    since: int = 0
    before: int | None = None
    log_id: UUID | None = None
    of_caller_only: bool = False
    min_position: int = 0

    @property
    def examines(self) -> bool:
        """Whether a page examines up to MAX_EXAMINED orders that may not match."""
        of_index = (self.order_id, self.placed_by, self.trace_id)
        return any(
            value is not None for value in (*of_index, self.created_from, self.created_before)
        )


class OrderPage(msgspec.Struct, frozen=True):
    """Orders, newest first by position of creation, as of a position of the log.

    `next_before` is the `before` of the next page; None on the last page. With a filter by id,
    caller, trace or time, a page that is not the last may have fewer than `limit` orders, or none.
    `last_examined` is the order at `next_before`. `log_id` is the log that was read and that
    `next_before` refers to; None on the last page of a query that names no log.
    """

    orders: tuple[OrderView, ...]
    as_of_position: int
    next_before: int | None
    last_examined: UUID | None = None
    log_id: UUID | None = None


class SliceCursorKey(msgspec.Struct, frozen=True):
    """The keyset of a slice in the list. It is unique: no order has two slices at one time."""

    scheduled_at: datetime
    created_position: int


class SliceQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A query of the list of slices, between two times.

    `after` is the cursor of a page, in the log `log_id`; None if no log is given. The page must
    reflect the log up to `min_position` or further.
    """

    limit: int
    scheduled_from: datetime | None = None
    scheduled_before: datetime | None = None
    after: SliceCursorKey | None = None
    log_id: UUID | None = None
    min_position: int = 0


class ScheduledSlice(msgspec.Struct, frozen=True, gc=False):
    """A slice with the fields of its order that the list shows."""

    order_id: UUID
    instrument: str
    side: str
    sequence_number: int
    quantity: int
    scheduled_at: datetime
    state: SliceState


class SlicePage(msgspec.Struct, frozen=True):
    """Slices by time; `next_after` is the cursor of the next page, None on the last page.

    `log_id` is as in `OrderPage`. `as_of_position` is the position of the log that the page
    reflects, 0 if it has no slices.
    """

    slices: tuple[ScheduledSlice, ...]
    next_after: SliceCursorKey | None
    log_id: UUID | None = None
    as_of_position: int = 0


async def read_orders(reads: Reads, query: OrderQuery) -> OrderPage:
    """Read a page of the list. Successive pages neither skip nor repeat an order.

    `reads` decides which server is read, and must ensure `query.min_position`.

    With a status, a page has the orders that have this status when the page is read. An order that
    changes its status between two pages may be on neither of them.

    Raises:
        DatabaseUnavailable: the queue cannot be read.
    """
    if not 1 <= query.limit <= MAX_ORDERS_PER_PAGE:
        raise ValueError(f"a page has 1 to {MAX_ORDERS_PER_PAGE} orders, not {query.limit}")
    return await reads.read(lambda connection: _order_page(connection, query))


async def read_slices(reads: Reads, query: SliceQuery) -> SlicePage:
    """Read a page of the list. Successive pages neither skip nor repeat a slice: its time is fixed.

    Raises:
        DatabaseUnavailable: the queue cannot be read.
    """
    if not 1 <= query.limit <= MAX_SLICES_PER_PAGE:
        raise ValueError(f"a page has 1 to {MAX_SLICES_PER_PAGE} slices, not {query.limit}")
    return await reads.read(lambda connection: _slice_page(connection, query))


async def log_id_of_page(
    connection: Connection, query: OrderQuery | SliceQuery, next_cursor: object | None
) -> UUID | None:
    """The id of the log that was read, if there is a next page or the query names a log."""
    if next_cursor is None and query.log_id is None:
        return None
    return (await read_identity(connection)).log_id


async def _slice_page(connection: Connection, query: SliceQuery) -> SlicePage:
    rows = await fetch(connection, SELECT_SLICES, slices_parameters(query))
    slices = tuple(ScheduledSlice(*row[2:]) for row in rows[: query.limit])
    as_of_position = rows[0][0] if rows else 0
    last = None
    if len(rows) > query.limit:
        last = SliceCursorKey(slices[-1].scheduled_at, rows[query.limit - 1][1])
    log_id = await log_id_of_page(connection, query, last)
    return SlicePage(slices, last, log_id, as_of_position)


def orders_statement(query: OrderQuery) -> Composed:
    """The statement for this query's filters, prepared once per connection."""
    if not query.examines:
        return _STATEMENTS[query.order_queue_status, query.instrument is not None]
    return _BY_INDEX[_index_for(query)]


def _index_for(query: OrderQuery) -> str:
    """The index that probably has the fewest candidates.

    A trace and the statuses other than COMPLETED have few orders. A caller may have most orders.
    """
    status = query.order_queue_status
    choices = (
        ("order_id", query.order_id is not None),
        ("trace_id", query.trace_id is not None and not query.of_caller_only),
        ("placed_by", query.of_caller_only),
        ("pending", status in _WITHOUT_OUTCOME),
        ("FAILED", status == "FAILED"),
        ("CANCELLED", status == "CANCELLED"),
        ("placed_by", query.placed_by is not None),
        ("instrument", query.instrument is not None),
    )
    return next((name for name, applies in choices if applies), "all")


def orders_parameters(query: OrderQuery) -> dict[str, Any]:
    """The parameters of its statement. It reads one row too many, to see whether a page follows."""
    return {
        "projection": PROJECTION_NAME,
        "before": AFTER_LOG if query.before is None else query.before,
        "instrument": query.instrument,
        "rows": query.limit + 1,
    } | (_find_parameters(query) if query.examines else {})


def _find_parameters(query: OrderQuery) -> dict[str, Any]:
    return {
        "status": query.order_queue_status,
        "order_id": query.order_id,
        "placed_by": query.placed_by,
        "trace_id": query.trace_id,
        "created_from": query.created_from,
        "created_before": query.created_before,
        "since": query.since,
        "examined": MAX_EXAMINED,
    }


def slices_parameters(query: SliceQuery) -> dict[str, Any]:
    """The parameters of SELECT_SLICES. The first page starts at `scheduled_from` (inclusive)."""
    after = query.after or SliceCursorKey(query.scheduled_from or _FIRST_TIME, BEFORE_LOG)
    return {
        "projection": PROJECTION_NAME,
        "scheduled_at": after.scheduled_at,
        "created_position": after.created_position,
        "scheduled_before": query.scheduled_before or _LAST_TIME,
        "rows": query.limit + 1,
    }


async def _order_page(connection: Connection, query: OrderQuery) -> OrderPage:
    rows = await fetch(connection, orders_statement(query), orders_parameters(query))
    as_of_position = rows[0][0] if rows else 0
    last_examined = None
    if query.examines:
        rows, last_examined = _matching(rows)
    found = [row for row in rows if row[_CREATED_POSITION] is not None]
    page = found[: query.limit]
    last = page[-1] if len(found) > query.limit else last_examined
    slices = await _slices_of(connection, page)
    return OrderPage(
        orders=tuple(
            order_view(row[_STATE:], slices.get(row[_CREATED_POSITION], ())) for row in page
        ),
        as_of_position=as_of_position,
        next_before=None if last is None else last[_CREATED_POSITION],
        last_examined=None if last is None else last[_ORDER_ID],
        log_id=await log_id_of_page(connection, query, last),
    )


def _matching(rows: Sequence[Row]) -> tuple[list[Row], Row | None]:
    """The rows that match, and the last candidate if there may be more.

    The two columns that only find_orders has are removed.
    """
    last = [(row[0], *row[3:]) for row in rows if row[_NUMBER] == MAX_EXAMINED]
    return [(row[0], *row[3:]) for row in rows if row[_MATCHES]], last[0] if last else None


async def _slices_of(connection: Connection, page: list[Row]) -> dict[int, tuple[Slice, ...]]:
    """The slices of the COMPLETED orders on the page, by position of creation."""
    positions = [row[_CREATED_POSITION] for row in page if row[_STATE] == "COMPLETED"]
    if not positions:
        return {}
    rows = await fetch(connection, _SELECT_SLICES_OF, (positions,))
    return {position: tuple(map(Slice, *columns)) for position, *columns in rows}
