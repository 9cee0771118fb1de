"""The job of a peer's worker: Pulse's split function, and one INSERT for the slices."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection

from pulse.domain import SplitTerms, split

INSERT_SLICES: Final = """
INSERT INTO plain_slices (order_id, sequence_number, quantity, scheduled_at)
SELECT * FROM unnest(%s::uuid[], %s::integer[], %s::bigint[], %s::timestamptz[])"""


def schedule_of(  # noqa: PLR0917 - a row of plain_orders
    order_id: UUID,
    total_quantity: int,
    num_splits: int,
    duration_minutes: int,
    randomize: bool,  # noqa: FBT001
    created_at: datetime,
) -> tuple[list[Any], ...]:
    """The parameters of INSERT_SLICES."""
    terms = SplitTerms(
        total_quantity=total_quantity,
        num_splits=num_splits,
        duration_minutes=duration_minutes,
        randomize=randomize,
        seed=order_id.int & (2**64 - 1),
        starts_at=created_at,
    )
    slices = split(terms, 1)
    return (
        [order_id] * len(slices),
        [s.sequence_number for s in slices],
        [s.quantity for s in slices],
        [s.scheduled_at for s in slices],
    )


_SELECT_ORDER: Final = """
SELECT order_id, total_quantity, num_splits, duration_minutes, randomize,
       created_at
  FROM plain_orders WHERE order_id = %s AND state = 'PENDING'"""
_COMPLETE_ORDER: Final = """
UPDATE plain_orders SET state = 'COMPLETED', split_completed_at = clock_timestamp()
 WHERE order_id = %s"""


async def split_and_store(connection: AsyncConnection[Any], order_id: str) -> None:
    """Read the order, split it, and store its slices and state in one transaction."""
    async with connection.transaction(), connection.pipeline():
        cursor = await connection.execute(_SELECT_ORDER, (order_id,))
        row = await cursor.fetchone()
        if row is not None:
            await connection.execute(INSERT_SLICES, schedule_of(*row))
            await connection.execute(_COMPLETE_ORDER, (order_id,))
