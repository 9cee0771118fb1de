"""The splitting worker under a backlog: larger steps, one outcome for each order."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from uuid import UUID

import pytest

from pulse.domain import Claim, Event, OrderCreated
from pulse.eventstore import AppendResult, EventStore
from pulse.loop import NOW
from pulse.postgres import Database, DatabaseUnavailable
from pulse.projections.claims import Claims
from pulse.workers.splitting import SplitResult, SplittingWorker
from tests.support.events import orders_created
from tests.support.log import LONG_DEADLINES, fetch, nothing, running
from tests.support.read_model import project, queue
from tests.support.splitting import append_and_project, splitting_worker


class CountedClaims(Claims):
    """How many orders each step asked for."""

    def __init__(self, database: Database, worker: str = "worker-1") -> None:
        super().__init__(database, worker)
        self.asked: list[int] = []

    async def claim(self, limit: int) -> dict[UUID, Claim]:
        self.asked.append(limit)
        return await super().claim(limit)


class ClaimsThatBreakOnce(CountedClaims):
    """The third claim cannot be made."""

    async def claim(self, limit: int) -> dict[UUID, Claim]:
        if len(self.asked) == 2:
            self.asked.append(limit)
            raise DatabaseUnavailable("the connection broke")
        return await super().claim(limit)


class CountedStore(EventStore):
    """How many outcomes were appended together."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, on_commit=nothing, limits=LONG_DEADLINES)
        self.sizes: list[int] = []

    async def append_each(self, events: Sequence[Event]) -> list[AppendResult]:
        self.sizes.append(len(events))
        return await super().append_each(events)


async def backlog(store: EventStore, database: Database, orders: int) -> list[OrderCreated]:
    """`orders` pending orders of two slices."""
    created = orders_created(orders, num_splits=2)
    for first in range(0, orders, 500):
        await append_and_project(store, database, created[first : first + 500])
    return created


async def claimed_in_each_step(worker: SplittingWorker) -> list[int]:
    """Until a step finds nothing."""
    claimed: list[int] = []
    while not claimed or claimed[-1]:
        claimed.append((await worker.run_once()).claimed)
    return claimed


async def require_one_outcome_an_order(database: Database, orders: list[OrderCreated]) -> None:
    rows = await fetch(
        database, "SELECT originator_id, count(*) FROM stored_events GROUP BY originator_id"
    )
    assert dict(rows) == {order.originator_id: 2 for order in orders}
    await project(database)
    statuses = {row["order_queue_status"] for row in (await queue(database)).values()}
    assert statuses == {"COMPLETED"}


@pytest.mark.parametrize(
    ("batch_size", "orders", "asked", "claimed"),
    [
        (50, 1270, [50, 100, 200, 400, 500, 500, 50], [50, 100, 200, 400, 500, 20, 0]),
        (300, 820, [300, 500, 500, 300], [300, 500, 20, 0]),
        (600, 1220, [600, 600, 600, 600], [600, 600, 20, 0]),
    ],
)
async def test_under_a_backlog_each_step_claims_twice_as_many_up_to_500_and_then_falls_back(
    database: Database,
    store: EventStore,
    *,
    batch_size: int,
    orders: int,
    asked: list[int],
    claimed: list[int],
) -> None:
    """A batch size above 500 is the size of each step."""
    created = await backlog(store, database, orders)
    claims = CountedClaims(database)
    worker = splitting_worker(store, database, claims=claims, batch_size=batch_size)
    assert await claimed_in_each_step(worker) == claimed
    assert claims.asked == asked
    await require_one_outcome_an_order(database, created)


async def test_without_a_backlog_a_step_claims_at_most_a_batch(
    database: Database, store: EventStore
) -> None:
    claims = CountedClaims(database)
    worker = splitting_worker(store, database, claims=claims, batch_size=5)
    for arrived in (4, 5, 1, 5, 5, 0, 3):
        await append_and_project(store, database, orders_created(arrived, num_splits=2))
        step = await worker.run_once()
        assert step.claimed == arrived
        assert step.more == (arrived == claims.asked[-1])
        assert worker.pause_after(step) == (NOW if step.more else None)
    assert claims.asked == [5, 5, 10, 5, 10, 5, 5]


async def test_a_claim_that_failed_makes_the_next_one_a_batch_again(
    database: Database, store: EventStore
) -> None:
    await backlog(store, database, 40)
    claims = ClaimsThatBreakOnce(database)
    worker = splitting_worker(store, database, claims=claims, batch_size=5)
    await worker.run_once()
    await worker.run_once()
    with pytest.raises(DatabaseUnavailable):
        await worker.run_once()
    await worker.run_once()
    assert claims.asked == [5, 10, 20, 5]


async def test_outcomes_of_a_large_step_are_appended_together(database: Database) -> None:
    store = CountedStore(database)
    async with running(store.appender.run):
        created = await backlog(store, database, 750)
        worker = splitting_worker(store, database, batch_size=50)
        assert await claimed_in_each_step(worker) == [50, 100, 200, 400, 0]
    assert len(store.sizes) < 750 / 50
    await require_one_outcome_an_order(database, created)


async def test_workers_that_share_a_backlog_settle_each_order_once(
    database: Database, store: EventStore
) -> None:
    created = await backlog(store, database, 600)
    results: Counter[SplitResult] = Counter()

    async def drain(name: str) -> None:
        worker = splitting_worker(store, database, name=name)
        while (step := await worker.run_once()).claimed:
            results.update(step.results)

    await asyncio.gather(*(drain(f"worker-{n}") for n in range(3)))
    assert results == {SplitResult.COMPLETED: 600}
    await require_one_outcome_an_order(database, created)
