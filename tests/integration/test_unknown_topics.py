"""Topics of newer code: readers neither skip them nor crash."""

import contextlib

import pytest
from eventsourcing.persistence import StoredEvent

from pulse.application.callers import Caller
from pulse.application.in_process import InProcessOrders
from pulse.application.origin import Origin, system_clock
from pulse.eventstore import EventMapper, EventStore, EventTooNew
from pulse.evidence.verification import Verification
from pulse.postgres import Database
from pulse.projections.order_view import OrderReader
from pulse.projections.parking import ParkedOrders
from pulse.projections.projector import Projected, Projector
from pulse.projections.rebuild import Rebuild
from pulse.workers.splitting import SplitResult
from tests.support.events import order_created, slices_scheduled, stored
from tests.support.log import running_store, write
from tests.support.read_model import position, queue
from tests.support.splitting import append_and_project, claims_of, splitting_worker

NEWER_TOPIC = "pulse.domain:OrderAmended"


def amended(order_unique_key: str, version: int = 2) -> StoredEvent:
    order_id = order_created(order_unique_key).originator_id
    return StoredEvent(
        order_id, version, NEWER_TOPIC, b'{"timestamp":"2027-01-01T00:00:00Z","by":7}'
    )


class NewerMapper(EventMapper):
    """Newer code: it knows the topic, and that its events do not change the queue."""

    def owns(self, topic: str) -> bool:
        return topic != NEWER_TOPIC and super().owns(topic)


async def test_the_projection_stops_before_an_event_that_only_newer_code_knows(
    conninfo: str, database: Database
) -> None:
    write(conninfo, *stored([order_created("before"), order_created("amended")]))
    write(conninfo, amended("amended"), *stored([order_created("after")]))
    advances: list[int] = []
    today = Projector(database, EventMapper(), on_advance=lambda: advances.append(1))

    for _ in range(3):
        with pytest.raises(EventTooNew, match=NEWER_TOPIC):
            await today.run_once()
        assert await position(database) == 2
        assert len(advances) == 1  # only for the first step, which projected two events
    assert today.fault is not None
    assert "newer code" in today.fault
    assert {row["order_unique_key"] for row in (await queue(database)).values()} == {
        "before",
        "amended",
    }
    assert await ParkedOrders(database, EventMapper()).all() == []

    await Projector(database, NewerMapper()).run_once()

    assert await position(database) == 4
    result = await today.run_once()
    assert isinstance(result, Projected)
    assert len(advances) == 2
    assert today.fault is None


async def test_a_topic_of_another_application_is_still_skipped(
    conninfo: str, database: Database
) -> None:
    created = order_created("sound")
    foreign = [
        StoredEvent(order_created(topic).originator_id, 1, topic, b"\xff")
        for topic in ("pulsed:Thing", "Pulse.domain:Thing", "pulse:Thing", "other.pulse.x:Y", "")
    ]
    write(conninfo, *foreign, *stored([created]))

    result = await Projector(database, EventMapper()).run_once()

    assert isinstance(result, Projected)
    assert (result.position, result.foreign) == (6, 5)
    assert list(await queue(database)) == [created.originator_id]


async def test_a_rebuild_is_left_to_newer_code(conninfo: str, database: Database) -> None:
    write(conninfo, *stored([order_created("amended")]), amended("amended"))
    await Projector(database, NewerMapper()).run_once()
    before = await queue(database)

    with pytest.raises(EventTooNew, match=NEWER_TOPIC):
        await Rebuild(database, EventMapper(), lambda *_: None).run()

    assert await queue(database) == before


async def test_a_retry_leaves_an_order_with_newer_events_parked(
    conninfo: str, database: Database
) -> None:
    created = order_created("amended")
    write(conninfo, StoredEvent(created.originator_id, 1, created.TOPIC, b"{}"), amended("amended"))
    with contextlib.suppress(EventTooNew):  # the order is parked by the same step
        await Projector(database, EventMapper()).run_once()
    await Projector(database, EventMapper()).run_once()
    assert await position(database) == 2
    parked = ParkedOrders(database, EventMapper())

    retried = await parked.retry(created.originator_id)

    assert retried is not None
    assert len(await parked.all()) == 1


async def test_a_worker_leaves_an_order_for_newer_code_and_splits_the_others(
    conninfo: str, database: Database
) -> None:
    async with running_store(database) as store:
        orders = [order_created("amended"), order_created("sound")]
        await append_and_project(store, database, orders)
        write(conninfo, amended("amended"))

        batch = await splitting_worker(store, database).run_once()

    assert batch.results == {SplitResult.NEEDS_NEWER_CODE: 1, SplitResult.COMPLETED: 1}


async def test_orders_for_newer_code_do_not_block_the_others_of_a_batch(
    conninfo: str, database: Database
) -> None:
    async with running_store(database) as store:
        orders = [order_created(key) for key in ("amended 1", "amended 2", "sound")]
        await append_and_project(store, database, orders)
        write(conninfo, amended("amended 1"), amended("amended 2"))
        worker = splitting_worker(store, database, batch_size=2)

        results = [(await worker.run_once()).results for _ in range(3)]

    assert results == [{SplitResult.NEEDS_NEWER_CODE: 2}, {SplitResult.COMPLETED: 1}, {}]
    assert list(await claims_of(database)) == [orders[2].originator_id]


async def test_a_verification_names_every_event_that_it_cannot_judge(
    conninfo: str, database: Database
) -> None:
    split, amended_after = order_created("split"), order_created("amended after")
    write(
        conninfo,
        *stored([split, slices_scheduled(split), order_created("amended")]),
        amended("amended"),
        *stored([amended_after, slices_scheduled(amended_after)]),
        amended("amended after", version=3),
        StoredEvent(order_created("elsewhere").originator_id, 1, "elsewhere:Thing", b"{}"),
    )
    verification = Verification(database, EventMapper())

    findings = [found async for part in verification.whole_log() for found in part.findings]
    assert [(one.position, one.fault) for one in findings] == [
        (4, "NEWER_CODE"),
        (7, "NEWER_CODE"),
    ]
    amended_id = order_created("amended").originator_id
    (alone,) = [part async for part in verification.orders([amended_id])]
    assert [one.fault for one in alone.findings] == ["NEWER_CODE"]


async def test_history_and_log_show_a_newer_event_under_its_own_type(
    conninfo: str, database: Database
) -> None:
    created = order_created("amended")
    write(conninfo, *stored([created]), amended("amended"))
    store = EventStore(database, on_commit=lambda: None)
    reader = OrderReader(database, store.mapper)
    orders = InProcessOrders(store, reader, system_clock, Origin.of_this_process())

    _, event = await orders.history(created.originator_id, Caller())

    assert (event.type, event.occurred_at) == ("OrderAmended", "2027-01-01T00:00:00Z")
    assert event.data == {"by": 7}
