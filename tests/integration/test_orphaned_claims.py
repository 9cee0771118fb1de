"""Claims of missing workers are released at once or time out; late results are refused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest

from pulse.application.origin import Origin, system_clock
from pulse.domain import OrderCreated
from pulse.eventstore import EventMapper, EventStore
from pulse.postgres import Database, WakeUp
from pulse.projections.claims import Claims, Presence
from pulse.projections.projector import Projected, Projector
from pulse.workers.recovery import GoneWorkers, OrphanedClaims
from pulse.workers.splitting import SplitResult, SplittingWorker
from pulse.workers.timeouts import TimeoutMonitor
from tests.support.events import order_created, slices_scheduled
from tests.support.waiting import until

TIMEOUT_SECONDS = 300.0
END_PRESENCE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name LIKE 'pulse:presence%' AND datname = current_database()"
)


@asynccontextmanager
async def running_store(database: Database) -> AsyncIterator[EventStore]:
    store = EventStore(database, on_commit=lambda: None)
    appender = asyncio.create_task(store.appender.run())
    try:
        yield store
    finally:
        store.appender.drain()
        await appender


async def queued(database: Database, store: EventStore, count: int = 1) -> list[OrderCreated]:
    created = [order_created() for _ in range(count)]
    for event in created:
        await store.append(event)
    await project(database)
    return created


async def project(database: Database) -> None:
    result = await Projector(database, EventMapper()).run_once()
    assert isinstance(result, Projected)


@asynccontextmanager
async def present(database: Database, worker: str) -> AsyncIterator[Presence]:
    presence = Presence(database, worker, WakeUp())
    task = asyncio.create_task(presence.run())
    try:
        await until_presence(presence, held=True)
        yield presence
    finally:
        task.cancel()
        await asyncio.wait({task})


async def until_presence(presence: Presence, *, held: bool) -> None:
    async def as_wanted() -> bool:
        return presence.held is held

    await until(as_wanted, f"presence is held: {held}")


def look_for_orphans(database: Database) -> OrphanedClaims:
    return OrphanedClaims(database, timeout_seconds=TIMEOUT_SECONDS, on_release=lambda: None)


def monitor(database: Database, store: EventStore) -> TimeoutMonitor:
    return TimeoutMonitor(
        database, store, system_clock, Origin("monitor"), timeout_seconds=TIMEOUT_SECONDS
    )


def worker(store: EventStore, claims: Claims) -> SplittingWorker:
    return SplittingWorker(
        store,
        claims,
        system_clock,
        Origin(claims.worker),
        batch_size=10,
        max_split_delay_seconds=0,
    )


def claim_rows(conninfo: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(conninfo) as connection:
        return connection.execute(
            "SELECT order_id, claimed_by, first_claimed_at FROM order_claims ORDER BY order_id"
        ).fetchall()


def names(conninfo: str) -> list[str]:
    with psycopg.connect(conninfo) as connection:
        return [row[0] for row in connection.execute("SELECT name FROM order_workers")]


def age_claims(conninfo: str, seconds: float) -> None:
    """Make the claims older by this time."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            "UPDATE order_claims SET first_claimed_at = first_claimed_at - make_interval(secs=>%s)",
            (seconds,),
        )


def status(conninfo: str, order_id: UUID) -> tuple[Any, ...] | None:
    with psycopg.connect(conninfo) as connection:
        return connection.execute(
            "SELECT order_queue_status, failure_reason FROM order_queue_status WHERE order_id = %s",
            (order_id,),
        ).fetchone()


async def test_the_claim_of_a_present_worker_is_kept(conninfo: str, database: Database) -> None:
    async with running_store(database) as store, present(database, "alive"):
        await queued(database, store)
        await Claims(database, "alive").claim(10)
        before = claim_rows(conninfo)

        released = await look_for_orphans(database).run_once()

    assert not released
    assert claim_rows(conninfo) == before


async def test_claims_of_a_missing_worker_are_released_at_once_and_keep_their_age(
    conninfo: str, database: Database
) -> None:
    async with running_store(database) as store:
        await queued(database, store, 3)
        async with present(database, "killed"):
            claims = await Claims(database, "killed").claim(10)
        assert len(claims) == 3
        before = claim_rows(conninfo)

        released = await look_for_orphans(database).run_once()

        assert released == {"killed": 3}
        after = claim_rows(conninfo)
        assert [row[1] for row in after] == [None, None, None]
        assert [row[2] for row in after] == [row[2] for row in before]
        batch = await worker(store, Claims(database, "successor")).run_once()
    assert batch.results[SplitResult.COMPLETED] == 3


async def test_presence_ends_with_the_connection(conninfo: str, database: Database) -> None:
    async with running_store(database) as store, present(database, "cut off") as presence:
        await queued(database, store)
        await Claims(database, "cut off").claim(10)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(END_PRESENCE)
        orphans = look_for_orphans(database)
        await until_presence(presence, held=False)
        assert (await orphans.run_once()) == {"cut off": 1}
        await until_presence(presence, held=True)


@pytest.mark.timing
async def test_a_stalled_worker_loses_its_presence(conninfo: str, database: Database) -> None:
    presence = Presence(database, "stalled", WakeUp(), timeout_seconds=0.3)
    task = asyncio.create_task(presence.run())
    try:
        async with running_store(database) as store:
            await until_presence(presence, held=True)
            await queued(database, store)
            await Claims(database, "stalled").claim(10)

            async def orphan_is_released() -> bool:
                return bool(await look_for_orphans(database).run_once())

            await until(orphan_is_released, "the stalled worker's claim is released")
    finally:
        task.cancel()
        await asyncio.wait({task})
    assert [row[1] for row in claim_rows(conninfo)] == [None]


async def test_of_many_concurrent_checks_one_releases_each_orphan(
    conninfo: str, database: Database
) -> None:
    async with running_store(database) as store:
        await queued(database, store, 40)
        await Claims(database, "gone").claim(100)
        looks = [look_for_orphans(database).run_once() for _ in range(5)]
        released = await asyncio.gather(*looks)
    assert sum(look["gone"] for look in released) == 40
    assert all(row[1] is None for row in claim_rows(conninfo))


async def test_an_overdue_claim_is_timed_out_with_or_without_its_worker(
    conninfo: str, database: Database
) -> None:
    async with running_store(database) as store:
        async with present(database, "frozen"):
            frozen, gone = await queued(database, store, 2)
            await Claims(database, "frozen").claim(1)
            await Claims(database, "gone").claim(1)
            age_claims(conninfo, TIMEOUT_SECONDS + 1)

            assert not await look_for_orphans(database).run_once()
            batch = await monitor(database, store).run_once()

        assert (batch.overdue, batch.timed_out) == (2, 2)
        await project(database)
        for created in (frozen, gone):
            assert status(conninfo, created.originator_id) == ("FAILED", "TIMED_OUT")
        assert claim_rows(conninfo) == []


async def test_a_claim_within_the_timeout_is_not_timed_out(
    conninfo: str, database: Database
) -> None:
    async with running_store(database) as store:
        await queued(database, store)
        await Claims(database, "slow").claim(10)
        age_claims(conninfo, TIMEOUT_SECONDS - 5)
        batch = await monitor(database, store).run_once()
    assert batch.overdue == 0


async def test_a_late_workers_result_is_refused_and_the_claim_unchanged(
    conninfo: str, database: Database
) -> None:
    async with running_store(database) as store:
        (created,) = await queued(database, store)
        late = Claims(database, "late")
        held = await late.claim(10)
        age_claims(conninfo, TIMEOUT_SECONDS + 1)
        await monitor(database, store).run_once()

        class AlreadyClaimed(Claims):
            async def claim(self, limit: int) -> Any:
                del limit
                return held

        batch = await worker(store, AlreadyClaimed(database, "late")).run_once()

        assert batch.results[SplitResult.OUTCOME_EXISTS] == 1
        assert [row[1] for row in claim_rows(conninfo)] == ["late"]
        await project(database)
    assert status(conninfo, created.originator_id) == ("FAILED", "TIMED_OUT")


async def test_a_finished_but_unprojected_order_is_not_timed_out(
    conninfo: str, database: Database
) -> None:
    async with running_store(database) as store:
        (created,) = await queued(database, store)
        await Claims(database, "finisher").claim(10)
        await store.append(slices_scheduled(created))
        age_claims(conninfo, TIMEOUT_SECONDS + 1)

        batch = await monitor(database, store).run_once()

        assert (batch.overdue, batch.timed_out) == (1, 0)
        await project(database)
    assert status(conninfo, created.originator_id) == ("COMPLETED", None)
    assert claim_rows(conninfo) == []


async def test_an_order_that_kills_every_worker_ends_failed(
    conninfo: str, database: Database
) -> None:
    async with running_store(database) as store:
        (created,) = await queued(database, store)
        for number in range(4):
            claimed = await Claims(database, f"victim{number}").claim(10)
            assert list(claimed) == [created.originator_id]
            assert (await look_for_orphans(database).run_once()) == {f"victim{number}": 1}
            age_claims(conninfo, TIMEOUT_SECONDS / 4)
        await Claims(database, "last").claim(10)
        assert not await look_for_orphans(database).run_once()
        batch = await monitor(database, store).run_once()
        assert batch.timed_out == 1
        await project(database)
    assert status(conninfo, created.originator_id) == ("FAILED", "TIMED_OUT")


async def test_a_worker_without_claims_whose_session_ends_is_gone_once(database: Database) -> None:
    presence = Presence(database, "killed", WakeUp())
    task = asyncio.create_task(presence.run())
    await until_presence(presence, held=True)
    assert await GoneWorkers(database).run_once() == []
    task.cancel()  # ends its session as a kill of its process does
    await asyncio.wait({task})
    gone: list[str] = []

    async def found() -> bool:
        gone.extend(await GoneWorkers(database).run_once())
        return bool(gone)

    await until(found, "the worker is found")
    assert gone == ["killed"]
    assert await GoneWorkers(database).run_once() == []


async def test_a_worker_that_stops_or_takes_a_new_name_is_not_gone(
    conninfo: str, database: Database
) -> None:
    presence = Presence(database, "worker", WakeUp())
    task = asyncio.create_task(presence.run())
    await until_presence(presence, held=True)
    presence.rename("worker.1")
    await until_presence(presence, held=True)
    assert names(conninfo) == ["worker.1"]
    assert await GoneWorkers(database).run_once() == []
    presence.stop()
    await asyncio.wait_for(task, 10)
    assert names(conninfo) == []
    assert await GoneWorkers(database).run_once() == []


async def test_a_worker_whose_name_cannot_be_stored_is_present(
    conninfo: str, database: Database
) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("ALTER TABLE order_workers ADD CHECK (name <> 'unnamed') NOT VALID")
    async with present(database, "unnamed"):
        assert names(conninfo) == []


async def test_a_worker_that_reconnects_is_recorded_again(
    conninfo: str, database: Database
) -> None:
    async with present(database, "cut off"):
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("DELETE FROM order_workers")  # as another process does that finds it
            connection.execute(END_PRESENCE)

        async def recorded() -> bool:
            return names(conninfo) == ["cut off"]

        await until(recorded, "the worker is recorded again")


async def test_released_orders_wake_a_waiting_worker(conninfo: str, database: Database) -> None:
    wake_up = WakeUp()
    presence = Presence(database, "waiting", wake_up)
    task = asyncio.create_task(presence.run())
    try:
        assert await wake_up.wait(10)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("NOTIFY order_claims")
        assert await wake_up.wait(10)
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_an_unreadable_stream_does_not_stop_other_timeouts(
    conninfo: str, database: Database
) -> None:
    async with running_store(database) as store:
        broken, sound = await queued(database, store, 2)
        await Claims(database, "gone").claim(10)
        with psycopg.connect(conninfo) as connection:
            connection.execute(
                "INSERT INTO stored_events (originator_id, originator_version, topic, state)"
                " VALUES (%s, 2, 'pulse.domain:SlicesScheduled', '{}')",
                (broken.originator_id,),
            )
        age_claims(conninfo, TIMEOUT_SECONDS + 1)

        batch = await monitor(database, store).run_once()

        assert (batch.overdue, batch.timed_out) == (2, 1)
        await project(database)
        assert status(conninfo, sound.originator_id) == ("FAILED", "TIMED_OUT")
        assert (await monitor(database, store).run_once()).overdue == 0, "it is parked now"


async def test_an_order_released_after_the_timeout_is_timed_out_by_the_monitor(
    conninfo: str, database: Database
) -> None:
    async with running_store(database) as store:
        (created,) = await queued(database, store)
        claims = Claims(database, "late successor")
        await claims.claim(10)
        await claims.release([created.originator_id])
        age_claims(conninfo, TIMEOUT_SECONDS + 1)
        late_worker = SplittingWorker(
            store,
            claims,
            system_clock,
            Origin("late successor"),
            batch_size=10,
            max_split_delay_seconds=0,
            timeout_seconds=TIMEOUT_SECONDS,
        )

        assert (await late_worker.run_once()).results == {SplitResult.OVERDUE: 1}

        assert (await monitor(database, store).run_once()).timed_out == 1
        await project(database)
    assert status(conninfo, created.originator_id) == ("FAILED", "TIMED_OUT")
