"""The projector: the rows of the order queue for each event."""

import asyncio
from collections.abc import Sequence

import pytest

from pulse.domain import Event
from pulse.eventstore import EventStore
from pulse.postgres import Database
from pulse.projections.claims import Claims
from pulse.projections.projector import Busy, Projected
from tests.support.events import (
    foreign_event,
    foreign_events,
    order_created,
    orders_created,
    slices_scheduled,
    splitting_failed,
    stored,
    timed_out,
)
from tests.support.log import fetch
from tests.support.read_model import folded, position, project, projector, queue, reset_read_model
from tests.support.splitting import claims_of, hold


async def appended(store: EventStore, events: Sequence[Event]) -> list[tuple[int, Event]]:
    """Append these events in this order; the log they make."""
    positions = await store.append_stored(stored(events))
    return list(zip(positions, events, strict=True))


async def pending(database: Database) -> set[object]:
    return {row[0] for row in await fetch(database, "SELECT order_id FROM pending_orders")}


async def test_a_created_order_is_pending(database: Database, store: EventStore) -> None:
    created = order_created(total_quantity=7, num_splits=2, side="SELL", randomize=False)
    log = await appended(store, [created])
    assert await project(database) == [Projected(position=log[0][0], events=1, foreign=0)]
    row = (await queue(database))[created.originator_id]
    assert row["order_queue_status"] == "PENDING"
    assert row["position"] == row["created_position"] == log[0][0]
    assert row["created_at"] == row["updated_at"] == created.timestamp
    assert (row["split_completed_at"], row["failure_reason"], row["slices"]) == (None, None, [])
    assert await queue(database) == folded(log)


async def test_a_split_order_is_completed_and_has_its_slices(
    database: Database, store: EventStore
) -> None:
    created = order_created(num_splits=100, total_quantity=12345, instrument="BSE:500325")
    scheduled = slices_scheduled(created)
    log = await appended(store, [created])
    await project(database)
    log += await appended(store, [scheduled])
    await project(database)
    row = (await queue(database))[created.originator_id]
    assert (row["order_queue_status"], row["version"]) == ("COMPLETED", 2)
    assert row["split_completed_at"] == row["updated_at"] == scheduled.timestamp
    assert sum(s["quantity"] for s in row["slices"]) == 12345
    assert {s["instrument"] for s in row["slices"]} == {"BSE:500325"}
    assert await queue(database) == folded(log)


async def test_an_order_that_cannot_be_split_is_failed_with_its_reason(
    database: Database, store: EventStore
) -> None:
    created = order_created()
    log = await appended(store, [created, splitting_failed(created, "TOO_LATE")])
    await project(database, batch_events=1)
    row = (await queue(database))[created.originator_id]
    assert (row["order_queue_status"], row["failure_reason"]) == ("FAILED", "TOO_LATE")
    assert (row["failure_message"], row["split_completed_at"]) == ("a rule is broken", None)
    assert await queue(database) == folded(log)


async def test_a_timed_out_order_is_failed_as_timed_out(
    database: Database, store: EventStore
) -> None:
    created = order_created()
    log = await appended(store, [created, timed_out(created)])
    await project(database, batch_events=1)
    row = (await queue(database))[created.originator_id]
    assert (row["order_queue_status"], row["failure_reason"]) == ("FAILED", "TIMED_OUT")
    assert "worker-1" in row["failure_message"]
    assert await queue(database) == folded(log)


async def test_orders_created_and_settled_in_one_batch_are_projected_as_if_one_by_one(
    database: Database, store: EventStore
) -> None:
    a, b, c, d = orders_created(4)
    events: list[Event] = [a, b, slices_scheduled(a), c, timed_out(c), d, splitting_failed(b)]
    log = await appended(store, events)
    assert [step.events for step in await project(database)] == [7]
    assert await queue(database) == folded(log)
    await reset_read_model(database)
    assert [step.events for step in await project(database, batch_events=1)] == [1] * 7
    assert await queue(database) == folded(log)


async def test_a_log_longer_than_a_batch_is_projected_in_several(
    database: Database, store: EventStore
) -> None:
    log = await appended(store, orders_created(25))
    steps = await project(database, batch_events=10)
    assert [(step.position, step.events) for step in steps] == [
        (log[9][0], 10),
        (log[19][0], 10),
        (log[24][0], 5),
    ]
    assert await position(database) == log[-1][0]
    assert await queue(database) == folded(log)


async def test_an_empty_log_leaves_everything_as_it_is(database: Database) -> None:
    result = await projector(database).run_once()
    assert result == Projected(position=0, events=0, foreign=0)
    assert await position(database) == 0


async def test_foreign_events_are_skipped_and_counted(
    database: Database, store: EventStore
) -> None:
    created = order_created()
    await store.append_stored(foreign_events(3))
    log = await appended(store, [created])
    await store.append_stored([foreign_event(created.originator_id, version=7)])
    (last,) = await store.append_stored([foreign_event()])
    assert await project(database) == [Projected(position=last, events=6, foreign=5)]
    assert await position(database) == last
    assert await queue(database) == folded(log)


async def test_a_batch_of_foreign_events_moves_the_position(
    database: Database, store: EventStore
) -> None:
    positions = await store.append_stored(foreign_events(4))
    steps = await project(database, batch_events=2)
    assert [(step.position, step.foreign) for step in steps] == [
        (positions[1], 2),
        (positions[3], 2),
    ]


async def test_if_the_position_is_locked_the_result_is_busy(
    database: Database, store: EventStore
) -> None:
    log = await appended(store, orders_created(3))
    async with await database.connect("holder") as holder, holder.transaction():
        await holder.execute("SELECT FROM notification_tracking FOR UPDATE")
        results = await asyncio.gather(*(projector(database).run_once() for _ in range(3)))
        assert results == [Busy(), Busy(), Busy()]
        assert await queue(database) == {}
    await project(database)
    assert await queue(database) == folded(log)


@pytest.mark.parametrize("batch_events", [1, 1000])
async def test_an_outcome_ends_its_orders_claim_and_no_other(
    database: Database, store: EventStore, batch_events: int
) -> None:
    split, failed, timed_out_order, waiting = orders_created(4)
    await appended(store, [split, failed, timed_out_order, waiting])
    await project(database, batch_events)
    await hold(database, [split, failed, timed_out_order, waiting])
    assert len(await claims_of(database)) == 4
    await appended(
        store, [slices_scheduled(split), splitting_failed(failed), timed_out(timed_out_order)]
    )
    await project(database, batch_events)
    assert set(await claims_of(database)) == await pending(database) == {waiting.originator_id}


async def test_a_released_claim_is_deleted_too(database: Database, store: EventStore) -> None:
    created = order_created()
    await appended(store, [created])
    await project(database)
    await hold(database, [created])
    await Claims(database, "worker-1").release([created.originator_id])
    assert set(await claims_of(database)) == {created.originator_id}
    await appended(store, [timed_out(created)])
    await project(database)
    assert await claims_of(database) == {}


async def test_an_order_is_pending_until_its_outcome_is_projected_in_any_batch(
    database: Database, store: EventStore
) -> None:
    at_once, later, waiting = orders_created(3)
    log = await appended(store, [at_once, slices_scheduled(at_once), later, waiting])
    await project(database, batch_events=3)
    assert await pending(database) == {later.originator_id, waiting.originator_id}
    log += await appended(store, [splitting_failed(later)])
    await project(database)
    assert await pending(database) == {waiting.originator_id}
    assert await queue(database) == folded(log)
