"""Reads the order queue, and computes from the events what it must be."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import msgspec
from psycopg.rows import dict_row

from pulse.domain import Event, Order, Slice, SliceState, evolve
from pulse.domain.events import flat_fields
from pulse.postgres import Connection, Database
from pulse.projections.projector import Projected, Projector
from tests.support.events import MAPPER
from tests.support.log import fetch, fetch_as_superuser

Row = dict[str, Any]

_ORDERS = """
SELECT order_id, order_unique_key, key_scope, placed_by, instrument, side, total_quantity,
       num_splits, duration_minutes, randomize, order_queue_status, failure_reason,
       failure_message, version, position, created_position, created_at, updated_at,
       split_completed_at, release, trace_id, remaining_quantity, released_quantity,
       cancelled_quantity, expired_quantity, start_at, session_policy, window_starts_at,
       window_ends_at
  FROM order_queue_status"""
_SLICES = """
SELECT order_id, sequence_number, instrument, side, quantity, scheduled_at, state
  FROM order_slices ORDER BY order_id, sequence_number"""
_WRONGLY_PENDING = """
SELECT created_position
  FROM (SELECT created_position, order_id, created_at, splitter_version, instrument
          FROM order_queue WHERE state = 'PENDING') q
  FULL JOIN pending_orders p USING (created_position)
 WHERE (q.order_id, q.created_at, q.splitter_version, q.instrument)
       IS DISTINCT FROM (p.order_id, p.created_at, p.splitter_version, p.instrument)"""

_DUE = """
SELECT q.order_id, d.due_at
  FROM due_orders d
  LEFT JOIN order_queue q USING (created_position)"""


async def queue(database: Database) -> dict[UUID, Row]:
    """The orders of the queue with their slices and when they are due, without claims."""
    orders, slices, wrongly_pending, due = await database.read(_queue)
    assert not wrongly_pending, "pending_orders are not the orders without an outcome"
    by_order: dict[UUID, list[Row]] = defaultdict(list)
    for row in slices:
        by_order[row.pop("order_id")].append(row)
    due_at = {row["order_id"]: row["due_at"] for row in due}
    found = {
        row["order_id"]: row
        | {
            "slices": by_order.pop(row["order_id"], []),
            "due_at": due_at.pop(row["order_id"], None),
        }
        for row in orders
    }
    assert not by_order, "slices without an order"
    assert not due_at, "due orders that do not exist"
    return found


async def _queue(connection: Connection) -> list[list[Row]]:
    cursor = connection.cursor(row_factory=dict_row)
    statements = (_ORDERS, _SLICES, _WRONGLY_PENDING, _DUE)
    return [await (await cursor.execute(statement)).fetchall() for statement in statements]


def folded(log: Iterable[tuple[int, Event]]) -> dict[UUID, Row]:
    """The queue that these events at these positions must produce."""
    orders: dict[UUID, Order] = {}
    created: dict[UUID, int] = {}
    latest: dict[UUID, int] = {}
    for position, event in log:
        orders[event.originator_id] = evolve(orders.get(event.originator_id), event)
        created.setdefault(event.originator_id, position)
        latest[event.originator_id] = position
    return {
        order_id: _row(order)
        | {"position": latest[order_id], "created_position": created[order_id]}
        for order_id, order in orders.items()
    }


def _row(order: Order) -> Row:
    return {
        "order_id": order.id,
        **flat_fields(order.spec),
        "key_scope": order.key_scope,
        "placed_by": order.placed_by,
        "order_queue_status": order.state,
        "failure_reason": order.failure_reason,
        "failure_message": order.failure_message,
        "version": order.version,
        "created_at": order.created_at,
        "updated_at": order.updated_at,
        "split_completed_at": order.split_completed_at,
        "release": order.release,
        "window_starts_at": order.window.starts_at,
        "window_ends_at": order.window.ends_at,
        "trace_id": order.trace_id,
        **{
            f"{state}_quantity": shares
            for state, shares in msgspec.structs.asdict(order.quantities).items()
        },
        "slices": [
            _slice_row(order, s, state)
            for s, state in zip(order.slices, order.slice_states, strict=True)
        ],
        "due_at": order.due_at,
    }


def _slice_row(order: Order, s: Slice, state: SliceState) -> Row:
    return {
        "sequence_number": s.sequence_number,
        "instrument": order.spec.instrument,
        "side": order.spec.side,
        "quantity": s.quantity,
        "scheduled_at": s.scheduled_at,
        "state": state,
    }


def projector(database: Database, batch_events: int = 1000) -> Projector:
    """A new projector."""
    return Projector(database, MAPPER, batch_events=batch_events)


async def project(database: Database, batch_events: int = 1000) -> list[Projected]:
    """Project to the end of the log; returns the steps that projected events."""
    steps: list[Projected] = []
    projecting = projector(database, batch_events)
    while True:
        result = await projecting.run_once()
        assert isinstance(result, Projected)
        if not result.events:
            return steps
        steps.append(result)


async def position(database: Database) -> int:
    """The projection's position."""
    rows = await fetch(
        database,
        "SELECT notification_id FROM notification_tracking WHERE application_name = 'order_queue'",
    )
    assert len(rows) == 1
    return int(rows[0][0])


async def reset_read_model(database: Database) -> None:
    """Empty the read model, as if nothing had been projected yet."""
    await fetch_as_superuser(
        database, "TRUNCATE order_queue, scheduled_slices, pending_orders, due_orders"
    )
    await fetch(
        database,
        "UPDATE notification_tracking SET notification_id = 0"
        " WHERE application_name = 'order_queue'",
    )


async def reset_log(database: Database) -> None:
    """Empty the read model and the log, with the log's triggers disabled."""
    for statement in (
        "ALTER TABLE stored_events DISABLE TRIGGER ALL",
        "TRUNCATE stored_events, queue_history",
        "ALTER TABLE stored_events ENABLE TRIGGER ALL",
    ):
        await fetch_as_superuser(database, statement)
    await reset_read_model(database)
