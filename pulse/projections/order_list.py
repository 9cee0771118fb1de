"""The list of orders, newest first, as the projection has them at one position of the log."""

from datetime import datetime
from typing import Any, Final, LiteralString

import msgspec

from pulse.domain import Slice, SplitConfigRequest
from pulse.postgres import Connection, Database, load_sql
from pulse.projections.order_view import OrderQueueStatus, OrderView
from pulse.projections.projector import PROJECTION_NAME

MOST_ORDERS_A_PAGE: Final = 200
_BEYOND_EVERY_POSITION: Final = 2**63 - 1

_SELECT_ORDERS = load_sql(__package__, "select_orders")
_FIND_ORDERS = load_sql(__package__, "find_orders")
_FIND_ORDERS_OF_INSTRUMENT = load_sql(__package__, "find_orders_of_instrument")
_FIND_ORDERS_OF_INSTRUMENT_IN_ANY_STATE = load_sql(
    __package__, "find_orders_of_instrument_in_any_state"
)
_FIND_ORDERS_IN_PROGRESS = load_sql(__package__, "find_orders_in_progress")

_INSTRUMENT: Final = "AND q.instrument = %(instrument)b::text"
_STATES: Final[dict[OrderQueueStatus, LiteralString]] = {
    "PENDING": """AND q.state = 'PENDING'
   AND NOT EXISTS (
       SELECT FROM order_claims c WHERE c.order_id = q.order_id AND c.claimed_by IS NOT NULL)""",
    "COMPLETED": "AND q.state = 'COMPLETED'",
    "FAILED": "AND q.state = 'FAILED'",
}


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


async def read_orders(database: Database, query: OrderQuery) -> OrderPage:
    """A page of the list. Pages that follow each other neither skip nor repeat an order.

    A status is the one an order has when its page is read: an order that changes its status
    between two pages is where its new status has it.

    Raises:
        DatabaseUnavailable: it cannot be told.
    """
    return await database.read(lambda connection: _page(connection, query))


def orders_statement(query: OrderQuery) -> LiteralString:
    """The statement that answers such a query: ten in all, each prepared once a connection."""
    return _SELECT_ORDERS.replace("/* page */", _finding(query))


def _finding(query: OrderQuery) -> LiteralString:
    status, any_instrument = query.order_queue_status, query.instrument is None
    if status == "IN_PROGRESS":
        return _FIND_ORDERS_IN_PROGRESS.replace(
            "/* filter */", "" if any_instrument else _INSTRUMENT
        )
    if status is None:
        return _FIND_ORDERS if any_instrument else _FIND_ORDERS_OF_INSTRUMENT_IN_ANY_STATE
    found = _FIND_ORDERS if any_instrument else _FIND_ORDERS_OF_INSTRUMENT
    return found.replace("/* filter */", _STATES[status])


def orders_parameters(query: OrderQuery) -> dict[str, Any]:
    """The parameters of its statement; one row more than the page tells whether another follows."""
    return {
        "projection": PROJECTION_NAME,
        "before": _BEYOND_EVERY_POSITION if query.before is None else query.before,
        "instrument": query.instrument,
        "rows": query.limit + 1,
    }


async def _page(connection: Connection, query: OrderQuery) -> OrderPage:
    if not 1 <= query.limit <= MOST_ORDERS_A_PAGE:
        raise ValueError(f"a page has 1 to {MOST_ORDERS_A_PAGE} orders, not {query.limit}")
    statement, parameters = orders_statement(query), orders_parameters(query)
    cursor = connection.cursor(binary=True)
    await cursor.execute(statement, parameters, prepare=True)
    rows = await cursor.fetchall()
    found = [row for row in rows if row[1] is not None][: query.limit]
    return OrderPage(
        orders=tuple(_view(*row[2:]) for row in found),
        as_of_position=rows[0][0],
        next_before=found[-1][1] if len(rows) > query.limit else None,
    )


def _view(  # noqa: PLR0913, PLR0917 - the columns of the statement, in their order
    order_id: Any,  # noqa: ANN401
    order_unique_key: str,
    instrument: str,
    side: str,
    total_quantity: int,
    num_splits: int,
    duration_minutes: int,
    randomize: bool,  # noqa: FBT001
    state: OrderQueueStatus,
    failure_reason: str | None,
    failure_message: str | None,
    version: int,
    position: int,
    placed_by: str,
    created_at: datetime,
    updated_at: datetime,
    split_completed_at: datetime | None,
    claimed_by: str | None,
    claimed_at: datetime | None,
    sequence_numbers: list[int] | None,
    quantities: list[int] | None,
    scheduled_ats: list[datetime] | None,
) -> OrderView:
    return OrderView(
        order_id=order_id,
        order_unique_key=order_unique_key,
        instrument=instrument,
        side=side,
        total_quantity=total_quantity,
        split_config=SplitConfigRequest(num_splits, duration_minutes, randomize),
        order_queue_status="IN_PROGRESS" if claimed_by is not None else state,
        failure_reason=failure_reason,
        failure_message=failure_message,
        version=version,
        position=position,
        placed_by=placed_by,
        created_at=created_at,
        updated_at=updated_at,
        split_completed_at=split_completed_at,
        claimed_by=claimed_by,
        claimed_at=claimed_at,
        slices=tuple(map(Slice, sequence_numbers or (), quantities or (), scheduled_ats or ())),
    )
