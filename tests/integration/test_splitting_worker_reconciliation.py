"""After a lost reply the worker gets a new name; presence recovers the earlier claims."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from uuid import UUID

import pytest

from pulse.domain import Claim, Event
from pulse.eventstore import AppendOutcomeUnknown, AppendResult, EventStore
from pulse.loop import WakeUp
from pulse.postgres import Database, DatabaseUnavailable, load_sql
from pulse.projections.claims import Claims, Presence, read_workers, release_orphans
from pulse.workers.splitting import SplitResult
from tests.support.events import order_created, orders_created
from tests.support.read_model import project
from tests.support.splitting import append_and_project, claims_of, events_of, splitting_worker
from tests.support.waiting import until


class ClaimsWithALostReply(Claims):
    """The first claim is made, but its answer is lost."""

    lost = False

    async def claim(self, limit: int) -> dict[UUID, Claim]:
        claims = await super().claim(limit)
        if not self.lost:
            self.lost = True
            raise DatabaseUnavailable("the answer was lost")
        return claims


class ClaimsThatBreak(Claims):
    """The first claim's connection breaks; the statement that was sent may be executed later."""

    broke = False

    async def claim(self, limit: int) -> dict[UUID, Claim]:
        if self.broke:
            return await super().claim(limit)
        self.broke = True
        raise DatabaseUnavailable("the connection broke")


class ClaimsThatCannotBeReleased(Claims):
    """Claims cannot be released while Postgres is unreachable."""

    async def release(self, order_ids: object) -> None:
        del order_ids
        raise DatabaseUnavailable("no connection")


async def recover(database: Database) -> Counter[str]:
    """What any process does every second: here no worker is present."""
    return await release_orphans(database, timeout_seconds=300)


async def test_orders_of_a_claim_whose_reply_was_lost_are_recovered_and_split(
    database: Database, store: EventStore
) -> None:
    created = orders_created(3)
    await append_and_project(store, database, created)
    claims = ClaimsWithALostReply(database, "worker-1")
    worker = splitting_worker(store, database, claims=claims)

    with pytest.raises(DatabaseUnavailable):
        await worker.run_once()
    assert claims.worker == "worker-1.1"

    assert await recover(database) == {"worker-1": 3}
    assert (await worker.run_once()).results == {SplitResult.COMPLETED: 3}


async def test_a_claim_that_is_executed_late_is_recovered(
    database: Database, store: EventStore
) -> None:
    await append_and_project(store, database, orders_created(3))
    worker = splitting_worker(store, database, claims=ClaimsThatBreak(database, "worker-1"))
    async with await database.connect("late") as late, late.transaction():
        await late.execute(load_sql("pulse.projections", "claim_orders"), ([1], [], 10, "worker-1"))
        with pytest.raises(DatabaseUnavailable):
            await worker.run_once()
        assert not await recover(database)
        assert (await worker.run_once()).claimed == 0

    assert await recover(database) == {"worker-1": 3}
    assert (await worker.run_once()).results == {SplitResult.COMPLETED: 3}


@pytest.mark.parametrize("written", [True, False])
async def test_an_append_of_unknown_outcome_is_resolved_by_the_log(
    database: Database, store: EventStore, monkeypatch: pytest.MonkeyPatch, *, written: bool
) -> None:
    created = order_created()
    await append_and_project(store, database, [created])
    worker = splitting_worker(store, database)
    append_each = store.append_each

    async def without_an_answer(events: Sequence[Event]) -> list[AppendResult]:
        if written:
            await append_each(events)
        return [AppendOutcomeUnknown("no answer")] * len(events)

    monkeypatch.setattr(store, "append_each", without_an_answer)
    assert (await worker.run_once()).results == {SplitResult.UNKNOWN: 1}
    assert [c[0] for c in (await claims_of(database)).values()] == ["worker-1"]
    monkeypatch.setattr(store, "append_each", append_each)

    assert await recover(database) == {"worker-1": 1}
    batch = await worker.run_once()

    assert batch.results == {SplitResult.OUTCOME_EXISTS if written else SplitResult.COMPLETED: 1}
    assert len(await events_of(store, created.originator_id)) == 2
    await project(database)
    assert await claims_of(database) == {}


async def test_claims_that_could_not_be_released_are_recovered(
    database: Database, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = orders_created(2)
    await append_and_project(store, database, created)
    claims = ClaimsThatCannotBeReleased(database, "worker-1")
    worker = splitting_worker(store, database, claims=claims)
    read_streams = store.read_streams

    async def unavailable(_: object) -> dict[UUID, tuple[()]]:
        raise DatabaseUnavailable("no connection")

    monkeypatch.setattr(store, "read_streams", unavailable)
    assert (await worker.run_once()).results == {SplitResult.RELEASED: 2}
    monkeypatch.setattr(store, "read_streams", read_streams)

    assert await recover(database) == {"worker-1": 2}
    assert (await worker.run_once()).results == {SplitResult.COMPLETED: 2}


async def test_a_renamed_worker_is_present_under_the_new_name_alone(database: Database) -> None:
    presence = Presence(database, "worker-1", WakeUp())
    claims = Claims(database, "worker-1", on_rename=presence.rename)
    running = asyncio.create_task(presence.run())

    async def is_held() -> bool:
        return presence.held

    await until(is_held, "the worker is present")
    claims.abandon()
    assert not presence.held
    await until(is_held, "it is present again")

    async def is_alone() -> bool:
        return (await database.read(lambda connection: read_workers(connection, 300))).present == 1

    await until(is_alone, "the former name is gone")
    assert presence.worker == "worker-1.1"
    running.cancel()
    await asyncio.wait([running])
