"""The in-memory statements behave like the SQL: the same actions on both have the same results."""

import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any
from uuid import UUID

import pytest

from pulse.domain import OrderCreated
from pulse.eventstore import EventStore, VersionTaken
from pulse.postgres import Database
from pulse.projections.claims import Claims, overdue_claims
from pulse.projections.projector import Projected
from pulse.workers.recovery import OrphanedClaims
from tests.simulation.memory.connection import MemoryDatabase
from tests.simulation.memory.server import Server
from tests.support.events import order_created, slices_scheduled, timed_out
from tests.support.log import nothing, running_store
from tests.support.read_model import projector, queue
from tests.support.splitting import claims_of

_ACTIONS = 60
_WORKERS = ("w1", "w2")


class Side:
    """Pulse's code on one of the two databases."""

    def __init__(self, database: Database, store: EventStore) -> None:
        self.database = database
        self.store = store
        self.claims = {name: Claims(database, name) for name in _WORKERS}

    async def append(self, event: Any) -> bool:
        try:
            await self.store.append(event)
        except VersionTaken:
            return False
        return True

    async def claim(self, worker: str, limit: int) -> list[UUID]:
        return list(await self.claims[worker].claim(limit))

    async def release(self, worker: str, order_ids: list[UUID]) -> None:
        await self.claims[worker].release(order_ids)

    async def release_orphans(self, timeout_seconds: float) -> dict[str, int]:
        orphans = OrphanedClaims(self.database, timeout_seconds=timeout_seconds, on_release=nothing)
        return dict(await orphans.run_once())

    async def overdue(self, timeout_seconds: float) -> set[UUID]:
        pages = overdue_claims(self.database, timeout_seconds=timeout_seconds)
        return {order_id async for claims in pages for order_id in claims}

    async def project(self, batch: int) -> int:
        result = await projector(self.database, batch).run_once()
        assert isinstance(result, Projected)
        return result.events


async def claims_on(side: Side) -> dict[UUID, tuple[str | None, bool]]:
    """The claims: who holds each order, and whether this is its first claim."""
    if isinstance(side.database, MemoryDatabase):
        return {
            order_id: (row.claimed_by, row.claimed_at == row.first_claimed_at)
            for order_id, row in side.database.server.tables.pending.items()
            if row.first_claimed_at is not None
        }
    return {
        order_id: (claimed_by, claimed_at == first_claimed_at)
        for order_id, (claimed_by, claimed_at, first_claimed_at) in (
            await claims_of(side.database)
        ).items()
    }


async def queue_on(side: Side) -> dict[UUID, tuple[Any, ...]]:
    if not isinstance(side.database, MemoryDatabase):
        rows = await queue(side.database)
        return {
            i: (row["version"], row["failure_reason"], row["total_quantity"], len(row["slices"]))
            for i, row in rows.items()
        }
    tables = side.database.server.tables
    return {
        i: (
            row["version"],
            row["failure_reason"],
            row["total_quantity"],
            sum(position == row["created_position"] for position, _ in tables.slices),
        )
        for i, row in tables.orders.items()
    }


Action = Callable[[Side], Awaitable[Any]]


def next_action(random: Random, orders: list[OrderCreated]) -> Action:
    """A random action, which both sides execute."""
    worker, few = random.choice(_WORKERS), random.randint(1, 3)
    timeout_seconds = random.choice((0.0, 300.0))
    some = random.sample(orders, min(few, len(orders)))
    created = order_created()
    outcome = random.choice((slices_scheduled, timed_out))
    kind = random.choice(("place", "place", "settle", "claim", "claim", "project", "hand back"))
    if kind == "place" or not orders:
        orders.append(created)
        return lambda side: side.append(created)
    if kind == "settle":
        event = outcome(some[0])
        return lambda side: side.append(event)
    if kind == "claim":
        return lambda side: side.claim(worker, few)
    if kind == "project":
        return lambda side: side.project(few)
    ids = [order.originator_id for order in some]
    backs: tuple[Action, ...] = (
        lambda side: side.release(worker, ids),
        lambda side: side.release_orphans(timeout_seconds),
        lambda side: side.overdue(timeout_seconds),
    )
    return random.choice(backs)


@pytest.mark.parametrize("seed", range(6))
async def test_the_same_actions_have_the_same_results(database: Database, seed: int) -> None:
    random, orders = Random(seed), list[OrderCreated]()
    memory = MemoryDatabase(Server(time.monotonic))
    async with running_store(database) as real_store, running_store(memory) as memory_store:
        real, simulated = Side(database, real_store), Side(memory, memory_store)
        for number in range(_ACTIONS):
            action = next_action(random, orders)
            assert await action(real) == await action(simulated), number
            assert await claims_on(real) == await claims_on(simulated), number
            assert await queue_on(real) == await queue_on(simulated), number
    assert len(orders) > 5
