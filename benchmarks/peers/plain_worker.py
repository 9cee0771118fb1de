"""The plain service's worker, as in Pulse's first design: it polls every 5 seconds.

PULSE_DATABASE_URL=postgresql://... python -m benchmarks.peers.plain_worker
"""

import asyncio
import os
from typing import Any, Final

import psycopg

from benchmarks.peers.splitting import INSERT_SLICES, schedule_of

_POLL_SECONDS: Final = 5.0
_BATCH: Final = 10
_CLAIM: Final = """
SELECT order_id, total_quantity, num_splits, duration_minutes, randomize,
       created_at
  FROM plain_orders
 WHERE state = 'PENDING'
 ORDER BY created_at
 LIMIT %s
   FOR UPDATE SKIP LOCKED"""
_COMPLETE: Final = """
UPDATE plain_orders SET state = 'COMPLETED', split_completed_at = clock_timestamp()
 WHERE order_id = ANY (%s)"""


async def split_batch(connection: psycopg.AsyncConnection[Any]) -> int:
    """Split up to ten orders in one transaction; returns their number."""
    async with connection.transaction():
        cursor = await connection.execute(_CLAIM, (_BATCH,))
        orders = await cursor.fetchall()
        for order_id, *terms in orders:
            await connection.execute(INSERT_SLICES, schedule_of(order_id, *terms))
        await connection.execute(_COMPLETE, ([order[0] for order in orders],))
    return len(orders)


async def main() -> None:
    """Split all pending orders, then sleep, repeatedly."""
    async with await psycopg.AsyncConnection.connect(
        os.environ["PULSE_DATABASE_URL"], autocommit=True
    ) as connection:
        print("ready", flush=True)
        while True:
            while await split_batch(connection):
                pass
            await asyncio.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    asyncio.run(main())
