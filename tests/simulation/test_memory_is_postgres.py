"""The in-memory statements behave like the SQL: the same actions on both have the same results."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final
from uuid import UUID

import pytest

from pulse.domain import (
    CancelOrder,
    Event,
    Halts,
    Order,
    OrderCancelled,
    OrderCreated,
    SlicesExpired,
    SlicesReleased,
    decide,
    evolve,
)
from pulse.eventstore import EventStore, VersionTaken
from pulse.evidence.anchors import AnchorFile, Anchors
from pulse.evidence.sealer import Sealed, Sealer
from pulse.postgres import Database
from pulse.projections.claims import Claims, overdue_claims
from pulse.projections.due_orders import read_due_orders
from pulse.projections.projector import Projected
from pulse.projections.queue_writer import refresh_due_orders
from pulse.workers.recovery import OrphanedClaims
from tests.simulation.memory.connection import MemoryDatabase
from tests.simulation.memory.server import EPOCH, Server
from tests.support.events import (
    AUTHOR,
    TRACE,
    order_created,
    orders_created,
    slices_scheduled,
    timed_out,
)
from tests.support.log import fetch, nothing, running_store
from tests.support.read_model import projector, queue
from tests.support.seal import KEY
from tests.support.splitting import claims_of

_ACTIONS = 120
_WORKERS = ("w1", "w2")
_WINDOW: Final = timedelta(minutes=60)
_QUARTER: Final = _WINDOW / 4
"""The distance between the slices of an order of five. None of their times is close to now."""


class Side:
    """Pulse's code on one of the two databases."""

    def __init__(self, database: Database, store: EventStore, anchors: Path) -> None:
        self.database = database
        self._anchors = Anchors(AnchorFile(anchors))
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

    async def due(self, limit: int) -> tuple[Any, ...]:
        """The due orders, and when the next one is due, to the millisecond."""
        due = await read_due_orders(self.database, limit, halts=Halts(), max_delay_seconds=60)
        assert abs(due.at - datetime.now(UTC)) < timedelta(minutes=1)
        if due.next_seconds is None:
            return due.orders, None
        return due.orders, round(due.at.timestamp() + due.next_seconds, 3)

    async def refresh(self, order_ids: list[UUID]) -> set[UUID | None]:
        """Refresh the due rows of these orders and of a missing one; returns the changed orders."""
        ids = {position: order_id for order_id, position in (await created_on(self)).items()}
        positions = [position for position, order_id in ids.items() if order_id in order_ids]
        async with self.database.connection() as connection, connection.transaction():
            changed = await refresh_due_orders(connection, [*positions, 10**9])
        return {ids.get(position) for position in changed}

    async def seal(self, batch: int) -> tuple[int, int, int, bool]:
        """Seal the next events."""
        result = await Sealer(
            self.database, lambda: KEY, self._anchors, batch_events=batch, checkpoint_seconds=0
        ).run_once()
        assert isinstance(result, Sealed)
        return result.size, result.position, result.events, result.checkpoint is None

    async def forget_due(self, order_id: UUID) -> None:
        """Delete an order's row of due orders, so that it is wrong."""
        position = (await created_on(self)).get(order_id)
        if isinstance(self.database, MemoryDatabase):
            self.database.server.tables.due.pop(position or 0, None)
        else:
            await fetch(
                self.database, "DELETE FROM due_orders WHERE created_position = %s", position
            )


async def created_on(side: Side) -> dict[UUID, int]:
    """Where each projected order was created."""
    if isinstance(side.database, MemoryDatabase):
        return {i: p for p, i in side.database.server.tables.ids.items()}
    rows = await fetch(side.database, "SELECT order_id, created_position FROM order_queue")
    return {row[0]: row[1] for row in rows}


async def life_on(side: Side) -> tuple[dict[UUID, tuple[Any, ...]], set[UUID]]:
    """What became of the slices of each order and when it is due; and the parked orders."""
    if isinstance(side.database, MemoryDatabase):
        tables = side.database.server.tables
        columns = ("settled", "released_quantity", "cancelled_quantity", "expired_quantity")
        orders = {
            i: (*(row[name] for name in columns), tables.due.get(row["created_position"]))
            for i, row in tables.orders.items()
        }
        return orders, set(tables.parked)
    rows = await fetch(
        side.database,
        """SELECT order_id, settled, released_quantity, cancelled_quantity, expired_quantity, due_at
             FROM order_queue LEFT JOIN due_orders USING (created_position)""",
    )
    parked = await fetch(side.database, "SELECT order_id FROM parked_orders")
    return {row[0]: row[1:] for row in rows}, {row[0] for row in parked}


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


async def seal_on(side: Side) -> tuple[list[Any], list[Any], list[Any]]:
    """The rows of the seal, without what depends on the times of the events."""
    if isinstance(side.database, MemoryDatabase):
        seal = side.database.server.tables.seal
        row = seal.row
        columns = (row.verifier_key, row.size, row.position, len(row.frontier))
        entries = [(first, seal.entries[first][0]) for first in sorted(seal.entries)]
        return [(*columns, row.checkpoint_size)], entries, sorted(seal.nodes)
    state = await fetch(
        side.database,
        "SELECT verifier_key, size, position, length(frontier), checkpoint_size FROM seal_state",
    )
    rows = await fetch(
        side.database, "SELECT first_index, first_position FROM seal_entries ORDER BY 1"
    )
    return state, rows, await fetch(side.database, "SELECT level, node_index FROM seal_nodes")


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


class Actions:
    """Random actions, which both sides execute. `orders` are as their appended events say."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._created: dict[UUID, OrderCreated] = {}
        self.orders: dict[UUID, Order] = {}
        self.settled: set[type[Event]] = set()

    def next(self) -> Action:
        """The next action."""
        kinds = (
            *(self._place, self._place, self._outcome, self._outcome),
            *(self._settle, self._settle, self._settle, self._settle, self._break),
            *(self._claim, self._claim, self._release),
            *(self._project, self._project, self._project),
            *(self._due, self._refresh, self._forget_due, self._seal),
        )
        return self._place() if not self.orders else self._random.choice(kinds)()

    def _any(self) -> UUID:
        return self._random.choice(list(self.orders))

    def _some(self) -> list[UUID]:
        return self._random.sample(list(self.orders), min(len(self.orders), self._few()))

    def _few(self) -> int:
        return self._random.randint(1, 3)

    def _place(self) -> Action:
        """Place an order: with some slices due, or with all of them due, a second or two apart."""
        now, random = datetime.now(UTC), self._random
        begun = now - _QUARTER * (random.randint(-1, 5) + 0.5)
        together = random.random() < 0.4
        created = order_created(
            timestamp=now - _WINDOW if together else begun,
            duration_minutes=1 if together else 60,
            num_splits=40 if together else 5,
            randomize=together,
            release=random.random() < 0.8,
        )
        self._created[created.originator_id] = created
        return self._append(created)

    def _append(self, event: Event) -> Action:
        order = self.orders.get(event.originator_id)
        if event.originator_version == (1 if order is None else order.version + 1):
            self.orders[event.originator_id] = evolve(order, event)
        return lambda side: side.append(event)

    def _outcome(self) -> Action:
        order_id, outcome = self._any(), self._random.choice((slices_scheduled,) * 4 + (timed_out,))
        return self._append(outcome(self._created[order_id]))

    def _settle(self) -> Action:
        """Release, expire or cancel the next slices; or cancel an order that is not split."""
        is_split = self._random.random() < 0.9
        unsettled = [o for o in self.orders.values() if o.unsettled or o.state == "PENDING"]
        wanted = [order for order in unsettled if (order.state == "COMPLETED") == is_split]
        if not wanted:
            return self._outcome()
        order = self._random.choice(wanted)
        event = self._settlement(order)
        self.settled.add(type(event))
        return self._append(event)

    def _settlement(self, order: Order) -> Event:
        random, slices = self._random, order.unsettled[: self._few()]
        late = timedelta(seconds=random.choice((0.0, 0.8, 1.6, 7.0)))
        at = (slices[-1].scheduled_at if slices else order.updated_at) + late
        if not order.release or not slices or random.random() < 0.15:
            command = CancelOrder(
                reason="a reason", cancelled_by="tester", at=at, recorded_by=AUTHOR, trace=TRACE
            )
            return decide(command, order)[0]
        common: dict[str, Any] = {
            "originator_id": order.id,
            "originator_version": order.version + 1,
            "timestamp": at,
            "recorded_by": AUTHOR,
            "trace": TRACE,
        }
        if random.random() < 0.3:
            return SlicesExpired(
                **common,
                sequence_numbers=tuple(s.sequence_number for s in slices),
                quantity=sum(s.quantity for s in slices),
                reason="RELEASE_TOO_LATE",
            )
        return SlicesReleased(
            **common,
            order_unique_key=order.spec.order_unique_key,
            instrument=order.spec.instrument,
            side=order.spec.side,
            slices=slices,
        )

    def _break(self) -> Action:
        """Expire a slice out of turn, or leave out a version: this parks the order."""
        order = self.orders[self._any()]
        if self._random.random() < 0.4 or len(order.unsettled) < 2:
            return self._project()
        gap = self._random.randint(0, 1)
        following = order.unsettled[1 - gap]
        expired = SlicesExpired(
            originator_id=order.id,
            originator_version=order.version + 1 + gap,
            timestamp=order.updated_at,
            recorded_by=AUTHOR,
            trace=TRACE,
            sequence_numbers=(following.sequence_number,),
            quantity=following.quantity,
            reason="RELEASE_TOO_LATE",
        )
        del self.orders[order.id]
        return lambda side: side.append(expired)

    def _claim(self) -> Action:
        worker, few = self._random.choice(_WORKERS), self._few()
        return lambda side: side.claim(worker, few)

    def _project(self) -> Action:
        few = self._random.choice((1, 2, 3, 20))
        return lambda side: side.project(few)

    def _release(self) -> Action:
        worker, ids = self._random.choice(_WORKERS), self._some()
        timeout_seconds = self._random.choice((0.0, 300.0))
        releases: tuple[Action, ...] = (
            lambda side: side.release(worker, ids),
            lambda side: side.release_orphans(timeout_seconds),
            lambda side: side.overdue(timeout_seconds),
        )
        return self._random.choice(releases)

    def _due(self) -> Action:
        limit = self._random.choice((1, 2, 500))
        return lambda side: side.due(limit)

    def _seal(self) -> Action:
        batch = self._random.choice((2, 2_000))
        return lambda side: side.seal(batch)

    def _refresh(self) -> Action:
        ids = list(self.orders)
        return lambda side: side.refresh(ids)

    def _forget_due(self) -> Action:
        order_id = self._any()
        return lambda side: side.forget_due(order_id)


@pytest.mark.parametrize("seed", range(6))
async def test_the_same_actions_have_the_same_results(
    database: Database, tmp_path: Path, seed: int
) -> None:
    actions = Actions(seed)
    memory = MemoryDatabase(Server(lambda: time.time() - EPOCH.timestamp()))
    async with running_store(database) as real_store, running_store(memory) as memory_store:
        real = Side(database, real_store, tmp_path / "real")
        simulated = Side(memory, memory_store, tmp_path / "memory")
        for number in range(_ACTIONS):
            action = actions.next()
            assert await action(real) == await action(simulated), number
            assert await claims_on(real) == await claims_on(simulated), number
            assert await queue_on(real) == await queue_on(simulated), number
            assert await life_on(real) == await life_on(simulated), number
            assert await seal_on(real) == await seal_on(simulated), number
        assert await real.due(500) == await simulated.due(500)
    assert len(actions.orders) > 5
    assert {SlicesReleased, OrderCancelled} <= actions.settled


async def test_a_tree_of_several_bundles_is_the_same(database: Database, tmp_path: Path) -> None:
    memory = MemoryDatabase(Server(lambda: time.time() - EPOCH.timestamp()))
    async with running_store(database) as real_store, running_store(memory) as memory_store:
        real = Side(database, real_store, tmp_path / "real")
        simulated = Side(memory, memory_store, tmp_path / "memory")
        for batch in (200, 300, 12):
            created = orders_created(batch)
            for side in (real, simulated):
                await asyncio.gather(*map(side.append, created))
            assert await real.seal(2_000) == await simulated.seal(2_000)
            assert await seal_on(real) == await seal_on(simulated)
