"""The plans of the lists over 200,000 orders: each page costs a page, wherever it stands."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, get_args
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pulse.eventstore import store
from pulse.postgres import Limits, load_sql
from pulse.projections.lists import (
    SELECT_SLICES,
    OrderQuery,
    SlicePlace,
    SliceQuery,
    orders_parameters,
    orders_statement,
    slices_parameters,
)
from pulse.projections.order_view import OrderQueueStatus
from pulse.projections.overview import MAX_EXAMINED
from tests.support.database import connect
from tests.support.many_orders import CLAIMS, SLICES_AN_ORDER, fill
from tests.support.plans import PlanMode, PlanNode, carried_out

ORDERS = 200_000
BIG_TABLES = {"order_queue", "order_slices", "stored_events"}
MODES: list[PlanMode] = ["force_generic_plan", "force_custom_plan"]
NOON = datetime(2026, 1, 5, 6, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def many_orders(postgres: str, template_database: str) -> Iterator[str]:
    name, template = sql.Identifier(f"pulse_many_{uuid4().hex[:12]}"), template_database
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(template))
        )
        conninfo = make_conninfo(postgres, dbname=name.as_string().strip('"'))
        fill(conninfo, ORDERS)
        yield conninfo
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def connection(many_orders: str) -> Iterator[psycopg.Connection[Any]]:
    """One with the settings of all of Pulse's."""
    with connect(many_orders, Limits(statement_seconds=60)) as connection:
        connection.autocommit = False
        yield connection
        connection.rollback()


def assert_costs(nodes: list[PlanNode], rows: int, *, filtered: int = 0) -> None:
    """No big table is read through, nothing is sorted but a page, hardly a row is in vain."""
    assert not [n for n in nodes if n.kind == "Seq Scan" and n.relation in BIG_TABLES]
    sorts = [n for n in nodes if "Sort" in n.kind]
    assert all(n.rows <= rows and not n.disk for n in sorts), sorts
    reads = [n for n in nodes if n.relation in BIG_TABLES or n.index]
    assert reads
    assert all(n.rows <= rows and n.rows_filtered <= filtered for n in reads), reads


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("instrument", [None, "NSE:SYM0", "NSE:SYM77", "NSE:NOBODY"])
@pytest.mark.parametrize("status", [None, *get_args(OrderQueueStatus)])
def test_a_page_of_orders_costs_a_page_whatever_the_filters(
    connection: psycopg.Connection[Any],
    status: OrderQueueStatus | None,
    instrument: str | None,
    mode: PlanMode,
) -> None:
    for before, limit in product((None, ORDERS, 3), (1, 50, 200)):
        query = OrderQuery(
            limit=limit, order_queue_status=status, instrument=instrument, before=before
        )
        nodes = carried_out(connection, mode, orders_statement(query), orders_parameters(query))
        most = max(limit + 1, SLICES_AN_ORDER, CLAIMS)
        assert_costs(nodes, most, filtered=CLAIMS)


@pytest.mark.parametrize("status", ["PENDING", "COMPLETED", "FAILED"])
def test_a_status_that_no_order_had_of_late_costs_no_more_though_no_statistics_know_it(
    connection: psycopg.Connection[Any], status: OrderQueueStatus
) -> None:
    other = "FAILED" if status == "COMPLETED" else "COMPLETED"
    connection.execute(
        "UPDATE order_queue SET state = CASE WHEN created_position <= 2000 THEN %s ELSE %s END",
        (status, other),
    )
    for instrument, mode in product((None, "NSE:SYM0"), MODES):
        query = OrderQuery(limit=50, order_queue_status=status, instrument=instrument)
        nodes = carried_out(connection, mode, orders_statement(query), orders_parameters(query))
        assert_costs(nodes, 51, filtered=CLAIMS)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "query",
    [
        SliceQuery(limit=100),
        SliceQuery(limit=1000, scheduled_from=NOON),
        SliceQuery(limit=1000, scheduled_from=NOON, scheduled_before=NOON + timedelta(hours=8)),
        SliceQuery(limit=1000, scheduled_before=NOON),
        SliceQuery(limit=10, after=SlicePlace(NOON, UUID(int=2**127), 1)),
        SliceQuery(limit=1000, scheduled_from=NOON + timedelta(days=999)),
    ],
)
def test_a_page_of_slices_costs_a_page(
    connection: psycopg.Connection[Any], query: SliceQuery, mode: PlanMode
) -> None:
    nodes = carried_out(connection, mode, SELECT_SLICES, slices_parameters(query))
    assert_costs(nodes, query.limit + 1)
    assert not [n for n in nodes if n.kind == "Sort"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("after", [0, ORDERS, 3 * ORDERS])
def test_a_page_of_the_log_costs_a_page_and_of_one_type_what_may_be_scanned(
    connection: psycopg.Connection[Any], after: int, mode: PlanMode
) -> None:
    numbered = load_sql("pulse.eventstore", "select_log")
    every = numbered.replace("%b", "%(after)b", 1).replace("%b", "%(limit)b", 1)
    nodes = carried_out(connection, mode, every, {"after": after, "limit": 1000})
    assert_costs(nodes, 1000)
    for event_type in ("OrderCreated", "SplittingFailed", "TimedOut"):
        parameters = {
            "after": after,
            "limit": 1000,
            "topic": f"pulse.domain:{event_type}",
            "most_scanned": store.MOST_SCANNED,
        }
        statement = load_sql("pulse.eventstore", "select_log_of_topic")
        nodes = carried_out(connection, mode, statement, parameters)
        assert_costs(nodes, store.MOST_SCANNED, filtered=store.MOST_SCANNED)
        assert all(n.rows <= 1000 for n in nodes if n.kind == "Sort")


@pytest.mark.parametrize("mode", MODES)
def test_the_queues_health_costs_a_thousand_orders(
    connection: psycopg.Connection[Any], mode: PlanMode
) -> None:
    statement = load_sql("pulse.projections", "select_queue_health")
    parameters = {"splitters": [1], "lately_seconds": 900.0}
    nodes = carried_out(connection, mode, statement, parameters)
    assert_costs(nodes, MAX_EXAMINED)


def test_no_page_is_compiled(connection: psycopg.Connection[Any]) -> None:
    """Up to Postgres 17 a page's price seems to warrant it: half a second for a millisecond."""
    row = connection.execute("SHOW jit").fetchone()
    assert row == ("off",)


@pytest.mark.parametrize("mode", MODES)
def test_the_end_of_the_log_is_read_from_its_index(
    connection: psycopg.Connection[Any], mode: PlanMode
) -> None:
    assert_costs(carried_out(connection, mode, load_sql("pulse.eventstore", "select_end"), {}), 1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("after", [0, ORDERS // 2])
def test_a_window_of_a_rebuild_costs_a_window(
    connection: psycopg.Connection[Any], after: int, mode: PlanMode
) -> None:
    statement = load_sql("pulse.eventstore", "select_streams_begun")
    window = {"after": after, "until": after + 2000, "position": 9 * ORDERS}
    nodes = carried_out(connection, mode, statement, window)
    assert not [n for n in nodes if n.kind == "Seq Scan" and n.relation in BIG_TABLES]

    public = sql.Identifier("public")
    rows = connection.execute("SELECT order_id FROM order_queue LIMIT 1000").fetchall()
    begin = sql.SQL(load_sql("pulse.projections", "begin_rebuild")).format(live=public)
    connection.execute(begin, prepare=False)
    compare = sql.SQL(load_sql("pulse.projections", "insert_differing")).format(live=public)
    parameters = window | {"order_ids": [row[0] for row in rows]}
    nodes = carried_out(connection, mode, compare, parameters)
    read = [n for n in nodes if n.relation in BIG_TABLES and n.rows > 0]
    assert read
    assert not [n for n in read if n.kind == "Seq Scan"]
