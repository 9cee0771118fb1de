"""Claims: oldest first, bounded, and never two workers on one order."""

import asyncio

import msgspec

from pulse.domain import CURRENT_SPLITTER_VERSION, OrderCreated
from pulse.eventstore import EventStore
from pulse.postgres import Database
from pulse.projections.claims import Claims
from tests.support.database import as_runtime
from tests.support.events import order_created, orders_created, slices_scheduled
from tests.support.log import fetch
from tests.support.splitting import append_and_project, claims_of


def ids(orders: list[OrderCreated]) -> list[object]:
    return [order.originator_id for order in orders]


async def test_orders_are_claimed_oldest_first_by_their_place_in_the_log(
    database: Database, store: EventStore
) -> None:
    """Their timestamps have the opposite order: the clock of another process must not count."""
    orders = orders_created(9)
    times = sorted((order.timestamp for order in orders), reverse=True)
    orders = [
        msgspec.structs.replace(order, timestamp=time)
        for order, time in zip(orders, times, strict=True)
    ]
    await append_and_project(store, database, orders)
    claims = Claims(database, "worker-1")
    batches = [list(await claims.claim(3)) for _ in range(4)]
    assert batches == [ids(orders[:3]), ids(orders[3:6]), ids(orders[6:]), []]


async def test_a_claim_is_limited_and_makes_the_order_in_progress(
    database: Database, store: EventStore
) -> None:
    orders = orders_created(5)
    await append_and_project(store, database, orders)
    claimed = await Claims(database, "worker-1").claim(2)
    rows = await fetch(
        database,
        "SELECT order_id, order_queue_status, claimed_by FROM order_queue_status ORDER BY position",
    )
    assert [row[1:] for row in rows] == [("IN_PROGRESS", "worker-1")] * 2 + [("PENDING", None)] * 3
    assert list(claimed) == [row[0] for row in rows[:2]]


async def test_a_claim_carries_the_times_of_the_databases_clock(
    database: Database, store: EventStore
) -> None:
    await append_and_project(store, database, [order_created()])
    ((before,),) = await fetch(database, "SELECT clock_timestamp()")
    ((order_id, claim),) = (await Claims(database, "worker-1").claim(1)).items()
    ((after,),) = await fetch(database, "SELECT clock_timestamp()")
    assert before <= claim.first_claimed_at <= claim.claimed_at <= after
    assert (await claims_of(database))[order_id] == (
        "worker-1",
        claim.claimed_at,
        claim.first_claimed_at,
    )


async def test_two_workers_never_claim_the_same_order(
    database: Database, conninfo: str, store: EventStore
) -> None:
    """Twelve workers on two pools claim at once, until nothing is left."""
    orders = orders_created(300)
    await append_and_project(store, database, orders)
    second = Database(as_runtime(conninfo), pool_size=6)
    await second.open()
    held: list[tuple[str, object]] = []

    async def take_all(claims: Claims) -> None:
        empty = 0
        while empty < 3:
            claimed = await claims.claim(7)
            held.extend((claims.worker, order_id) for order_id in claimed)
            empty = 0 if claimed else empty + 1

    workers = [Claims((database, second)[n % 2], f"worker-{n}") for n in range(12)]
    await asyncio.gather(*map(take_all, workers))
    await second.close()
    assert len(held) == 300
    assert {order_id for _, order_id in held} == set(ids(orders))
    stored_claims = await claims_of(database)
    assert {(claim[0], order_id) for order_id, claim in stored_claims.items()} == set(held)
    assert len({worker for worker, _ in held}) > 1


async def test_concurrent_claims_do_not_wait_for_each_other(
    database: Database, store: EventStore
) -> None:
    orders = orders_created(4)
    await append_and_project(store, database, orders)
    async with await database.connect("other") as other, other.transaction():
        await other.execute(
            "SELECT FROM pending_orders WHERE order_id = ANY (%s) FOR UPDATE", (ids(orders[:2]),)
        )
        assert list(await Claims(database, "worker-1").claim(2)) == ids(orders[2:])


async def test_a_released_claim_keeps_its_first_claim_time(
    database: Database, store: EventStore
) -> None:
    await append_and_project(store, database, [order_created()])
    first, second = Claims(database, "worker-1"), Claims(database, "worker-2")
    ((order_id, was),) = (await first.claim(1)).items()
    await first.release([order_id])
    assert await claims_of(database) == {order_id: (None, None, was.first_claimed_at)}
    ((again, now),) = (await second.claim(1)).items()
    assert again == order_id
    assert now.worker == "worker-2"
    assert now.first_claimed_at == was.first_claimed_at
    assert now.claimed_at > was.claimed_at


async def test_a_worker_can_release_only_its_own_claims(
    database: Database, store: EventStore
) -> None:
    await append_and_project(store, database, orders_created(2))
    (mine,) = await Claims(database, "worker-1").claim(1)
    (theirs,) = await Claims(database, "worker-2").claim(1)
    await Claims(database, "worker-1").release([mine, theirs])
    holders = {order_id: claim[0] for order_id, claim in (await claims_of(database)).items()}
    assert holders == {mine: None, theirs: "worker-2"}


async def test_an_order_for_newer_code_is_never_claimed_and_blocks_no_other(
    database: Database, store: EventStore
) -> None:
    newer = order_created(splitter_version=CURRENT_SPLITTER_VERSION + 1)
    known = order_created()
    await append_and_project(store, database, [newer, known])
    assert list(await Claims(database, "worker-1").claim(10)) == [known.originator_id]


async def test_a_settled_order_is_never_claimed(database: Database, store: EventStore) -> None:
    created = order_created()
    await append_and_project(store, database, [created, slices_scheduled(created)])
    assert await Claims(database, "worker-1").claim(10) == {}
