"""The splitting worker under faults: lost races, and outages of Postgres."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from pulse.domain import Claim
from pulse.eventstore import AppendLimits, EventStore
from pulse.eventstore.append_state import Disconnected
from pulse.postgres import Database, DatabaseUnavailable, PostgresLimits
from pulse.projections.claims import Claims
from pulse.workers.splitting import SplitResult
from tests.support.events import (
    foreign_event,
    order_created,
    orders_created,
    stored,
    timed_out,
)
from tests.support.log import LONG_DEADLINES, append_singly, running_appender
from tests.support.proxy import Fault, PostgresProxy
from tests.support.read_model import project, queue
from tests.support.splitting import append_and_project, claims_of, events_of, splitting_worker
from tests.support.waiting import until


@pytest.fixture
async def behind_proxy(proxy: PostgresProxy) -> AsyncIterator[Database]:
    """A pool behind the proxy that does not wait long."""
    behind_proxy = Database(
        proxy.conninfo, pool_size=2, limits=PostgresLimits(checkout_seconds=0.3)
    )
    await behind_proxy.open()
    yield behind_proxy
    await behind_proxy.close()


async def holders(database: Database) -> set[str | None]:
    return {claim[0] for claim in (await claims_of(database)).values()}


async def test_a_worker_that_comes_late_loses_to_the_monitor(
    database: Database, store: EventStore, proxy: PostgresProxy
) -> None:
    """Its append is in progress when TimedOut takes version 2."""
    created = order_created()
    await append_and_project(store, database, [created])
    late = Fault(hold=asyncio.Event())
    behind = Database(proxy.conninfo, pool_size=1)
    late_store = EventStore(database, on_commit=lambda: None, limits=LONG_DEADLINES)
    async with running_appender(behind) as appender:
        late_store.appender = appender
        await appender.append([foreign_event()])
        proxy.faults.append(late)
        working = asyncio.ensure_future(splitting_worker(late_store, database).run_once())
        await late.held.wait()
        await store.append_stored(stored([timed_out(created)]))
        assert late.hold is not None
        late.hold.set()
        assert (await working).results == Counter({SplitResult.OUTCOME_EXISTS: 1})
    assert await holders(database) == {"worker-1"}
    await project(database)
    assert await claims_of(database) == {}
    row = (await queue(database))[created.originator_id]
    assert (row["order_queue_status"], row["failure_reason"]) == ("FAILED", "TIMED_OUT")


async def test_of_two_workers_with_one_order_exactly_one_settles_it(
    database: Database, store: EventStore
) -> None:
    """Both hold the order, as after a claim that was released as an orphan by mistake."""
    orders = orders_created(20)
    await append_and_project(store, database, orders)
    claims = Claims(database, "worker-1")
    stale = await claims.claim(20)
    await claims.release(stale)

    class StaleClaims(Claims):
        async def claim(self, limit: int) -> dict[UUID, Claim]:
            assert limit
            return stale

    stale_batch, batch = await asyncio.gather(
        splitting_worker(store, database, claims=StaleClaims(database, "worker-1")).run_once(),
        splitting_worker(store, database, name="worker-2", batch_size=20).run_once(),
    )
    results = stale_batch.results + batch.results
    assert results == Counter({SplitResult.COMPLETED: 20, SplitResult.OUTCOME_EXISTS: 20})
    assert {len(await events_of(store, order.originator_id)) for order in orders} == {2}


async def test_claims_of_orders_whose_outcome_was_refused_are_released(
    database: Database, store: EventStore, proxy: PostgresProxy
) -> None:
    """Postgres is unreachable for the appender only."""
    orders = orders_created(3)
    await append_and_project(store, database, orders)
    crippled = EventStore(database, on_commit=lambda: None, limits=LONG_DEADLINES)
    async with running_appender(Database(proxy.conninfo, pool_size=1)) as appender:
        crippled.appender = appender
        await appender.append([foreign_event()])
        proxy.refuse()
        caught = asyncio.ensure_future(append_singly(appender, [foreign_event()]))

        async def unavailable() -> bool:
            return isinstance(appender.state, Disconnected)

        await until(unavailable, "the appender knows that Postgres is down")
        batch = await splitting_worker(crippled, database).run_once()
        assert batch.results == Counter({SplitResult.RELEASED: 3})
        assert await holders(database) == {None}
        await proxy.accept()
        await caught
    batch = await splitting_worker(store, database, name="worker-2").run_once()
    assert batch.results == Counter({SplitResult.COMPLETED: 3})


async def test_claims_of_orders_that_could_not_be_read_are_released(
    database: Database, store: EventStore, proxy: PostgresProxy, behind_proxy: Database
) -> None:
    await append_and_project(store, database, orders_created(3))
    proxy.refuse()
    unread = EventStore(behind_proxy, on_commit=lambda: None)
    batch = await splitting_worker(unread, database).run_once()
    assert batch.results == Counter({SplitResult.RELEASED: 3})
    assert await holders(database) == {None}


async def test_if_postgres_stays_down_after_the_claim_the_claim_stays_and_nothing_raises(
    database: Database, store: EventStore, proxy: PostgresProxy, behind_proxy: Database
) -> None:
    await append_and_project(store, database, orders_created(3))
    reading = Fault(hold=asyncio.Event())
    proxy.faults.extend([None, reading])
    worker = splitting_worker(EventStore(behind_proxy, on_commit=lambda: None), behind_proxy)
    working = asyncio.ensure_future(worker.run_once())
    await reading.held.wait()
    proxy.refuse()
    assert (await working).results == Counter({SplitResult.RELEASED: 3})
    assert await holders(database) == {"worker-1"}


async def test_if_postgres_is_down_before_the_claim_the_worker_raises(
    proxy: PostgresProxy, behind_proxy: Database
) -> None:
    proxy.refuse()
    worker = splitting_worker(EventStore(behind_proxy, on_commit=lambda: None), behind_proxy)
    with pytest.raises(DatabaseUnavailable):
        await worker.run_once()


@pytest.mark.timing
async def test_the_claim_of_an_order_with_unknown_outcome_is_not_released(
    database: Database, store: EventStore, proxy: PostgresProxy
) -> None:
    """The reply is lost and the retry misses the deadline, but the outcome is stored."""
    created = order_created()
    await append_and_project(store, database, [created])
    hasty = AppendLimits(answer_seconds=0.3, retry=LONG_DEADLINES.retry)
    uncertain = EventStore(database, on_commit=lambda: None)
    retry = Fault(hold=asyncio.Event())
    async with running_appender(Database(proxy.conninfo, pool_size=1), limits=hasty) as appender:
        uncertain.appender = appender
        await appender.append([foreign_event()])
        proxy.faults.extend([Fault(reply_bytes=0), retry])
        batch = await splitting_worker(uncertain, database).run_once()
    assert batch.results == Counter({SplitResult.UNKNOWN: 1})
    assert await holders(database) == {"worker-1"}
    await project(database)
    assert await claims_of(database) == {}
