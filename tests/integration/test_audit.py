"""The audit: events that the projection missed, and other differences of log and queue."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from pulse.domain import OrderCreated
from pulse.eventstore import EventMapper
from pulse.postgres import Database, load_sql
from pulse.projections.audit import Audit, AuditFinding, read_audit_state
from pulse.projections.rebuild import Rebuild
from tests.support.cli import Ended, projected, run_pulse
from tests.support.database import as_runtime, as_superuser
from tests.support.events import (
    foreign_events,
    order_created,
    orders_created,
    slices_scheduled,
    stored,
)
from tests.support.log import fetch, fetch_as_superuser, write
from tests.support.plans import PlanMode, explain_analyze
from tests.support.read_model import project, queue

INSERT = (
    "INSERT INTO stored_events (originator_id, originator_version, topic, state)"
    " VALUES (%s, %s, %s, %s)"
)


@contextmanager
def committed_late(conninfo: str, event: StoredEvent) -> Iterator[None]:
    """Insert the event now, under its id, and commit it on leaving, as a two-phase commit may."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            INSERT, (event.originator_id, event.originator_version, event.topic, event.state)
        )
        yield


async def missed(database: Database) -> OrderCreated:
    """An order at position 1 that became visible after the projection had read up to 4."""
    created = order_created()
    with committed_late(database.conninfo, stored([created])[0]):
        write(database.conninfo, *stored(orders_created(3)))
        assert (await project(database))[-1].position == 4
    assert await project(database) == []
    assert created.originator_id not in await queue(database)
    return created


def verified(conninfo: str, exit_code: int) -> Ended:
    ended = run_pulse("verify", conninfo=conninfo)
    assert (ended.exit_code, ended.err) == (exit_code, "")
    return ended


def retried(conninfo: str, *arguments: str) -> str:
    ended = run_pulse("projections", "retry", *arguments, conninfo=conninfo)
    assert (ended.exit_code, ended.err) == (0, "")
    return ended.out


def delete_from_log(conninfo: str, condition: str) -> None:
    """Delete events, as only the owner of the log can."""
    with psycopg.connect(as_superuser(conninfo)) as connection:
        connection.execute("ALTER TABLE stored_events DISABLE TRIGGER stored_events_append_only")
        connection.execute(f"DELETE FROM stored_events WHERE {condition}".encode())
        connection.execute("ALTER TABLE stored_events ENABLE TRIGGER stored_events_append_only")


async def due(database: Database) -> None:
    """Let the next window be due now."""
    await fetch(database, "UPDATE queue_audit SET due_at = clock_timestamp()")


async def test_an_order_that_became_visible_below_the_position_is_named(
    database: Database,
) -> None:
    created = await missed(database)
    window = await Audit(database).run_once()
    assert window is not None
    finding = AuditFinding(1, created.originator_id, "MISSING")
    assert window.findings == (finding,)
    assert await Audit(database).kept_findings(10) == [finding]
    state = await database.read(read_audit_state)
    assert state.findings == {"MISSING": 1}
    assert state.last_pass_seconds_ago is not None


@pytest.fixture
def missed_order(conninfo: str) -> OrderCreated:
    created = order_created()
    with committed_late(conninfo, stored([created])[0]):
        write(conninfo, *stored(orders_created(3)))
        projected(conninfo)
    return created


def test_a_missing_order_is_named_and_a_retry_adds_it(
    conninfo: str, missed_order: OrderCreated
) -> None:
    order_id = str(missed_order.originator_id)
    said = run_pulse("status", conninfo=conninfo).out
    assert f"order {order_id} was created at position 1 and is missing from the queue" in said
    assert f"`pulse projections retry {order_id}` adds it" in said
    ended = run_pulse("status", "--json", conninfo=conninfo)
    assert json.loads(ended.out)["audit"]["findings"] == [
        {"position": 1, "order_id": order_id, "fault": "MISSING"}
    ]
    assert f"order {order_id}: the order queue differs from the log" in verified(conninfo, 1).out
    assert "is up to date now" in retried(conninfo, order_id)
    verified(conninfo, 0)
    assert "agrees with the log" in retried(conninfo, order_id)


def test_a_retry_of_all_adds_what_the_background_audit_found(
    conninfo: str, missed_order: OrderCreated
) -> None:
    async def audit() -> None:
        database = Database(as_runtime(conninfo), pool_size=2)
        await database.open()
        await Audit(database).run_once()
        await database.close()

    asyncio.run(audit())
    assert str(missed_order.originator_id) in retried(conninfo, "--all")
    verified(conninfo, 0)
    assert retried(conninfo, "--all") == "no order is parked or missing\n"


async def test_an_outcome_that_the_projection_missed_is_named(database: Database) -> None:
    created = order_created()
    write(database.conninfo, *stored([created]))
    with committed_late(database.conninfo, stored([slices_scheduled(created)])[0]):
        write(database.conninfo, *stored(orders_created(1)))
        await project(database)
    window = await Audit(database).run_once()
    assert window is not None
    assert window.findings == (AuditFinding(1, created.originator_id, "OUTDATED"),)


async def test_orders_whose_events_were_deleted_are_named(database: Database) -> None:
    created = orders_created(4)
    write(database.conninfo, *stored(created))
    await project(database)
    delete_from_log(database.conninfo, "notification_id > 2")
    window = await Audit(database).run_once()
    assert window is not None
    assert set(window.findings) == {
        AuditFinding(position, created[position - 1].originator_id, "UNLOGGED")
        for position in (3, 4)
    }


async def test_an_order_whose_outcome_was_deleted_is_named(database: Database) -> None:
    created = orders_created(2)
    outcomes = [slices_scheduled(one) for one in created]
    write(database.conninfo, *stored(created), *stored(outcomes))
    await project(database)
    delete_from_log(database.conninfo, "notification_id = 4")
    write(database.conninfo, *stored(orders_created(1)))
    await project(database)
    window = await Audit(database).run_once()
    assert window is not None
    assert window.findings == (AuditFinding(2, created[1].originator_id, "UNLOGGED"),)


async def test_parked_orders_and_foreign_events_and_what_is_not_projected_are_no_findings(
    database: Database,
) -> None:
    poisoned = order_created()
    unreadable = StoredEvent(poisoned.originator_id, 1, poisoned.TOPIC, b"{}")
    write(database.conninfo, unreadable, *foreign_events(3), *stored(orders_created(2)))
    await project(database)
    write(database.conninfo, *stored(orders_created(2)))
    window = await Audit(database).run_once()
    assert window is not None
    assert (window.until, window.is_last, window.findings) == (6, True, ())


async def test_the_audit_reads_the_whole_log_window_by_window_and_starts_over(
    database: Database,
) -> None:
    created = await missed(database)
    write(database.conninfo, *stored(orders_created(3)))
    await project(database)
    audit = Audit(database, window_events=3)
    ends = []
    for _ in range(4):
        window = await audit.run_once()
        assert window is not None
        ends.append((window.after, window.until, window.is_last))
        assert await audit.run_once() is None, "the next window is due later"
        await due(database)
    assert ends == [(0, 3, False), (3, 6, False), (6, 7, True), (0, 3, False)]
    assert [f.order_id for f in await audit.kept_findings(10)] == [created.originator_id]


async def test_a_wide_gap_between_ids_is_one_window(database: Database) -> None:
    write(database.conninfo, *stored(orders_created(3)))
    await fetch_as_superuser(
        database, "SELECT setval('stored_events_notification_id_seq', 1000000000)"
    )
    write(database.conninfo, *stored(orders_created(3)))
    await project(database)
    audit = Audit(database, window_events=3)
    for until in (3, 1_000_000_003):
        window = await audit.run_once()
        assert window is not None
        assert window.until == until
        await due(database)


async def test_findings_that_a_rebuild_has_repaired_are_forgotten_wherever_the_pass_is(
    database: Database,
) -> None:
    await missed(database)
    audit = Audit(database, window_events=2)
    await audit.run_once()
    assert await audit.kept_findings(10)
    await Rebuild(database, EventMapper(), lambda *_: None).run()
    await due(database)
    window = await audit.run_once()
    assert window is not None
    assert window.after == 2
    assert await audit.kept_findings(10) == []


async def test_the_newest_windows_are_read_backwards(database: Database) -> None:
    write(database.conninfo, *stored(orders_created(5)))
    await project(database)
    audit = Audit(database, window_events=2)
    found = [(w.after, w.until) async for w in audit.newest_windows(max_seconds=20)]
    assert found == [(3, 5), (1, 3), (0, 1)]
    assert [w async for w in audit.newest_windows(max_seconds=0)] == []


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
def test_an_audit_of_a_window_reads_only_that_window(conninfo: str, mode: PlanMode) -> None:
    with psycopg.connect(conninfo) as connection:
        fill(connection, orders=3000)
        parameters = {
            "after": 1000,
            "until": 1100,
            "projected": 6000,
            "created": OrderCreated.TOPIC,
            "later_topics": ["pulse.domain:SlicesScheduled"],
        }
        nodes = explain_analyze(
            connection, mode, load_sql("pulse.projections", "compare_window"), parameters
        )
        scans = [node for node in nodes if node.relation in {"stored_events", "order_queue"}]
        assert scans
        assert all(node.index for node in scans), [node.kind for node in scans]
        assert all(node.rows + node.rows_filtered <= 100 for node in scans)
        window = load_sql("pulse.projections", "select_audit_window")
        parameters = {"after": 1000, "rows": 100, "projection": "order_queue"}
        nodes = explain_analyze(connection, mode, window, parameters)
        assert all(node.rows <= 100 for node in nodes)


def fill(connection: psycopg.Connection[Any], orders: int) -> None:
    """Creations at odd positions and outcomes at even ones, all projected."""
    connection.execute(
        """
        INSERT INTO stored_events (originator_id, originator_version, topic, state)
        SELECT md5((i / 2)::text)::uuid, 1 + i %% 2,
               (ARRAY['pulse.domain:OrderCreated', 'pulse.domain:SlicesScheduled'])[1 + i %% 2],
               '{}'
          FROM generate_series(0, %s) i
        """,
        (2 * orders - 1,),
    )
    connection.execute(
        """
        INSERT INTO order_queue
        SELECT md5(i::text)::uuid, 2 * i + 1, 1, now(), 2, 1, 1, true, 'NSE:A', 'BUY', '', '',
               i::text, 2, 2 * i + 2, now(), now(), 'COMPLETED'
          FROM generate_series(0, %s) i
        """,
        (orders - 1,),
    )
    connection.execute(
        "UPDATE notification_tracking SET notification_id = %s"
        " WHERE application_name = 'order_queue'",
        (2 * orders,),
    )
    connection.execute("ANALYZE")
