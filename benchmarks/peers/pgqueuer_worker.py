"""A pgqueuer worker that splits orders: one job per order, claimed in batches, over asyncpg.

PULSE_DATABASE_URL=postgresql://... python -m benchmarks.peers.pgqueuer_worker BATCH
"""

import asyncio
import os
import sys
from datetime import timedelta
from typing import Any, Final

import asyncpg
from pgqueuer import AsyncpgPoolDriver, Job, PgQueuer
from psycopg_pool import AsyncConnectionPool

from benchmarks.peers.splitting import split_and_store

_URL: Final = os.environ.get("PULSE_DATABASE_URL", "")


async def main(batch: int) -> None:
    """Run the worker. The jobs use psycopg for their statements, as Pulse does."""
    orders: AsyncConnectionPool[Any] = AsyncConnectionPool(
        _URL,
        min_size=1,
        max_size=20,
        kwargs={"autocommit": True, "prepare_threshold": 0},
        open=False,
    )
    async with asyncpg.create_pool(_URL, min_size=2, max_size=10) as pool, orders:
        queue = PgQueuer(AsyncpgPoolDriver(pool))

        @queue.entrypoint("split")
        async def split(job: Job) -> None:
            async with orders.connection() as connection:
                await split_and_store(connection, (job.payload or b"").decode())

        print("ready", flush=True)
        await queue.run(dequeue_timeout=timedelta(seconds=0.1), batch_size=batch)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
