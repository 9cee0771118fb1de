"""Plans of the hot statements on tables of about 50,000 rows."""

import json
from collections.abc import Iterator
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest

from pulse.postgres import PostgresLimits, load_sql
from tests.support.database import cloned_database, connect

ROWS = 50_000

_FILL = """
INSERT INTO stored_events (originator_id, originator_version, topic, state)
SELECT md5(n::text)::uuid, 1, 'pulse.domain:OrderCreated', '{}' FROM generate_series(1, %(rows)s) n;

INSERT INTO order_queue (
    order_id, order_unique_key, scope, placed_by, instrument, side, total_quantity, num_splits,
    duration_minutes, randomize, splitter_version, state, version, position, created_position,
    created_at, updated_at)
SELECT md5(n::text)::uuid, n::text, 'internal', 'x', 'NSE:X', 'BUY', 100, 5, 60, true, 1,
       CASE WHEN n > %(rows)s - %(pending)s THEN 'PENDING' ELSE 'COMPLETED' END,
       1, n, n, now(), now()
  FROM generate_series(1, %(rows)s) n;

INSERT INTO pending_orders
SELECT n, md5(n::text)::uuid, now(), 1, 'NSE:X', c.at, c.at,
       CASE WHEN c.at IS NOT NULL THEN 'worker-1' END
  FROM generate_series(%(rows)s - %(pending)s + 1, %(rows)s) n
 CROSS JOIN LATERAL (
       SELECT CASE WHEN n <= %(rows)s - %(pending)s + %(claimed)s THEN now() END AS at) c;

ANALYZE stored_events, order_queue, pending_orders, notification_tracking;
"""


def filled(conninfo: str, *, pending: int, claimed: int) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection with Pulse's session settings."""
    connection = connect(conninfo, PostgresLimits(statement_seconds=60))
    with psycopg.ClientCursor(connection) as cursor:
        cursor.execute(_FILL, {"rows": ROWS, "pending": pending, "claimed": claimed})
        return cursor.connection


@pytest.fixture(scope="module", params=[(200, 20), (ROWS, 500)], ids=["few pending", "all pending"])
def filled_conninfo(
    postgres: str, template_database: str, request: pytest.FixtureRequest
) -> Iterator[str]:
    pending, claimed = request.param
    with cloned_database(postgres, template_database) as conninfo:
        filled(conninfo, pending=pending, claimed=claimed).close()
        yield conninfo


@pytest.fixture
def connection(filled_conninfo: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A connection with Pulse's session settings. The tests only EXPLAIN."""
    with connect(filled_conninfo, PostgresLimits(statement_seconds=60)) as connection:
        yield connection


def plan_of(
    connection: psycopg.Connection[tuple[Any, ...]], statement: LiteralString, *parameters: object
) -> list[dict[str, Any]]:
    """The nodes of the statement's plan, as it would be run with these parameters."""
    cursor = connection.cursor(binary=False)
    row = cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters).fetchone()
    assert row is not None
    return nodes_of(row[0])


def nodes_of(explained: Any) -> list[dict[str, Any]]:
    plan = explained if isinstance(explained, list) else json.loads(explained)
    nodes, todo = [], [plan[0]["Plan"]]
    while todo:
        node = todo.pop()
        nodes.append(node)
        todo += node.get("Plans", [])
    return nodes


def indexes(nodes: list[dict[str, Any]]) -> set[str]:
    return {node["Index Name"] for node in nodes if "Index Name" in node}


def scanned_whole(nodes: list[dict[str, Any]]) -> set[str]:
    return {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}


def some_order() -> UUID:
    return UUID("c4ca4238a0b923820dcc509a6f75849b")


def test_claiming_walks_the_pending_orders_alone(
    connection: psycopg.Connection[tuple[Any, ...]],
) -> None:
    statement = load_sql("pulse.projections", "claim_orders")
    nodes = plan_of(connection, statement, [1], [], 10, "worker-1")
    assert indexes(nodes) == {"pending_orders_pkey", "parked_orders_pkey"}
    assert not any(node["Node Type"] == "Sort" for node in nodes), "the index is in order already"


def test_claiming_reads_no_more_of_a_burst_than_it_claims(conninfo: str) -> None:
    """A backlog that is newer than the last ANALYZE."""
    with filled(conninfo, pending=10, claimed=0) as connection:
        connection.execute(
            "INSERT INTO pending_orders"
            " SELECT created_position, order_id, created_at, 1, instrument"
            " FROM order_queue WHERE state = 'COMPLETED'"
        )
        statement = load_sql("pulse.projections", "claim_orders")
        cursor = connection.cursor(binary=False)
        explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
        row = cursor.execute(explained, ([1], [], 10, "worker-1")).fetchone()
    assert row is not None
    read = [n for n in nodes_of(row[0]) if n.get("Relation Name") == "pending_orders"]
    scans = [n for n in read if n["Node Type"] != "ModifyTable"]
    assert scans
    assert all(n["Actual Rows"] * n["Actual Loops"] == 10 for n in scans), scans


def test_releasing_finds_claims_by_their_key(
    connection: psycopg.Connection[tuple[Any, ...]],
) -> None:
    statement = load_sql("pulse.projections", "release_claims")
    connection.execute("SET enable_seqscan = off")  # for a few hundred rows both are fast
    nodes = plan_of(connection, statement, [uuid4(), uuid4()], "worker-1")
    assert indexes(nodes) == {"order_queue_pkey", "pending_orders_pkey"}


def test_reading_the_log_walks_its_positions(
    connection: psycopg.Connection[tuple[Any, ...]],
) -> None:
    statement = load_sql("pulse.eventstore", "select_issued_log")
    for after in (0, ROWS // 2, ROWS - 5):
        nodes = plan_of(connection, statement, after, 1000)
        assert indexes(nodes) == {"stored_events_notification_id_idx"}
        assert not any(node["Node Type"] == "Sort" for node in nodes)


def test_measuring_how_far_the_projection_is_behind_reads_one_event(
    connection: psycopg.Connection[tuple[Any, ...]],
) -> None:
    statement = load_sql("pulse.projections", "select_lag")
    nodes = plan_of(connection, statement, 2**63 - 1, [1], "order_queue")
    assert "stored_events_notification_id_idx" in indexes(nodes)
    assert "stored_events" not in scanned_whole(nodes)


@pytest.mark.parametrize(
    ("statement", "parameters"),
    [
        (load_sql("pulse.eventstore", "select_streams"), ([some_order(), uuid4()],)),
        (load_sql("pulse.eventstore", "select_stored"), ([some_order()], [1])),
        (load_sql("pulse.projections", "select_order_streams"), ([some_order(), uuid4()],)),
    ],
    ids=["streams", "stored", "orders"],
)
def test_reading_streams_uses_the_logs_primary_key(
    connection: psycopg.Connection[tuple[Any, ...]],
    statement: LiteralString,
    parameters: tuple[object, ...],
) -> None:
    nodes = plan_of(connection, statement, *parameters)
    assert "stored_events_pkey" in indexes(nodes)
    assert not scanned_whole(nodes) & {"stored_events", "order_queue"}


@pytest.mark.parametrize("filled_conninfo", [(ROWS, 500)], indirect=True, ids=["all pending"])
def test_reading_orders_under_a_backlog_looks_up_their_claims_by_key(
    connection: psycopg.Connection[tuple[Any, ...]],
) -> None:
    statement = load_sql("pulse.projections", "select_order_streams")
    for mode in ("force_generic_plan", "force_custom_plan"):
        connection.execute(f"SET plan_cache_mode = {mode}")
        for orders in (1, 50, 500):
            nodes = plan_of(connection, statement, [uuid4() for _ in range(orders)])
            assert "pending_orders_pkey" in indexes(nodes)
            assert not scanned_whole(nodes) & {"stored_events", "pending_orders"}


def test_settling_orders_finds_them_by_their_key(
    connection: psycopg.Connection[tuple[Any, ...]],
) -> None:
    statement = load_sql("pulse.projections", "apply_outcomes")
    rows = json.dumps([{"order_id": str(uuid4())} for _ in range(50)])
    nodes = plan_of(connection, statement, rows)
    assert indexes(nodes) <= {"order_queue_pkey", "pending_orders_pkey"}
    assert "order_queue" not in scanned_whole(nodes)
