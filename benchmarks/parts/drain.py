"""Draining a backlog, compared with plain SQL and with job queues."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, LiteralString
from uuid import uuid4

import asyncpg
import procrastinate
from pgqueuer import AsyncpgDriver, Queries

from benchmarks.bench import Bench, Candidate
from benchmarks.database import Database, Server
from benchmarks.peers import plain
from benchmarks.process import Process
from benchmarks.sample import fill_log

TITLE: Final = "drain a backlog: claim, split, append, project"
_SECONDS: Final = 300.0
_BATCHES: Final = (10, 100, 500)
_BEST_BATCH: Final = 500
_PROCESSES: Final = (2, 4)
_SQL_BATCH: Final = 500

ALL_PROJECTED: Final = """
SELECT logged.events >= %s AND t.notification_id >= logged.events
  FROM (SELECT max(notification_id) AS events FROM stored_events) logged
  JOIN notification_tracking t ON t.application_name = 'order_queue'"""
_COMPLETED: Final = "SELECT count(*) FROM order_queue WHERE state = 'COMPLETED'"
_NONE_PENDING: Final = "SELECT NOT EXISTS (SELECT FROM plain_orders WHERE state = 'PENDING')"
_FILL_PLAIN: Final = """
INSERT INTO plain_orders (order_id, order_unique_key, instrument, side, total_quantity, num_splits,
                          duration_minutes, randomize)
SELECT md5(%(salt)s || n)::uuid, %(salt)s || n, 'NSE:RELIANCE', 'BUY', 100 * %(splits)s::int,
       %(splits)s, 600, true
  FROM generate_series(1, %(orders)s::bigint) n"""

Turn = Callable[[], Awaitable[float]]


async def run(bench: Bench) -> None:
    """Many orders with few slices, then few orders with many."""
    async with bench.server() as server:
        for orders, splits in ((20_000, 5), (2_000, 100)):
            few = bench.sized(orders, 200)
            drain = _Drain(bench, server, few, splits)
            setting = f"{few:,} orders of {splits} slices"
            await bench.compare(
                f"{setting}, 1 process, batch {_BEST_BATCH}",
                "orders/s",
                [
                    Candidate("Pulse", drain.by_pulse(1, _BEST_BATCH)),
                    *(
                        Candidate(f"Pulse, batch {batch}", drain.by_pulse(1, batch))
                        for batch in _BATCHES[:-1]
                    ),
                    *(
                        Candidate(f"Pulse, {count} processes", drain.by_pulse(count, _BEST_BATCH))
                        for count in _PROCESSES
                    ),
                    Candidate("SQL alone", drain.by_sql_alone, 0.5),
                    Candidate("procrastinate", drain.by_procrastinate, 1.0),
                    Candidate("pgqueuer", drain.by_pgqueuer, 1.0),
                ],
                warm=False,
            )


class _Drain:
    """Each turn has a new database, and is timed from the backlog's commit to its completion."""

    def __init__(self, bench: Bench, server: Server, orders: int, splits: int) -> None:
        self._bench = bench
        self._server = server
        self._orders = orders
        self._splits = splits

    def by_pulse(self, processes: int, batch: int) -> Turn:
        """Workers that already run; timed until every order is COMPLETED in the read model."""

        async def turn() -> float:
            async with AsyncExitStack() as stack:
                database = await stack.enter_async_context(self._fresh())
                for _ in range(processes):
                    worker = Process.running(
                        self._bench.home,
                        *("-m", "pulse.cli", "background"),
                        settings={
                            "database_url": database.url,
                            "batch_size": batch,
                            "log_level": "info",
                        },
                        ready="workers.started",
                    )
                    await stack.enter_async_context(worker)
                await fill_log(database, self._orders, num_splits=self._splits, stage="created")
                rate = await self._rate(database, ALL_PROJECTED, 2 * self._orders)
                if await database.figure(_COMPLETED) != self._orders:
                    raise RuntimeError("not every order was COMPLETED")
                return rate

        return turn

    async def by_sql_alone(self) -> float:
        """The same rows as Pulse, written by SQL, 500 orders per transaction."""
        async with self._fresh() as database, await database.connect() as connection:
            await fill_log(database, self._orders, num_splits=self._splits, stage="completed")
            await connection.execute("CREATE TABLE filled AS SELECT * FROM stored_events")
            await connection.execute("CREATE INDEX ON filled (notification_id)")
            await connection.execute("ALTER TABLE stored_events DISABLE TRIGGER USER")
            await connection.execute("TRUNCATE stored_events")
            await connection.execute("ANALYZE filled")
            await self._server.checkpoint()
            begun = time.perf_counter()
            for first in range(0, self._orders, _SQL_BATCH):
                for statement in _PULSE_WRITES:
                    await connection.execute(
                        statement,
                        {
                            "after": 2 * first,
                            "up_to": 2 * (first + _SQL_BATCH),
                            "splits": self._splits,
                        },
                        prepare=True,
                    )
            return self._orders / (time.perf_counter() - begun)

    async def by_procrastinate(self) -> float:
        """A worker that already runs, with 50 concurrent jobs; timed from the jobs' commit."""
        async with self._plain() as database:
            app = procrastinate.App(
                connector=procrastinate.PsycopgConnector(conninfo=database.conninfo)
            )
            async with app.open_async():
                await app.schema_manager.apply_schema_async()
                async with self._working(database, "procrastinate_worker", 50):
                    split = app.configure_task("split", queue="orders")
                    jobs: list[dict[str, Any]] = [
                        {"order_id": order} for order in await _plain_ids(database)
                    ]
                    await split.batch_defer_async(*jobs)
                    return await self._rate(database, _NONE_PENDING)

    async def by_pgqueuer(self) -> float:
        """A worker that already runs, with batches of 100 jobs; timed from the jobs' commit."""
        async with self._plain() as database:
            connection = await asyncpg.connect(database.url)
            try:
                queries = Queries(AsyncpgDriver(connection))
                await queries.install()
                async with self._working(database, "pgqueuer_worker", 100):
                    ids = await _plain_ids(database)
                    payloads: list[bytes | None] = [order.encode() for order in ids]
                    await queries.enqueue(["split"] * len(ids), payloads, [0] * len(ids))
                    return await self._rate(database, _NONE_PENDING)
            finally:
                await connection.close()

    @asynccontextmanager
    async def _working(self, database: Database, peer: str, setting: int) -> AsyncIterator[None]:
        async with Process.running(
            self._bench.home,
            *("-m", f"benchmarks.peers.{peer}", str(setting)),
            settings={"database_url": database.url},
            ready="ready",
        ):
            yield

    @asynccontextmanager
    async def _fresh(self) -> AsyncIterator[Database]:
        async with self._server.database() as database:
            await self._server.checkpoint()
            yield database

    @asynccontextmanager
    async def _plain(self) -> AsyncIterator[Database]:
        async with self._server.database(migrated=False) as database:
            await database.rows(plain.CREATE)
            async with await database.connect() as connection:
                await connection.execute(
                    _FILL_PLAIN,
                    {"salt": uuid4().hex, "orders": self._orders, "splits": self._splits},
                )
            await self._server.checkpoint()
            yield database

    async def _rate(self, database: Database, done: LiteralString, *parameters: object) -> float:
        begun = time.perf_counter()
        await database.until(done, *parameters, seconds=_SECONDS)
        return self._orders / (time.perf_counter() - begun)


async def _plain_ids(database: Database) -> list[str]:
    return [str(row[0]) for row in await database.rows("SELECT order_id FROM plain_orders")]


_IN_BATCH: Final = "notification_id > %(after)s AND notification_id <= %(up_to)s"
_PULSE_WRITES: Final = (
    # the rows of the queue
    f"""WITH created AS (
            INSERT INTO order_queue
            SELECT originator_id, notification_id, 100, now(), %(splits)s, 600, 1, true,
                   s ->> 'instrument', 'BUY', 'internal', 'benchmark', s ->> 'order_unique_key', 1,
                   notification_id, now(), NULL, 'PENDING'
              FROM (SELECT *, convert_from(state, 'UTF8')::json AS s FROM filled
                     WHERE {_IN_BATCH} AND originator_version = 1) created
            RETURNING created_position, order_id, created_at, splitter_version, instrument)
        INSERT INTO pending_orders SELECT * FROM created""",
    # the claims
    f"""UPDATE pending_orders p
           SET claimed_by = 'host:1:worker', claimed_at = now(), first_claimed_at = now()
          FROM filled
         WHERE {_IN_BATCH} AND originator_version = 1 AND created_position = notification_id""",
    # the outcomes
    f"""INSERT INTO stored_events (originator_id, originator_version, topic, state)
        SELECT originator_id, originator_version, topic, state FROM filled
         WHERE {_IN_BATCH} AND originator_version = 2 ORDER BY notification_id""",
    # the projection of the outcomes
    f"""WITH settled AS (
            UPDATE order_queue
               SET state = 'COMPLETED', version = 2, position = notification_id,
                   updated_at = now(), split_completed_at = now()
              FROM filled
             WHERE {_IN_BATCH} AND originator_version = 2 AND order_id = originator_id
            RETURNING created_position),
        ended AS (
            DELETE FROM pending_orders p USING settled s
             WHERE p.created_position = s.created_position)
        INSERT INTO scheduled_slices (created_position, scheduled_at, quantity, sequence_number)
        SELECT created_position, now() + n * interval '1 s', 100, n
          FROM settled CROSS JOIN generate_series(1, %(splits)s) n""",
)
