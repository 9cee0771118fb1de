"""One bad order does not block others, in a worker's batch or in the monitor."""

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from pulse.application.origin import Origin, system_clock
from pulse.domain import Event, SlicesScheduled
from pulse.eventstore import EventMapper, EventStore
from pulse.postgres import Database
from pulse.workers.splitting import SplitResult
from pulse.workers.timeouts import TimeoutMonitor
from tests.support.events import order_created, orders_created
from tests.support.splitting import append_and_project, events_of, splitting_worker


def queue_without_stream(conninfo: str, orders: int) -> None:
    """Rows of orders that the log does not have, older than all others."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            """WITH lost AS (
                   INSERT INTO order_queue
                   SELECT gen_random_uuid(), -n, 10, now(), 2, 1, 1, true, 'NSE:TCS', 'BUY',
                          'internal', 'x', 'lost ' || n, 1, -n, now(), NULL, 'PENDING'
                     FROM generate_series(1, %s) n
                   RETURNING *)
               INSERT INTO pending_orders
               SELECT created_position, order_id, created_at, splitter_version, instrument
                 FROM lost""",
            (orders,),
        )


async def test_a_worker_splits_the_rest_of_a_batch_in_which_an_order_has_no_stream(
    conninfo: str, database: Database, store: EventStore
) -> None:
    sound = order_created("sound")
    await append_and_project(store, database, [sound])
    queue_without_stream(conninfo, 1)

    batch = await splitting_worker(store, database).run_once()

    assert batch.results == {SplitResult.CRASHED: 1, SplitResult.COMPLETED: 1}
    assert isinstance((await events_of(store, sound.originator_id))[-1], SlicesScheduled)


async def test_a_worker_splits_the_rest_of_a_batch_in_which_an_outcome_cannot_be_encoded(
    database: Database, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = [order_created("poisoned"), *orders_created(5)]
    await append_and_project(store, database, orders)
    encode = EventMapper.to_stored_event

    def crash(mapper: EventMapper, event: Event) -> StoredEvent:
        if event.originator_id == orders[0].originator_id:
            raise OverflowError("no such number")
        return encode(mapper, event)

    monkeypatch.setattr(EventMapper, "to_stored_event", crash)
    batch = await splitting_worker(store, database).run_once()

    assert batch.results == {SplitResult.CRASHED: 1, SplitResult.COMPLETED: 5}


async def test_the_monitor_continues_past_orders_that_it_cannot_time_out(
    conninfo: str, database: Database, store: EventStore
) -> None:
    queue_without_stream(conninfo, 600)  # more than a page of claims
    sound = order_created("sound")
    await append_and_project(store, database, [sound])
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            """UPDATE pending_orders
                  SET claimed_by = 'w', claimed_at = now(),
                      first_claimed_at = now() - CASE order_id WHEN %s THEN interval '10 minutes'
                                                      ELSE interval '1 hour' END""",
            (sound.originator_id,),
        )
    monitor = TimeoutMonitor(database, store, system_clock, Origin("m"), timeout_seconds=300)

    batch = await monitor.run_once()

    assert (batch.overdue, batch.timed_out) == (601, 1)
