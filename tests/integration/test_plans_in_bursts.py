"""A burst of orders with cached plans from a time without pending orders."""

from collections.abc import AsyncIterator
from uuid import uuid4

import psycopg
import pytest

from pulse.postgres import Database, PostgresLimits, load_sql
from pulse.projections.audit import Audit
from pulse.projections.claims import Claims, release_orphans
from tests.support.database import as_runtime, connect
from tests.support.events import orders_created, slices_scheduled, stored
from tests.support.log import write
from tests.support.plans import explain_analyze
from tests.support.read_model import project

BURST = 200_000
EXECUTIONS_UNTIL_A_GENERIC_PLAN = 12
"""The driver prepares statements; after five plans Postgres may use a generic one."""

_MAKE_EMPTY = ("DELETE FROM pending_orders", "VACUUM (ANALYZE) pending_orders")
_BURST = f"""
INSERT INTO pending_orders
SELECT n, md5(n::text)::uuid, now(), 1, 'NSE:X'
  FROM generate_series(1000000, 1000000 + {BURST}) n"""


def execute(conninfo: str, *statements: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture
async def idle(conninfo: str) -> AsyncIterator[Database]:
    """One session with plans cached on an empty table; its statements time out after 5 s."""
    database = Database(
        as_runtime(conninfo), pool_size=1, limits=PostgresLimits(statement_seconds=5)
    )
    await database.open()
    for _ in range(EXECUTIONS_UNTIL_A_GENERIC_PLAN):
        await work(conninfo, database, orders=1)
    execute(conninfo, *_MAKE_EMPTY)
    await look_for_work(database)
    await work(conninfo, database, orders=1)
    yield database
    await database.close()


async def look_for_work(database: Database) -> None:
    """The statements of an idle worker, and those of the other loops."""
    claims = Claims(database, "worker-1")
    await claims.release([uuid4(), *await claims.claim(1)])
    await release_orphans(database, 300)
    assert [
        f async for w in Audit(database).newest_windows(max_seconds=20) for f in w.findings
    ] == []


async def work(conninfo: str, database: Database, orders: int) -> None:
    """Project orders, claim, release and claim them again, project their outcomes, audit."""
    created = orders_created(orders)
    write(conninfo, *stored(created))
    await project(database)
    claims = Claims(database, "worker-1")
    await claims.release(await claims.claim(orders))
    assert len(await claims.claim(orders)) == orders
    assert await release_orphans(database, 300) == {"worker-1": orders}
    write(conninfo, *stored([slices_scheduled(each) for each in created]))
    await project(database)
    await look_for_work(database)


async def test_sessions_with_plans_from_an_empty_table_process_a_burst(
    conninfo: str, idle: Database
) -> None:
    """If a plan compared each of 500 orders with the whole burst, a statement would time out."""
    execute(conninfo, _BURST)
    await work(conninfo, idle, orders=500)


@pytest.mark.parametrize("orders", [1, 500])
def test_a_plan_cached_before_a_burst_finds_pending_orders_by_key(
    conninfo: str, orders: int
) -> None:
    created = orders_created(orders)
    write(conninfo, *stored(created))
    execute(conninfo, "ANALYZE stored_events", *_MAKE_EMPTY)
    statement = load_sql("pulse.projections", "select_order_streams").replace("%b", "%(ids)b")
    with connect(conninfo) as connection:
        parameters = {"ids": [each.originator_id for each in created]}
        nodes = explain_analyze(connection, "force_generic_plan", statement, parameters)
    (lookup,) = [node for node in nodes if node.relation == "pending_orders"]
    assert (lookup.index, lookup.loops) == ("pending_orders_pkey", orders)
