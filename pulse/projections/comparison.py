"""The rows of the order queue in a window of the log, and how they differ from those expected.

The code of the projection computes the expected rows of each order from its events. The claim of a
pending order does not come from events: only its times can be checked.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

import msgspec
from psycopg.sql import SQL, Identifier

from pulse.domain import Event, Order
from pulse.postgres import Connection, fetch, load_sql
from pulse.projections.queue_writer import ORDER_COLUMNS, PENDING_COLUMNS, QueueChanges, Row

QueuePart = Literal["QUEUE", "SLICES", "PENDING", "CLAIM", "DUE"]
"""What differs: order_queue, scheduled_slices, pending_orders, the claim in it, or due_orders."""

PENDING_FROM_EVENTS: Final = PENDING_COLUMNS[:5]
_SLICE_COLUMNS: Final = ("sequence_number", "quantity", "scheduled_at")
_CREATED_POSITION: Final = ORDER_COLUMNS.index("created_position")
_ORDER_ID: Final = ORDER_COLUMNS.index("order_id")
_CLOCK_TOLERANCE: Final = timedelta(seconds=1)

SELECT_ORDERS: Final = SQL(load_sql(__package__, "select_orders_to_compare")).format(
    columns=SQL(", ").join(map(Identifier, ORDER_COLUMNS))
)
_SELECT_SLICES = load_sql(__package__, "select_slices_to_compare")
_SELECT_PENDING = load_sql(__package__, "select_pending_to_compare")
_SELECT_DUE = load_sql(__package__, "select_due_to_compare")
_SELECT_LAST_CREATED = load_sql(__package__, "select_last_created")


class Difference(msgspec.Struct, frozen=True):
    """A row that differs from the expected one, is missing, or should not exist."""

    part: QueuePart
    detail: str


class _Claim(msgspec.Struct, frozen=True):
    claimed_at: datetime | None
    first_claimed_at: datetime | None
    is_impossible: bool | None


class QueueRows(msgspec.Struct, frozen=True):
    """The rows of the queue's tables; orders by id, the others by position of creation."""

    orders: dict[UUID, tuple[Any, ...]]
    slices: dict[int, tuple[Any, ...]]
    pending: dict[int, tuple[Any, ...]]
    claims: dict[int, _Claim]
    due: dict[int, datetime]

    def differences(
        self, order: Order, events: Sequence[tuple[int, Event]], created_recorded_at: datetime
    ) -> list[Difference]:
        """How an order's rows differ from those that its events give.

        The order's rows are removed from this object, so that `rest` returns only the others.
        `events` are all events of the order that the projection has applied, with their positions;
        `order` is folded from them.
        """
        expected = QueueChanges()
        for position, event in events:
            expected.apply(position, event)
        (row,) = expected.created.values()
        position = row["created_position"]
        slices = expected.slices.get(row["order_id"], ())
        columns = tuple([getattr(s, name) for s in slices] for name in _SLICE_COLUMNS)
        found = [
            *_columns_differing(
                "QUEUE",
                "order_queue",
                ORDER_COLUMNS,
                self.orders.pop(row["order_id"], None),
                tuple(map(row.get, ORDER_COLUMNS)),
            ),
            *_slices_differing(self.slices.pop(position, None), columns if slices else None),
            *_columns_differing(
                "PENDING",
                "pending_orders",
                PENDING_FROM_EVENTS,
                self.pending.pop(position, None),
                expected_pending(row),
            ),
            *_claim_faults(self.claims.pop(position, None), created_recorded_at),
        ]
        due_at = self.due.pop(position, None)
        if due_at != order.due_at:
            found.append(_value_difference("DUE", "due_orders.due_at", due_at, order.due_at))
        return found

    def drop(self, order_id: UUID, position: int | None) -> None:
        """Remove the rows of an order that cannot be compared."""
        row = self.orders.pop(order_id, None)
        for each in (position, row[_CREATED_POSITION] if row else None):
            if each is not None:
                for rows in (self.slices, self.pending, self.claims, self.due):
                    rows.pop(each, None)

    def rest(self) -> Iterator[tuple[UUID | None, int, Difference]]:
        """The rows that belong to no order of the log: order id, position and what is wrong."""
        for order_id, row in self.orders.items():
            detail = "order_queue has a row of an order whose creation is not in the log"
            yield order_id, row[_CREATED_POSITION], Difference("QUEUE", detail)
        tables: tuple[tuple[QueuePart, str, Iterable[int]], ...] = (
            ("SLICES", "scheduled_slices", self.slices),
            ("PENDING", "pending_orders", self.pending),
            ("DUE", "due_orders", self.due),
        )
        for part, table, positions in tables:
            for position in positions:
                detail = (
                    f"{table} has rows with created_position {position}, where no order was created"
                )
                yield None, position, Difference(part, detail)


def no_queue_rows() -> QueueRows:
    """An empty QueueRows, for a verification without the queue."""
    return QueueRows({}, {}, {}, {}, {})


async def read_queue_rows(
    connection: Connection, order_ids: Sequence[UUID], *, after: int, until: int
) -> QueueRows:
    """Read the rows of some orders, and of any others created between `after` and `until`."""
    window = {"after": after, "until": until}
    orders = await fetch(connection, SELECT_ORDERS, {"order_ids": list(order_ids), **window})
    outside = [
        row[_CREATED_POSITION] for row in orders if not after < row[_CREATED_POSITION] <= until
    ]
    parameters = {"positions": outside, **window}
    pending = await fetch(connection, _SELECT_PENDING, parameters)
    width = len(PENDING_FROM_EVENTS)
    return QueueRows(
        orders={row[_ORDER_ID]: row for row in orders},
        slices={row[0]: row[1:] for row in await fetch(connection, _SELECT_SLICES, parameters)},
        pending={row[0]: row[:width] for row in pending},
        claims={row[0]: _Claim(*row[width:]) for row in pending},
        due=dict(await fetch(connection, _SELECT_DUE, parameters)),
    )


async def read_last_created(connection: Connection) -> int:
    """The position of creation of the newest order in the queue; 0 if the queue is empty."""
    ((position,),) = await fetch(connection, _SELECT_LAST_CREATED)
    return int(position)


def expected_pending(row: Row) -> tuple[Any, ...] | None:
    """The order's row in pending_orders, without its claim; None if it is not pending."""
    if row["state"] != "PENDING":
        return None
    return tuple(row[column] for column in PENDING_FROM_EVENTS)


def _columns_differing(
    part: QueuePart,
    table: str,
    columns: Sequence[str],
    stored: tuple[Any, ...] | None,
    expected: tuple[Any, ...] | None,
) -> Iterator[Difference]:
    if stored == expected:
        return
    if stored is None or expected is None:
        yield Difference(part, _one_missing(table, stored is None))
        return
    for column, value, other in zip(columns, stored, expected, strict=True):
        if value != other:
            yield _value_difference(part, f"{table}.{column}", value, other)


def _slices_differing(
    stored: tuple[Any, ...] | None, expected: tuple[list[Any], ...] | None
) -> Iterator[Difference]:
    if stored == expected:
        return
    if stored is None or expected is None:
        yield Difference("SLICES", _one_missing("scheduled_slices", stored is None))
        return
    rows, wanted = list(zip(*stored, strict=True)), list(zip(*expected, strict=True))
    if len(rows) != len(wanted):
        detail = f"scheduled_slices has {len(rows)} slices, the log gives {len(wanted)}"
        yield Difference("SLICES", detail)
    for row, other in zip(rows, wanted, strict=False):
        for column, value, right in zip(_SLICE_COLUMNS, row, other, strict=True):
            if value != right:
                name = f"scheduled_slices.{column} of slice {other[0]}"
                yield _value_difference("SLICES", name, value, right)
                return


def _claim_faults(claim: _Claim | None, created_recorded_at: datetime) -> Iterator[Difference]:
    if claim is None:
        return
    first = claim.first_claimed_at
    if claim.is_impossible:
        yield Difference("CLAIM", "the claim's times are in the future, or in the wrong order")
    elif first is not None and first < created_recorded_at - _CLOCK_TOLERANCE:
        yield Difference(
            "CLAIM", f"the order was first claimed at {_text(first)}, before it was recorded"
        )


def _one_missing(table: str, no_row: bool) -> str:  # noqa: FBT001 - which of the two is missing
    if no_row:
        return f"{table} has no row, the log gives one"
    return f"{table} has a row, the log gives none"


def _value_difference(part: QueuePart, name: str, value: object, expected: object) -> Difference:
    return Difference(part, f"{name} is {_text(value)}, the log gives {_text(expected)}")


def _text(value: object) -> str:
    return str(msgspec.to_builtins(value)) if value is not None else "NULL"
