"""The splitting worker in doubt: an answer was lost, and the log is asked before it goes on."""

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import pytest

from pulse.domain import Claim, Event
from pulse.eventstore import AppendOutcomeUnknown, EventStore, Outcome
from pulse.postgres import Database, DatabaseUnavailable, load_sql
from pulse.projections.claims import Claims
from pulse.workers.splitting import Fate
from tests.support.events import order_created, orders_created
from tests.support.log import running_store
from tests.support.splitting import append_and_project, claims_of, events_of, splitting_worker


@pytest.fixture
async def store(database: Database) -> AsyncIterator[EventStore]:
    async with running_store(database) as store:
        yield store


class ClaimsWithALostReply(Claims):
    """The first claim is made, and its answer never comes."""

    lost = False

    async def claim(self, limit: int) -> dict[UUID, Claim]:
        claims = await super().claim(limit)
        if not self.lost:
            self.lost = True
            raise DatabaseUnavailable("the answer was lost")
        return claims


class ClaimsThatBreak(Claims):
    """The first claim's connection breaks; what was sent is carried out when it likes."""

    broke = False

    async def claim(self, limit: int) -> dict[UUID, Claim]:
        if self.broke:
            return await super().claim(limit)
        self.broke = True
        raise DatabaseUnavailable("the connection broke")


class ClaimsThatCannotBeReleased(Claims):
    """Handing back fails while Postgres is away."""

    async def release(self, order_ids: object) -> None:
        del order_ids
        raise DatabaseUnavailable("away")


async def test_orders_of_a_claim_whose_answer_was_lost_are_split_in_the_next_step(
    database: Database, store: EventStore
) -> None:
    created = orders_created(3)
    await append_and_project(store, database, created)
    worker = splitting_worker(store, database, claims=ClaimsWithALostReply(database, "worker-1"))

    with pytest.raises(DatabaseUnavailable):
        await worker.run_once()
    assert {claim[0] for claim in (await claims_of(database)).values()} == {"worker-1"}

    assert (await worker.run_once()).fates == {Fate.COMPLETED: 3}


async def test_a_claim_that_commits_after_the_worker_looked_is_found_all_the_same(
    database: Database, store: EventStore
) -> None:
    await append_and_project(store, database, orders_created(3))
    worker = splitting_worker(store, database, claims=ClaimsThatBreak(database, "worker-1"))
    async with await database.connect("late") as late, late.transaction():
        await late.execute(load_sql("pulse.projections", "claim_orders"), ([1], [], 10, "worker-1"))
        with pytest.raises(DatabaseUnavailable):
            await worker.run_once()
        assert (await worker.run_once()).claimed == 0

    assert (await worker.run_once()).fates == {Fate.COMPLETED: 3}


@pytest.mark.parametrize("written", [True, False])
async def test_an_append_of_unknown_outcome_is_resolved_by_the_log(
    database: Database, store: EventStore, monkeypatch: pytest.MonkeyPatch, *, written: bool
) -> None:
    created = order_created()
    await append_and_project(store, database, [created])
    worker = splitting_worker(store, database)
    append_each = store.append_each

    async def without_an_answer(events: Sequence[Event]) -> list[Outcome]:
        if written:
            await append_each(events)
        return [AppendOutcomeUnknown("no answer")] * len(events)

    monkeypatch.setattr(store, "append_each", without_an_answer)
    assert (await worker.run_once()).fates == {Fate.UNKNOWN: 1}
    assert [c[0] for c in (await claims_of(database)).values()] == ["worker-1"]
    monkeypatch.setattr(store, "append_each", append_each)

    batch = await worker.run_once()

    assert batch.claimed == (0 if written else 1)
    assert len(await events_of(store, created.originator_id)) == 2
    holders = [c[0] for c in (await claims_of(database)).values()]
    assert holders == ["worker-1"], "the projection ends the claim, not the worker"


async def test_what_could_not_be_handed_back_is_handed_back_later(
    database: Database, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = orders_created(2)
    await append_and_project(store, database, created)
    claims = ClaimsThatCannotBeReleased(database, "worker-1")
    worker = splitting_worker(store, database, claims=claims)
    read_streams = store.read_streams

    async def away(_: object) -> dict[UUID, tuple[()]]:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(store, "read_streams", away)
    assert (await worker.run_once()).fates == {Fate.HANDED_BACK: 2}
    monkeypatch.setattr(store, "read_streams", read_streams)

    assert (await worker.run_once()).fates == {Fate.COMPLETED: 2}
