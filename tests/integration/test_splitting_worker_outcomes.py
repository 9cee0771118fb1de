"""The splitting worker: the outcomes of claimed orders."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from pulse.domain import SlicesScheduled, SplittingFailed, fold, split
from pulse.eventstore import EventStore
from pulse.postgres import Database
from pulse.workers.splitting import SplitResult
from tests.support.events import (
    TRACE,
    order_created,
    orders_created,
    slices_scheduled,
    stored,
)
from tests.support.log import fetch, read_log
from tests.support.read_model import folded, project, queue
from tests.support.splitting import append_and_project, claims_of, events_of, splitting_worker


async def test_an_order_is_claimed_split_appended_and_projected(
    database: Database, store: EventStore
) -> None:
    created = order_created()
    await append_and_project(store, database, [created])
    batch = await splitting_worker(store, database).run_once()
    assert (batch.claimed, batch.results) == (1, Counter({SplitResult.COMPLETED: 1}))
    events = await events_of(store, created.originator_id)
    order = fold(events)
    assert order is not None
    assert order.slices == split(order.terms, 1)
    await project(database)
    records = await read_log(store, after=0, limit=10)
    expected = folded((r.position, store.mapper.event_of(r)) for r in records)
    assert await queue(database) == expected
    assert expected[created.originator_id]["order_queue_status"] == "COMPLETED"
    assert await claims_of(database) == {}


async def test_a_worker_takes_the_oldest_orders_first_in_each_step(
    database: Database, store: EventStore
) -> None:
    orders = orders_created(35)
    await append_and_project(store, database, orders)
    worker = splitting_worker(store, database, batch_size=10)
    for done in (10, 30, 35, 35):
        await worker.run_once()
        await project(database)
        rows = await fetch(
            database,
            """SELECT order_id FROM order_queue
                WHERE state = 'COMPLETED' ORDER BY created_position""",
        )
        assert [row[0] for row in rows] == [order.originator_id for order in orders[:done]]


async def test_a_worker_without_orders_returns_an_empty_result(
    database: Database, store: EventStore
) -> None:
    batch = await splitting_worker(store, database).run_once()
    assert (batch.claimed, batch.results) == (0, Counter())


async def test_the_outcome_names_the_claim_the_worker_and_the_orders_own_trace(
    database: Database, store: EventStore
) -> None:
    created = order_created()
    await append_and_project(store, database, [created])
    await splitting_worker(store, database, name="worker-7").run_once()
    _, event = await events_of(store, created.originator_id)
    assert isinstance(event, SlicesScheduled)
    _, claimed_at, _ = (await claims_of(database))[created.originator_id]
    assert (event.worker, event.claimed_at) == ("worker-7", claimed_at)
    assert (event.recorded_by.component, event.recorded_by.instance) == ("worker", "worker-7")
    assert event.trace.trace_id == TRACE.trace_id
    assert event.trace.trace_source == "PULSE_BACKGROUND:worker-7"
    assert event.trace.request_source == "PULSE_BACKGROUND:worker-7"
    assert event.trace.request_id.startswith("r")
    assert event.trace.request_id != TRACE.request_id


async def test_each_order_of_a_batch_has_a_request_id_of_its_own(
    database: Database, store: EventStore
) -> None:
    orders = orders_created(5)
    await append_and_project(store, database, orders)
    await splitting_worker(store, database).run_once()
    histories = [await events_of(store, order.originator_id) for order in orders]
    assert len({history[1].trace.request_id for history in histories}) == 5


async def test_an_order_settled_in_the_log_but_not_yet_in_the_queue_is_not_settled_again(
    database: Database, store: EventStore
) -> None:
    created = order_created()
    await append_and_project(store, database, [created])
    await store.append_stored(stored([slices_scheduled(created, "another")]))
    batch = await splitting_worker(store, database).run_once()
    assert batch.results == Counter({SplitResult.OUTCOME_EXISTS: 1})
    assert set(await claims_of(database)) == {created.originator_id}
    assert (await splitting_worker(store, database).run_once()).claimed == 0, "it does not spin"
    await project(database)
    assert await claims_of(database) == {}
    assert len(await events_of(store, created.originator_id)) == 2


@pytest.mark.parametrize(
    ("age_seconds", "duration_minutes", "max_delay_seconds", "in_time"),
    [
        (0, 60, 300, True),
        (200, 60, 300, True),
        (400, 60, 300, False),
        (400, 60, 0, True),
        (400, 5, 0, False),
        (400, 5, 1000, False),
    ],
)
async def test_an_order_is_split_in_time_or_fails_as_too_late(
    database: Database,
    store: EventStore,
    age_seconds: float,
    duration_minutes: int,
    max_delay_seconds: float,
    *,
    in_time: bool,
) -> None:
    created = order_created(
        timestamp=datetime.now(UTC) - timedelta(seconds=age_seconds),
        duration_minutes=duration_minutes,
    )
    await append_and_project(store, database, [created])
    worker = splitting_worker(store, database, max_split_delay_seconds=max_delay_seconds)
    batch = await worker.run_once()
    _, event = await events_of(store, created.originator_id)
    if in_time:
        assert batch.results == Counter({SplitResult.COMPLETED: 1})
        assert isinstance(event, SlicesScheduled)
        return
    assert batch.results == Counter({SplitResult.FAILED: 1})
    assert isinstance(event, SplittingFailed)
    assert (event.reason, event.worker) == ("TOO_LATE", "worker-1")
    await project(database)
    row = (await queue(database))[created.originator_id]
    assert (row["order_queue_status"], row["failure_reason"]) == ("FAILED", "TOO_LATE")
    assert row["failure_message"] == event.message


async def test_an_order_first_claimed_in_time_is_split_however_late_it_is_claimed_again(
    database: Database, store: EventStore
) -> None:
    created = order_created(timestamp=datetime.now(UTC) - timedelta(seconds=400))
    await append_and_project(store, database, [created])
    await fetch(
        database,
        "UPDATE pending_orders SET first_claimed_at = %s WHERE order_id = %s",
        created.timestamp + timedelta(seconds=1),
        created.originator_id,
    )
    batch = await splitting_worker(store, database).run_once()
    assert batch.results == Counter({SplitResult.COMPLETED: 1})


async def test_an_unreadable_order_affects_no_other(database: Database, store: EventStore) -> None:
    """An order whose history cannot be read stays claimed; the rest of the batch is split."""
    orders = orders_created(3)
    await append_and_project(store, database, orders)
    event = stored([slices_scheduled(orders[1])])[0]
    await store.append_stored([type(event)(event.originator_id, 2, event.topic, b"{nonsense")])
    batch = await splitting_worker(store, database).run_once()
    assert batch.results == Counter({SplitResult.COMPLETED: 2, SplitResult.CRASHED: 1})
    await project(database)
    holders = {order_id: claim[0] for order_id, claim in (await claims_of(database)).items()}
    assert holders == {orders[1].originator_id: "worker-1"}


async def test_an_order_of_newer_code_is_released_as_if_never_claimed(
    database: Database, store: EventStore
) -> None:
    orders = orders_created(2)
    await append_and_project(store, database, orders)
    (event,) = stored([slices_scheduled(orders[1])])
    newer = event.state[:-1] + b',"class_version":2}'
    await store.append_stored([type(event)(event.originator_id, 2, event.topic, newer)])
    batch = await splitting_worker(store, database).run_once()
    assert batch.results == Counter({SplitResult.COMPLETED: 1, SplitResult.NEEDS_NEWER_CODE: 1})
    assert set(await claims_of(database)) == {orders[0].originator_id}
