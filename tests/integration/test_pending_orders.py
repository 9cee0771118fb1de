"""The table of pending orders: the audit finds a missing row, and a rebuild repairs it."""

from collections.abc import Sequence
from typing import Any

import pytest

from pulse.domain import OrderCreated
from pulse.eventstore import EventMapper, EventStore
from pulse.postgres import Database
from pulse.projections.audit import Audit, AuditFinding
from pulse.projections.claims import Claims
from pulse.projections.rebuild import Rebuild, Rebuilt
from tests.support.cli import projected, run_pulse, write
from tests.support.database import connect
from tests.support.events import (
    order_created,
    orders_created,
    slices_scheduled,
    splitting_failed,
    stored,
    timed_out,
)
from tests.support.log import fetch
from tests.support.read_model import project, queue
from tests.support.splitting import append_and_project, claims_of, hold

Rows = list[tuple[Any, ...]]


async def rebuild(database: Database, window_events: int = 1000) -> Rebuilt:
    return await Rebuild(
        database, EventMapper(), lambda *_: None, window_events=window_events
    ).run()


async def pending_rows(database: Database) -> Rows:
    return await fetch(database, "SELECT * FROM pending_orders ORDER BY created_position")


async def findings(database: Database) -> list[AuditFinding]:
    return [f async for w in Audit(database).newest_windows(max_seconds=20) for f in w.findings]


async def delete_pending(database: Database, orders: Sequence[OrderCreated]) -> None:
    ids = [order.originator_id for order in orders]
    await fetch(database, "DELETE FROM pending_orders WHERE order_id = ANY (%s)", ids)


async def some_of_every_state(store: EventStore, database: Database) -> list[OrderCreated]:
    """Twenty orders: the first five still pending, the others settled in every way."""
    created = orders_created(20)
    outcomes = (slices_scheduled, splitting_failed, timed_out)
    settled = [outcomes[n % 3](order) for n, order in enumerate(created[5:])]
    await append_and_project(store, database, created)
    await append_and_project(store, database, settled)
    return created


async def test_a_pending_order_without_its_row_is_missing_until_a_rebuild_brings_it_back(
    database: Database, store: EventStore
) -> None:
    created = await some_of_every_state(store, database)
    right = await pending_rows(database)
    assert await findings(database) == []
    await delete_pending(database, created[1:3])
    lost = [AuditFinding(n + 1, created[n].originator_id, "MISSING") for n in (1, 2)]
    assert await findings(database) == lost

    rebuilt = await rebuild(database)

    assert rebuilt.replaced == 2
    assert await pending_rows(database) == right
    assert await findings(database) == []
    claimed = await Claims(database, "worker-1").claim(10)
    assert list(claimed) == [order.originator_id for order in created[:5]]


def test_the_command_names_an_order_that_no_worker_would_find_and_a_retry_brings_it_back(
    conninfo: str,
) -> None:
    created = order_created()
    write(conninfo, *stored([created]))
    projected(conninfo)
    order_id = str(created.originator_id)
    assert run_pulse("verify", conninfo=conninfo).exit_code == 0
    with connect(conninfo) as connection:
        connection.execute("DELETE FROM pending_orders")
    verified = run_pulse("verify", conninfo=conninfo)
    assert (verified.exit_code, order_id in verified.out) == (1, True)
    retried = run_pulse("projections", "retry", order_id, conninfo=conninfo)
    assert (retried.exit_code, retried.err) == (0, "")
    assert run_pulse("verify", conninfo=conninfo).exit_code == 0


@pytest.mark.parametrize("window_events", [3, 1000])
async def test_a_rebuild_keeps_the_claims_of_orders_that_stay_pending(
    database: Database, store: EventStore, window_events: int
) -> None:
    created = await some_of_every_state(store, database)
    await hold(database, created[:3])
    await Claims(database, "worker-1").release([created[2].originator_id])
    right, claims = await pending_rows(database), await claims_of(database)
    assert len(claims) == 3
    await fetch(database, "UPDATE order_queue SET placed_by = 'altered'")
    await fetch(database, "DELETE FROM scheduled_slices")

    rebuilt = await rebuild(database, window_events)

    assert rebuilt.replaced == 20
    assert await pending_rows(database) == right
    assert await claims_of(database) == claims


@pytest.mark.parametrize("window_events", [3, 1000])
async def test_a_rebuild_removes_pending_rows_that_no_pending_order_has(
    database: Database, store: EventStore, window_events: int
) -> None:
    """Rows of an order with an outcome, and of no order: within the log's positions and beyond."""
    await some_of_every_state(store, database)
    right = await pending_rows(database)
    orders = await queue(database)
    await fetch(
        database,
        """INSERT INTO pending_orders
           SELECT created_position, order_id, created_at, 1, instrument, now(), now(), 'gone'
             FROM order_queue
            WHERE state <> 'PENDING'
            UNION ALL
           SELECT position, gen_random_uuid(), now(), 1, 'NSE:X', now(), now(), 'gone'
             FROM unnest(ARRAY[-7, 0, 33, 1000000]) position""",
    )
    assert len(await pending_rows(database)) == 24

    rebuilt = await rebuild(database, window_events)

    assert rebuilt.replaced == 15
    assert await pending_rows(database) == right
    assert await queue(database) == orders


@pytest.mark.parametrize(
    "altered",
    ["created_at = now()", "splitter_version = 2", "order_id = gen_random_uuid()"],
)
async def test_a_pending_row_that_contradicts_the_log_is_rewritten(
    database: Database, store: EventStore, altered: str
) -> None:
    created = await some_of_every_state(store, database)
    right = await pending_rows(database)
    await hold(database, created[4:5])
    claim = (await pending_rows(database))[4]
    async with database.connection() as connection:
        statement = f"UPDATE pending_orders SET {altered} WHERE created_position <= 2"
        await connection.execute(statement.encode())

    rebuilt = await rebuild(database)

    assert rebuilt.replaced == 2
    assert await pending_rows(database) == [*right[:4], claim]


async def test_a_wrong_state_in_the_queue_is_repaired_from_the_log(
    database: Database, store: EventStore
) -> None:
    created = await some_of_every_state(store, database)
    right = await pending_rows(database)
    orders = await queue(database)
    await fetch(
        database,
        "UPDATE order_queue SET state = 'PENDING', failure_reason = NULL, expired_quantity = 0"
        " WHERE state <> 'PENDING'",
    )
    await fetch(
        database,
        """INSERT INTO pending_orders
           SELECT created_position, order_id, created_at, 1, instrument FROM order_queue
            WHERE created_position > 5""",
    )
    await fetch(
        database, "UPDATE order_queue SET state = 'COMPLETED' WHERE created_position IN (1, 2)"
    )
    await delete_pending(database, created[:1])

    assert (await rebuild(database)).replaced == 17

    assert await pending_rows(database) == right
    assert await queue(database) == orders
    assert await project(database) == []
