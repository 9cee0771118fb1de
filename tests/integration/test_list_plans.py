"""The plans of the lists over 200,000 orders: the rows that each page reads.

A list with an index of its own reads a page. The others walk one of those indexes and step over the
orders that they do not show. The tests check how many orders are stepped over.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, get_args
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from pulse.domain import HaltTarget
from pulse.eventstore import AFTER_LOG, store
from pulse.postgres import PostgresLimits, load_sql
from pulse.projections.due_orders import SELECT_DUE_ORDERS, halt_parameters
from pulse.projections.due_slices import (
    COUNT_SLICES_BY_MINUTE,
    MAX_COUNTED,
    SELECT_OVERDUE_SLICES,
    SELECT_SLICES_WITH_ORDERS,
)
from pulse.projections.lists import (
    MAX_EXAMINED,
    SELECT_SLICES,
    OrderQuery,
    SliceCursorKey,
    SliceQuery,
    orders_parameters,
    orders_statement,
    slices_parameters,
)
from pulse.projections.order_view import OrderQueueStatus
from pulse.projections.overview import MAX_EXAMINED_FOR_HEALTH
from pulse.projections.queue_writer import ORDER_COLUMNS, REFRESH_DUE_ORDERS, SETTLE_SLICES
from tests.support.database import cloned_database, connect
from tests.support.many_orders import CLAIMS, SLICES_PER_ORDER, fill
from tests.support.plans import PlanMode, PlanNode, explain_analyze

ORDERS = 200_000
PENDING = ORDERS // 100
FAILED = ORDERS // 50
CANCELLED = ORDERS // 50
FAILED_IN_A_PAGE = 50
LOGGED = 50_000
BIG_TABLES = {
    "order_queue",
    "scheduled_slices",
    "pending_orders",
    "due_orders",
    "stored_events",
}
DUE_RULE = {"distance_seconds": 1.0, "catch_up_seconds": 0.1}
MODES: list[PlanMode] = ["force_generic_plan", "force_custom_plan"]
NOON = datetime(2026, 1, 5, 6, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def many_orders(postgres: str, template_database: str) -> Iterator[str]:
    with cloned_database(postgres, template_database) as conninfo:
        fill(conninfo, ORDERS, pending=PENDING, logged=LOGGED)
        yield conninfo


@pytest.fixture(scope="module")
def session(many_orders: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection with Pulse's session settings."""
    with connect(many_orders, PostgresLimits(statement_seconds=60)) as connection:
        connection.autocommit = False
        yield connection


@pytest.fixture
def connection(session: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    """The same, in a transaction of the test's own."""
    yield session
    session.rollback()


def assert_costs(nodes: list[PlanNode], rows: int, *, stepped_over: int = 0) -> None:
    """No big table is scanned, at most a page is sorted, at most `stepped_over` rows are unused."""
    assert not [n for n in nodes if n.kind == "Seq Scan" and n.relation in BIG_TABLES]
    sorts = [n for n in nodes if "Sort" in n.kind]
    assert all(n.rows <= rows and not n.disk for n in sorts), sorts
    reads = [n for n in nodes if n.relation in BIG_TABLES or n.index]
    assert reads
    assert all(n.rows_read <= rows + stepped_over for n in reads), reads


def explain_page(
    connection: psycopg.Connection[Any], mode: PlanMode, query: OrderQuery
) -> list[PlanNode]:
    return explain_analyze(connection, mode, orders_statement(query), orders_parameters(query))


def reads_of(nodes: list[PlanNode], relation: str) -> list[int]:
    return [n.rows_read for n in nodes if n.relation == relation]


def passed(connection: psycopg.Connection[Any], walk: str, shown: str, rows: int) -> int:
    """How many orders this index scan reads, newest first, up to the last one shown."""
    row = connection.execute(
        f"""SELECT count(*) FROM order_queue_status
             WHERE {walk} AND created_position >= COALESCE((
                   SELECT created_position FROM order_queue_status
                    WHERE {walk} AND {shown}
                    ORDER BY created_position DESC OFFSET {rows - 1} LIMIT 1), 0)""".encode()
    ).fetchone()
    assert row is not None
    return int(row[0])


def most_stepped_over(status: OrderQueueStatus | None, instrument: str | None) -> int:
    """How many orders a page of these filters passes at worst without showing them."""
    match status:
        case None:
            return 0
        case "COMPLETED":
            return PENDING + 2 * FAILED_IN_A_PAGE
        case "FAILED":
            return FAILED if instrument else 0
        case "PENDING":
            return PENDING if instrument else CLAIMS
        case "IN_PROGRESS":
            return PENDING
        case "CANCELLED":
            return CANCELLED if instrument else 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("instrument", [None, "NSE:SYM0", "NSE:SYM77", "NSE:NOBODY"])
@pytest.mark.parametrize("status", [None, *get_args(OrderQueueStatus)])
def test_a_page_of_orders_reads_a_page_and_the_orders_its_filters_step_over(
    connection: psycopg.Connection[Any],
    status: OrderQueueStatus | None,
    instrument: str | None,
    mode: PlanMode,
) -> None:
    for before, limit in product((None, ORDERS, 3), (1, 50, 200)):
        query = OrderQuery(
            limit=limit, order_queue_status=status, instrument=instrument, before=before
        )
        nodes = explain_page(connection, mode, query)
        assert_costs(nodes, limit + 1, stepped_over=most_stepped_over(status, instrument))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", [1, 200])
@pytest.mark.parametrize("instrument", [None, "NSE:SYM0", "NSE:SYM77"])
def test_completed_orders_behind_a_backlog_read_the_backlog(
    connection: psycopg.Connection[Any], instrument: str | None, limit: int, mode: PlanMode
) -> None:
    """With an instrument, only the backlog of that instrument is read."""
    query = OrderQuery(limit=limit, order_queue_status="COMPLETED", instrument=instrument)
    nodes = explain_page(connection, mode, query)
    walk = f"instrument = '{instrument}'" if instrument else "true"
    stepped = passed(connection, walk, "order_queue_status = 'COMPLETED'", limit + 1)
    assert stepped > (PENDING if instrument is None else 0)
    assert reads_of(nodes, "order_queue") == [stepped]
    assert sum(reads_of(nodes, "pending_orders")) <= limit + 1
    assert_costs(nodes, limit + 1, stepped_over=stepped)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("status", ["PENDING", "IN_PROGRESS"])
@pytest.mark.parametrize("instrument", ["NSE:SYM0", "NSE:SYM77", "NSE:NOBODY"])
def test_waiting_orders_of_an_instrument_read_at_most_the_whole_backlog(
    connection: psycopg.Connection[Any],
    instrument: str,
    status: OrderQueueStatus,
    mode: PlanMode,
) -> None:
    query = OrderQuery(limit=50, order_queue_status=status, instrument=instrument)
    nodes = explain_page(connection, mode, query)
    walk = "order_queue_status IN ('PENDING', 'IN_PROGRESS')"
    shown = f"order_queue_status = '{status}' AND instrument = '{instrument}'"
    stepped = passed(connection, walk, shown, 51)
    assert stepped <= PENDING
    assert reads_of(nodes, "pending_orders") == [stepped]
    assert sum(reads_of(nodes, "order_queue")) <= stepped
    assert_costs(nodes, 51, stepped_over=stepped)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("instrument", ["NSE:SYM0", "NSE:SYM78", "NSE:NOBODY"])
def test_failures_of_an_instrument_read_at_most_all_failures(
    connection: psycopg.Connection[Any], instrument: str, mode: PlanMode
) -> None:
    query = OrderQuery(limit=50, order_queue_status="FAILED", instrument=instrument)
    nodes = explain_page(connection, mode, query)
    shown = f"instrument = '{instrument}'"
    stepped = passed(connection, "order_queue_status = 'FAILED'", shown, 51)
    assert 51 < stepped <= FAILED
    assert reads_of(nodes, "order_queue") == [stepped]
    assert_costs(nodes, 51, stepped_over=stepped)


@pytest.mark.parametrize("mode", MODES)
def test_failures_long_ago_read_a_page_even_without_statistics(
    connection: psycopg.Connection[Any], mode: PlanMode
) -> None:
    connection.execute(
        "UPDATE order_queue SET state = 'COMPLETED', failure_reason = NULL, expired_quantity = 0"
        " WHERE failure_reason IS NOT NULL AND created_position > 20000"
    )
    nodes = explain_page(connection, mode, OrderQuery(limit=50, order_queue_status="FAILED"))
    assert reads_of(nodes, "order_queue") == [51]
    assert_costs(nodes, 51)


FOUND: list[dict[str, Any]] = [
    {"placed_by": "me"},
    {"placed_by": "caller-7"},
    {"placed_by": "nobody"},
    {"placed_by": "me", "of_caller_only": True},
    {"trace_id": "trace-of-many"},
    {"trace_id": "trace-5"},
    {"trace_id": "nothing"},
    {"created_from": NOON, "since": 2 * 39_540},
    {"created_before": NOON, "before": 2 * 39_660},
    {"order_id": UUID(int=4711)},
    {"order_id": UUID(int=2**100)},
]
"""Filters with an index of their own. At NOON order 39,600 is created."""


def stepped_over_by(filters: dict[str, Any]) -> int:
    """The orders up to 15 s after the end of the range, of which there are four a second.

    Before version 18 Postgres rounds the rows of each loop; a search has a loop for each of two
    buckets.
    """
    return 60 if "created_before" in filters else 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("filters", FOUND, ids=str)
def test_a_page_of_found_orders_reads_a_page(
    connection: psycopg.Connection[Any], filters: dict[str, Any], mode: PlanMode
) -> None:
    """Also where no order or half of all orders match, and without statistics."""
    for before, limit in product((None, ORDERS, 3), (1, 50, 200)):
        query = OrderQuery(limit=limit, **{"before": before, **filters})
        nodes = explain_page(connection, mode, query)
        assert_costs(nodes, limit + 1, stepped_over=stepped_over_by(filters))
    connection.execute("DELETE FROM pg_statistic")
    nodes = explain_page(connection, mode, OrderQuery(limit=50, **filters))
    assert_costs(nodes, 51, stepped_over=stepped_over_by(filters))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("status", [None, *get_args(OrderQueueStatus)])
@pytest.mark.parametrize("filters", FOUND, ids=str)
def test_combined_filters_examine_a_bounded_number_of_orders(
    connection: psycopg.Connection[Any],
    filters: dict[str, Any],
    status: OrderQueueStatus | None,
    mode: PlanMode,
) -> None:
    for before, instrument in product((None, ORDERS), (None, "NSE:SYM77", "NSE:NOBODY")):
        query = OrderQuery(
            limit=50,
            order_queue_status=status,
            instrument=instrument,
            **{"before": before, **filters},
        )
        nodes = explain_page(connection, mode, query)
        assert_costs(nodes, MAX_EXAMINED)


@pytest.mark.parametrize("mode", MODES)
def test_a_caller_and_a_trace_together_examine_a_bounded_number_of_orders(
    connection: psycopg.Connection[Any], mode: PlanMode
) -> None:
    for placed_by, trace_id in product(("me", "caller-7", "nobody"), ("trace-of-many", "trace-5")):
        query = OrderQuery(limit=50, placed_by=placed_by, trace_id=trace_id)
        assert_costs(explain_page(connection, mode, query), MAX_EXAMINED)


@pytest.mark.parametrize("mode", MODES)
def test_positions_at_times_read_a_few_events(
    connection: psycopg.Connection[Any], mode: PlanMode
) -> None:
    statement = load_sql("pulse.eventstore", "select_positions_at")
    times = [NOON - timedelta(days=9), NOON, NOON + timedelta(hours=1), NOON + timedelta(days=999)]
    nodes = explain_analyze(connection, mode, statement, {"times": times})
    assert_costs(nodes, 20 * len(times))


@pytest.mark.parametrize("mode", MODES)
def test_the_slices_of_a_page_read_those_slices(
    connection: psycopg.Connection[Any], mode: PlanMode
) -> None:
    statement = load_sql("pulse.projections", "select_slices_of").replace("%b", "%(positions)b")
    positions = [2 * n for n in range(1, 401)]
    nodes = explain_analyze(connection, mode, statement, {"positions": positions})
    assert_costs(nodes, 400 * SLICES_PER_ORDER)


@pytest.mark.parametrize("mode", MODES)
def test_due_orders_read_those_orders_and_their_slices(
    connection: psycopg.Connection[Any], mode: PlanMode
) -> None:
    nodes = explain_analyze(connection, mode, SELECT_DUE_ORDERS, due_orders_parameters())
    assert sum(reads_of(nodes, "order_queue")) == 500
    assert_costs(nodes, 500 * SLICES_PER_ORDER)


@pytest.mark.parametrize("mode", MODES)
def test_halted_due_orders_are_each_read_once(
    connection: psycopg.Connection[Any], mode: PlanMode
) -> None:
    """While everything is halted each due order is read, with two of its slices."""
    ((due,),) = connection.execute(
        "SELECT count(*) FROM due_orders WHERE due_at <= clock_timestamp()", prepare=False
    ).fetchall()
    parameters = due_orders_parameters(any_halted=True, all_halted=True, max_delay_seconds=1e9)
    nodes = explain_analyze(connection, mode, SELECT_DUE_ORDERS, parameters)
    assert sum(reads_of(nodes, "order_queue")) == due
    assert_costs(nodes, 3 * due)


@pytest.mark.parametrize("mode", MODES)
def test_slices_counted_by_minute_read_those_slices(
    connection: psycopg.Connection[Any], mode: PlanMode
) -> None:
    parameters = {
        "scheduled_from": NOON,
        "scheduled_before": NOON + timedelta(hours=1),
        "most": MAX_COUNTED,
        **halt_parameters([HaltTarget(scope="INSTRUMENT", instrument="NSE:SYM0")]),
    }
    nodes = explain_analyze(connection, mode, COUNT_SLICES_BY_MINUTE, parameters)
    assert max(reads_of(nodes, "scheduled_slices")) == MAX_COUNTED
    reads = [n for n in nodes if n.relation in BIG_TABLES]
    assert not [n for n in reads if n.kind == "Seq Scan"]
    assert all(n.rows_read <= MAX_COUNTED for n in reads), reads


@pytest.mark.parametrize("mode", MODES)
def test_a_page_of_slices_to_release_reads_a_page(
    connection: psycopg.Connection[Any], mode: PlanMode
) -> None:
    for after in (None, SliceCursorKey(NOON, 20_000)):
        parameters = slices_parameters(SliceQuery(limit=50, scheduled_from=NOON, after=after))
        nodes = explain_analyze(connection, mode, SELECT_SLICES_WITH_ORDERS, parameters)
        assert_costs(nodes, 51)


@pytest.mark.parametrize("mode", MODES)
def test_overdue_slices_read_the_orders_that_are_due_first(
    connection: psycopg.Connection[Any], mode: PlanMode
) -> None:
    parameters = {"overdue_seconds": 1.0, "rows": 50}
    nodes = explain_analyze(connection, mode, SELECT_OVERDUE_SLICES, parameters)
    assert_costs(nodes, 200 * SLICES_PER_ORDER)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("topics", [None, ["pulse.domain:SplittingFailed"]], ids=["all", "one"])
def test_the_end_of_the_log_reads_the_events_that_are_scanned(
    connection: psycopg.Connection[Any], topics: list[str] | None, mode: PlanMode
) -> None:
    statement = load_sql("pulse.eventstore", "select_log_before")
    parameters = {"before": AFTER_LOG, "limit": 30, "topics": topics, "max_scanned": 2_000}
    nodes = explain_analyze(connection, mode, statement, parameters)
    assert_costs(nodes, 2_000)


def due_orders_parameters(**halted: Any) -> dict[str, Any]:
    return {
        "left_out": [],
        "limit": 500,
        "max_delay_seconds": 60.0,
        "min_release_seconds": 1e9 if halted else 1.0,
        "any_halted": False,
        "all_halted": False,
        "halted_instruments": [],
        "halted_callers": [],
    } | halted


@pytest.mark.parametrize("mode", MODES)
def test_a_refresh_of_due_orders_reads_those_orders_and_their_slices(
    connection: psycopg.Connection[Any], mode: PlanMode
) -> None:
    """Also without statistics, as after a burst on a new database."""
    statement = REFRESH_DUE_ORDERS
    parameters = {"positions": [2 * n for n in range(1, 501)], **DUE_RULE}
    assert_costs(explain_analyze(connection, mode, statement, parameters), 500 * SLICES_PER_ORDER)
    connection.execute("DELETE FROM pg_statistic")
    assert_costs(explain_analyze(connection, mode, statement, parameters), 500 * SLICES_PER_ORDER)


def test_settling_slices_reads_those_slices_and_their_orders(
    connection: psycopg.Connection[Any],
) -> None:
    """With a plan for the statement's values, as the projector executes it."""
    changes = [
        {
            "order_id": str(UUID(int=n)),
            "after_version": 2,
            "after_slice": 1,
            "settled": settled,
            "released_quantity": 33 * len(settled),
            "cancelled_quantity": 0,
            "expired_quantity": 0,
            "version": 3,
            "position": 3 * ORDERS,
            "updated_at": NOON.isoformat(),
        }
        for n, settled in ((10 * i + 3, "R" * (1 + i % 2)) for i in range(1, 1001))
    ]
    parameters = {"changes": json.dumps(changes), **DUE_RULE}
    for preparation in ("SELECT 1", "DELETE FROM pg_statistic"):
        connection.execute(preparation.encode())
        nodes = explain_analyze(connection, "force_custom_plan", SETTLE_SLICES, parameters)
        assert [n.rows for n in nodes if n.kind == "Result"] == [1]
        assert reads_of(nodes, "order_queue")[-1] == 1000
        assert_costs(nodes, 2000)
        connection.rollback()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "query",
    [
        SliceQuery(limit=100),
        SliceQuery(limit=1000, scheduled_from=NOON),
        SliceQuery(limit=1000, scheduled_from=NOON, scheduled_before=NOON + timedelta(hours=8)),
        SliceQuery(limit=1000, scheduled_before=NOON),
        SliceQuery(limit=10, after=SliceCursorKey(NOON, 2**62)),
        SliceQuery(limit=1000, scheduled_from=NOON + timedelta(days=999)),
    ],
)
def test_a_page_of_slices_reads_a_page(
    connection: psycopg.Connection[Any], query: SliceQuery, mode: PlanMode
) -> None:
    nodes = explain_analyze(connection, mode, SELECT_SLICES, slices_parameters(query))
    assert_costs(nodes, query.limit + 1)
    assert not [n for n in nodes if n.kind == "Sort"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("after", [0, LOGGED, 3 * ORDERS])
def test_a_page_of_the_log_reads_a_page_and_a_page_of_one_type_a_bounded_part(
    connection: psycopg.Connection[Any], after: int, mode: PlanMode
) -> None:
    every = load_sql("pulse.eventstore", "select_log_page")
    nodes = explain_analyze(connection, mode, every, {"after": after, "limit": 1000})
    assert_costs(nodes, 1000)
    for event_type in ("OrderCreated", "SplittingFailed", "TimedOut"):
        parameters = {
            "after": after,
            "limit": 1000,
            "topic": f"pulse.domain:{event_type}",
            "max_scanned": store.MAX_SCANNED,
        }
        statement = load_sql("pulse.eventstore", "select_log_of_topic")
        nodes = explain_analyze(connection, mode, statement, parameters)
        assert_costs(nodes, store.MAX_SCANNED, stepped_over=store.MAX_SCANNED)
        assert all(n.rows <= 1000 for n in nodes if n.kind == "Sort")


@pytest.mark.parametrize("mode", MODES)
def test_the_queues_health_reads_a_thousand_orders(
    connection: psycopg.Connection[Any], mode: PlanMode
) -> None:
    statement = load_sql("pulse.projections", "select_queue_health")
    parameters = {"splitters": [1], "recent_seconds": 900.0}
    for halted in ([], [HaltTarget(scope="INSTRUMENT", instrument="NSE:SYM0")]):
        given = parameters | halt_parameters(halted)
        nodes = explain_analyze(connection, mode, statement, given)
        assert_costs(nodes, MAX_EXAMINED_FOR_HEALTH)


def test_no_page_is_jit_compiled(connection: psycopg.Connection[Any]) -> None:
    """Up to Postgres 17 the cost estimate of a page triggers JIT: 0.5 s for a query of 1 ms."""
    row = connection.execute("SHOW jit").fetchone()
    assert row == ("off",)


@pytest.mark.parametrize("mode", MODES)
def test_the_end_of_the_log_is_read_from_its_index(
    connection: psycopg.Connection[Any], mode: PlanMode
) -> None:
    assert_costs(
        explain_analyze(connection, mode, load_sql("pulse.eventstore", "select_end"), {}), 1
    )


@pytest.mark.parametrize("mode", MODES)
def test_streams_are_read_by_their_key_on_a_log_without_statistics(
    connection: psycopg.Connection[Any], mode: PlanMode
) -> None:
    """As after a restore, until autovacuum has analyzed the table."""
    connection.execute("DELETE FROM pg_statistic WHERE starelid = 'stored_events'::regclass")
    rows = connection.execute("SELECT DISTINCT originator_id FROM stored_events LIMIT 100")
    parameters = {
        "originator_ids": [row[0] for row in rows.fetchall()],
        "after": 0,
        "until": 10,
        "position": 9 * ORDERS,
    }
    statement = load_sql("pulse.eventstore", "select_streams_outside")
    nodes = explain_analyze(connection, mode, statement, parameters)
    assert not [node for node in nodes if "notification_id" in node.index]
    assert all(node.rows <= 2 for node in nodes if node.relation == "stored_events")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("after", [0, LOGGED])
def test_a_window_of_a_rebuild_reads_a_window(
    connection: psycopg.Connection[Any], after: int, mode: PlanMode
) -> None:
    window = {"after": after, "until": after + 2000, "position": 9 * ORDERS}
    statement = load_sql("pulse.eventstore", "select_log_between")
    within = statement.replace("%b", "%(after)b", 1).replace("%b", "%(until)b", 1)
    assert_costs(explain_analyze(connection, mode, within, window), 2000)
    rows = connection.execute(
        "SELECT order_id, created_position FROM order_queue"
        " WHERE created_position > %(after)s AND created_position <= %(until)s",
        window,
    ).fetchall()
    assert len(rows) == 1000
    statement = load_sql("pulse.eventstore", "select_begun_before")
    ids = [row[0] for row in rows]
    begun = {"originator_ids": ids, "versions": [2] * len(ids), "since": 0}
    nodes = explain_analyze(connection, mode, statement, begun)
    assert not [n for n in nodes if n.kind == "Seq Scan" and n.relation in BIG_TABLES]
    assert all(n.rows <= 1 for n in nodes if n.relation == "stored_events")
    streams = window | {"originator_ids": ids}
    statement = load_sql("pulse.eventstore", "select_streams_outside")
    nodes = explain_analyze(connection, mode, statement, streams)
    assert not [n for n in nodes if n.kind == "Seq Scan" and n.relation in BIG_TABLES]
    assert all(n.rows <= 2 for n in nodes if n.relation == "stored_events")  # a stream each time
    compare = sql.SQL(load_sql("pulse.projections", "select_orders_to_compare"))
    columns = sql.SQL(", ").join(map(sql.Identifier, ORDER_COLUMNS))
    parameters = window | {"order_ids": [row[0] for row in rows]}
    assert_costs(
        explain_analyze(connection, mode, compare.format(columns=columns), parameters), 1000
    )
    positions = {"positions": [row[1] for row in rows]}
    statement = load_sql("pulse.projections", "select_slices_of").replace("%b", "%(positions)b")
    nodes = explain_analyze(connection, mode, statement, positions)
    assert_costs(nodes, 1000 * SLICES_PER_ORDER)
    statement = load_sql("pulse.projections", "select_pending_of").replace("%b", "%(positions)b")
    reads = reads_of(explain_analyze(connection, mode, statement, positions), "pending_orders")
    assert reads  # one scan of two thousand rows is about as cheap as a thousand look-ups
    assert sum(reads) <= PENDING
