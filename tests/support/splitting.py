"""Orders in the queue, splitting workers and claims."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

import psycopg

from pulse.application.origin import Clock, Origin, system_clock
from pulse.domain import Event, OrderCreated
from pulse.eventstore import EventStore
from pulse.postgres import Database
from pulse.projections.claims import PRESENCE_CLASS, Claims
from pulse.spans import Spans
from pulse.workers.splitting import SplittingWorker
from tests.support.events import MAPPER, stored
from tests.support.log import fetch
from tests.support.read_model import project

Claim = tuple[str | None, datetime | None, datetime]


async def append_and_project(
    store: EventStore, database: Database, events: Sequence[Event]
) -> None:
    """Append these events and project them."""
    await store.append_stored(stored(events))
    await project(database)


def splitting_worker(
    store: EventStore,
    database: Database,
    *,
    name: str = "worker-1",
    batch_size: int = 10,
    max_split_delay_seconds: float = 300,
    claims: Claims | None = None,
    clock: Clock = system_clock,
    spans: Spans | None = None,
) -> SplittingWorker:
    """A splitting worker on this pool and store."""
    return SplittingWorker(
        store,
        claims or Claims(database, name),
        clock,
        Origin(name),
        batch_size=batch_size,
        max_split_delay_seconds=max_split_delay_seconds,
        spans=spans,
    )


async def hold(database: Database, orders: Iterable[OrderCreated], name: str = "worker-1") -> None:
    """Claim these pending orders for a worker, now."""
    await fetch(
        database,
        """UPDATE pending_orders
              SET claimed_by = %s, claimed_at = now(),
                  first_claimed_at = COALESCE(first_claimed_at, now())
            WHERE order_id = ANY (%s)""",
        name,
        [order.originator_id for order in orders],
    )


@contextmanager
def present(conninfo: str, worker: str) -> Iterator[None]:
    """Make that worker present, as a running one is."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            "SELECT pg_advisory_lock_shared(%s::integer, hashtext(%s))", (PRESENCE_CLASS, worker)
        )
        yield


async def claims_of(database: Database) -> dict[UUID, Claim]:
    """Every row of order_claims: the worker, the time, and the time of the first claim."""
    rows = await fetch(
        database, "SELECT order_id, claimed_by, claimed_at, first_claimed_at FROM order_claims"
    )
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


async def events_of(store: EventStore, order_id: UUID) -> list[Event]:
    """The order's history."""
    return [MAPPER.event_of(record) for record in await store.read_stream(order_id)]
