"""A procrastinate worker that splits orders: one job per order, on a separate pool.

PULSE_DATABASE_URL=postgresql://... python -m benchmarks.peers.procrastinate_worker CONCURRENCY
"""

import asyncio
import os
import sys
from typing import Any, Final

import procrastinate
from psycopg_pool import AsyncConnectionPool

from benchmarks.peers.splitting import split_and_store

_URL: Final = os.environ.get("PULSE_DATABASE_URL", "")

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=_URL))
_orders: AsyncConnectionPool[Any] = AsyncConnectionPool(
    _URL, min_size=1, max_size=20, kwargs={"autocommit": True, "prepare_threshold": 0}, open=False
)


@app.task(queue="orders", name="split")
async def split(order_id: str) -> None:
    """Split one order and store its slices."""
    async with _orders.connection() as connection:
        await split_and_store(connection, order_id)


async def main(concurrency: int) -> None:
    """Run the worker. It deletes finished jobs, to keep the queue small."""
    async with app.open_async(), _orders:
        print("ready", flush=True)
        await app.run_worker_async(
            queues=["orders"],
            concurrency=concurrency,
            delete_jobs="always",
            fetch_job_polling_interval=0.1,
        )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
