"""`pulse rebuild` and `pulse projections`: rebuilds, and retries of parked orders."""

import json
import os
import re
import signal
import subprocess
import sys
from uuid import uuid4

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from pulse.domain import OrderCreated
from pulse.projections.rebuild import REBUILD_LOCK
from tests.support.cli import projected, run_pulse, write
from tests.support.events import order_created, orders_created, slices_scheduled, stored
from tests.support.processes import ROOT, environment, until, url_of


def parked(conninfo: str, key: str = "parked") -> OrderCreated:
    """An order with an unreadable outcome."""
    created = order_created(key)
    unreadable = StoredEvent(created.originator_id, 2, "pulse.domain:SlicesScheduled", b'{"a":7}')
    write(conninfo, *stored([created]), unreadable)
    projected(conninfo)
    return created


def park_by_hand(conninfo: str, created: OrderCreated) -> None:
    """As if earlier code with a bug had parked it."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            "INSERT INTO parked_orders (order_id, position, reason) VALUES (%s, 1, 'unread')",
            (created.originator_id,),
        )


def rows(conninfo: str) -> list[tuple[object, ...]]:
    with psycopg.connect(conninfo) as connection:
        return connection.execute("SELECT * FROM order_queue ORDER BY order_id").fetchall()


def test_a_rebuild_ends_with_one_line_of_events_seconds_and_parked(conninfo: str) -> None:
    created = orders_created(20)
    write(conninfo, *stored(created), *stored([slices_scheduled(c) for c in created[:5]]))
    projected(conninfo)
    before = rows(conninfo)
    with psycopg.connect(conninfo) as connection:
        connection.execute("UPDATE order_queue SET total_quantity = 7")

    ended = run_pulse("rebuild", conninfo=conninfo)

    assert (ended.exit_code, ended.err) == (0, "")
    assert re.fullmatch(
        r"rebuilt from 25 events in \d+\.\d s: 20 orders differed, 0 orders parked\n", ended.out
    )
    assert rows(conninfo) == before


def test_a_rebuild_that_parks_an_order_exits_with_1(conninfo: str) -> None:
    parked(conninfo)
    ended = run_pulse("rebuild", "--unverified", conninfo=conninfo)
    assert ended.exit_code == 1
    assert "1 order parked; `pulse projections status` says why\n" in ended.out


def test_a_log_that_does_not_verify_is_not_adopted(conninfo: str) -> None:
    created = order_created()
    write(conninfo, *stored([created, slices_scheduled(created)]))
    projected(conninfo)
    before = rows(conninfo)
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(
            "UPDATE stored_events SET state = convert_to(replace("
            "convert_from(state, 'UTF8'), '\"total_quantity\":100', '\"total_quantity\":200'),"
            " 'UTF8') WHERE originator_version = 1"
        )
    ended = run_pulse("rebuild", conninfo=conninfo)
    assert (ended.exit_code, ended.out) == (1, "")
    assert "the log does not verify: 1 finding (SCHEDULE at 2)" in ended.err
    assert rows(conninfo) == before
    assert run_pulse("rebuild", "--unverified", conninfo=conninfo).exit_code == 0
    assert rows(conninfo) != before


def test_a_concurrent_rebuild_is_refused_with_one_line(conninfo: str) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (REBUILD_LOCK,))
        ended = run_pulse("rebuild", conninfo=conninfo)
    assert (ended.exit_code, ended.out) == (1, "")
    assert ended.err.startswith("pulse: another rebuild is running")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_rebuild_stopped_by_a_signal_leaves_the_live_queue_unchanged(
    conninfo: str, number: signal.Signals, code: int
) -> None:
    write(conninfo, *stored(orders_created(30)))
    projected(conninfo)
    before = rows(conninfo)
    with psycopg.connect(conninfo) as holder:
        holder.execute("SELECT FROM notification_tracking FOR UPDATE")
        process = subprocess.Popen(
            [sys.executable, "-m", "pulse.cli", "rebuild"],
            cwd=ROOT,
            env=environment({"database_url": url_of(conninfo)}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with psycopg.connect(conninfo, autocommit=True) as observer:
            until(lambda: waits_for_lock(observer), "the rebuild waits for the position")
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=20)
        holder.rollback()
    assert (process.returncode, out) == (code, "")
    assert err == "pulse: interrupted; committed changes stay, see --help before you run it again\n"
    assert rows(conninfo) == before
    with psycopg.connect(
        conninfo, autocommit=True
    ) as observer:  # Postgres ends sessions asynchronously
        until(lambda: not rebuild_sessions(observer), "the stopped rebuild's session has ended")
    assert run_pulse("rebuild", conninfo=conninfo).exit_code == 0
    assert rows(conninfo) == before


def rebuild_sessions(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    found = connection.execute(
        "SELECT FROM pg_stat_activity WHERE application_name LIKE 'pulse:rebuild@%'"
        " AND datname = current_database()"
    )
    return bool(found.fetchall())


def waits_for_lock(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    found = connection.execute(
        "SELECT FROM pg_stat_activity WHERE application_name LIKE 'pulse:rebuild@%'"
        " AND datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(found.fetchall())


def test_parked_orders_are_listed_with_position_reason_and_since(conninfo: str) -> None:
    assert run_pulse("projections", "status", conninfo=conninfo).exit_code == 0
    created = parked(conninfo)
    ended = run_pulse("projections", "status", conninfo=conninfo)
    assert (ended.exit_code, ended.err) == (1, "")
    (line,) = [text for text in ended.out.splitlines() if str(created.originator_id) in text[:36]]
    assert re.search(r"position 2  since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  version 2 of", line)
    assert "cannot be read" in line
    ended = run_pulse("projections", "status", "--json", conninfo=conninfo)
    found = json.loads(ended.out)
    assert ended.exit_code == 1
    assert (found["position"], found["parked"][0]["position"]) == (2, 2)


def test_a_retry_reports_the_result_of_each_order(conninfo: str) -> None:
    still = parked(conninfo)
    repaired = order_created("repaired")
    write(conninfo, *stored([repaired]))
    projected(conninfo)
    park_by_hand(conninfo, repaired)

    ended = run_pulse("projections", "retry", "--all", conninfo=conninfo)

    assert (ended.exit_code, ended.err) == (1, "")
    of = dict(line.split("  ", 1) for line in ended.out.splitlines())
    assert of[str(repaired.originator_id)] == "is in the queue again"
    assert of[str(still.originator_id)].startswith("stays parked: version 2 of stream")
    with psycopg.connect(conninfo) as connection:
        left = connection.execute("SELECT order_id FROM parked_orders").fetchall()
    assert left == [(still.originator_id,)]


def test_a_retry_of_named_orders_leaves_the_others(conninfo: str) -> None:
    repaired, other = order_created("repaired"), order_created("other")
    write(conninfo, *stored([repaired, other]))
    projected(conninfo)
    park_by_hand(conninfo, repaired)
    park_by_hand(conninfo, other)
    order_id = str(repaired.originator_id)
    ended = run_pulse("projections", "retry", order_id, conninfo=conninfo)
    assert (ended.exit_code, ended.out) == (0, f"{order_id}  is in the queue again\n")
    with psycopg.connect(conninfo) as connection:
        left = connection.execute("SELECT order_id FROM parked_orders").fetchall()
    assert left == [(other.originator_id,)]
    ended = run_pulse("projections", "retry", order_id, conninfo=conninfo)
    assert (ended.exit_code, ended.err) == (0, "")
    assert ended.out.startswith(f"{order_id}  is not parked; the queue agrees with the log")


def test_a_retry_of_an_unknown_order_exits_with_1(conninfo: str) -> None:
    order_id = str(uuid4())
    ended = run_pulse("projections", "retry", order_id, conninfo=conninfo)
    assert (ended.exit_code, ended.out) == (1, f"{order_id}  no order has this id\n")


def test_a_retry_of_all_without_parked_orders_exits_with_0(conninfo: str) -> None:
    ended = run_pulse("projections", "retry", "--all", conninfo=conninfo)
    assert (ended.exit_code, ended.out) == (0, "no order is parked or missing\n")


@pytest.mark.parametrize("arguments", [[], ["--all", "3f2a8c1e-0000-4000-8000-000000000001"]])
def test_a_retry_takes_orders_or_all(arguments: list[str]) -> None:
    ended = run_pulse("projections", "retry", *arguments)
    assert (ended.exit_code, ended.out) == (2, "")
    assert "give either ORDER_ID or --all" in ended.err
    assert ended.err.count("\n") == 1
