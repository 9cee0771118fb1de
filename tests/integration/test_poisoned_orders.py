"""Poisoned events: one that cannot be applied parks its order and blocks no other."""

from typing import Any
from uuid import uuid4

import msgspec
import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from pulse.domain import Event, SlicesScheduled
from pulse.eventstore import EventMapper, EventTooNew
from pulse.postgres import Database
from pulse.projections.parking import ParkedOrders
from pulse.projections.projector import Busy, Projected, Projector
from tests.support.events import order_created, slices_scheduled, stored
from tests.support.log import write


def states(conninfo: str) -> dict[str, str]:
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute("SELECT order_unique_key, state FROM order_queue").fetchall()
    return dict(rows)


def unreadable(event: StoredEvent) -> StoredEvent:
    return StoredEvent(event.originator_id, event.originator_version, event.topic, b'{"slices":7}')


async def project_all(projector: Projector) -> int:
    events = 0
    while True:
        result = await projector.run_once()
        assert not isinstance(result, Busy)
        if not result.events:
            return events
        events += result.events


async def test_an_unreadable_event_parks_its_own_order_only(
    conninfo: str, database: Database
) -> None:
    poisoned, sound = order_created("poisoned"), order_created("sound")
    write(conninfo, *stored([poisoned, sound]))
    write(conninfo, unreadable(stored([slices_scheduled(poisoned)])[0]))
    write(conninfo, *stored([slices_scheduled(sound)]))
    mapper = EventMapper()

    await project_all(Projector(database, mapper))

    assert states(conninfo) == {"sound": "COMPLETED"} | {"poisoned": "PENDING"}
    (parked,) = await ParkedOrders(database, mapper).all()
    assert parked.order_id == poisoned.originator_id
    assert parked.position == 3
    assert "cannot be read" in parked.reason


@pytest.mark.parametrize(
    "seed", ["no seed", "FFFFFFFFFFFFFFFF", "00000000000000001", "0" * 15 + "\n"]
)
async def test_a_creation_with_an_invalid_seed_is_parked(
    conninfo: str, database: Database, seed: str
) -> None:
    altered, sound = order_created("altered", split_seed=seed), order_created("sound")
    write(conninfo, *stored([altered, sound]))

    await project_all(Projector(database, EventMapper()))

    assert states(conninfo) == {"sound": "PENDING"}
    (parked,) = await ParkedOrders(database, EventMapper()).all()
    assert parked.order_id == altered.originator_id
    assert "split_seed" in parked.reason


async def test_an_outcome_without_its_order_is_parked(conninfo: str, database: Database) -> None:
    lost, sound = order_created("lost"), order_created("sound")
    write(conninfo, *stored([slices_scheduled(lost), sound]))
    mapper = EventMapper()

    await project_all(Projector(database, mapper))

    assert states(conninfo) == {"sound": "PENDING"}
    assert [p.order_id for p in await ParkedOrders(database, mapper).all()] == [lost.originator_id]


async def test_later_events_of_a_parked_order_are_left_for_its_retry(
    conninfo: str, database: Database
) -> None:
    poisoned = order_created("poisoned")
    created = stored([poisoned])[0]
    write(conninfo, unreadable(created))
    projector = Projector(database, EventMapper())
    await project_all(projector)
    write(conninfo, *stored([slices_scheduled(poisoned), order_created("sound")]))

    assert await project_all(projector) == 2

    assert states(conninfo) == {"sound": "PENDING"}


async def test_a_retry_rebuilds_one_parked_order_after_a_fix(
    conninfo: str, database: Database
) -> None:
    poisoned = order_created("poisoned")
    outcome = stored([slices_scheduled(poisoned)])[0]
    write(conninfo, *stored([poisoned]), unreadable(outcome))
    mapper = EventMapper()
    await project_all(Projector(database, mapper))
    parked = ParkedOrders(database, mapper)

    still = await parked.retry(poisoned.originator_id)
    assert still is not None
    assert [p.order_id for p in await parked.all()] == [poisoned.originator_id]

    class CorrectedMapper(EventMapper):
        """Code that can read what the former could not."""

        def event_of(self, record: Any) -> Event:
            if record.state == b'{"slices":7}':
                record = msgspec.structs.replace(record, state=outcome.state)
            return super().event_of(record)

    retried = await ParkedOrders(database, CorrectedMapper()).retry(poisoned.originator_id)

    assert retried is None
    assert states(conninfo) == {"poisoned": "COMPLETED"}
    assert await parked.all() == []
    with psycopg.connect(conninfo) as connection:
        slices = connection.execute("SELECT count(*), sum(quantity) FROM order_slices").fetchone()
    assert slices == (5, 100)


async def test_an_event_of_newer_code_stops_the_process_just_before_it(
    conninfo: str, database: Database
) -> None:
    before, newer, after = order_created("before"), order_created("newer"), order_created("after")
    state = stored([newer])[0].state.replace(b'"class_version":3', b'"class_version":4')
    future = StoredEvent(newer.originator_id, 1, newer.TOPIC, state)
    write(conninfo, *stored([before]), future, *stored([after]))
    projector = Projector(database, EventMapper())

    with pytest.raises(EventTooNew):
        await projector.run_once()

    assert states(conninfo) == {"before": "PENDING"}
    assert projector.fault is not None
    assert "class version 4, this code knows 3" in projector.fault
    assert await ParkedOrders(database, EventMapper()).all() == []


async def test_many_poisoned_orders_are_parked_and_the_others_projected(
    conninfo: str, database: Database
) -> None:
    events: list[StoredEvent] = []
    for number in range(60):
        event = stored([order_created(f"o{number}")])[0]
        events.append(unreadable(event) if number % 3 == 0 else event)
    write(conninfo, *events)

    await project_all(Projector(database, EventMapper(), batch_events=25))

    assert len(states(conninfo)) == 40
    assert len(await ParkedOrders(database, EventMapper()).all()) == 20


async def test_a_foreign_event_does_not_park_an_order(conninfo: str, database: Database) -> None:
    write(conninfo, StoredEvent(uuid4(), 1, "elsewhere:Happened", b"\xff not JSON"))
    result = await Projector(database, EventMapper()).run_once()
    assert isinstance(result, Projected)
    assert result.foreign == 1


def test_slices_scheduled_returns_a_slices_scheduled_event() -> None:
    assert isinstance(slices_scheduled(order_created()), SlicesScheduled)


@pytest.mark.parametrize(
    "state",
    [b'{"class_version":0}', b'{"class_version":"2"}', b"[" * 50_000 + b"]" * 50_000, b"", b"{}"],
    ids=["version 0", "version as text", "nested deep", "nothing", "no fields"],
)
async def test_any_invalid_state_parks_at_most_one_order(
    conninfo: str, database: Database, state: bytes
) -> None:
    poisoned = order_created("poisoned")
    event = StoredEvent(poisoned.originator_id, 1, poisoned.TOPIC, state)
    write(conninfo, event, *stored([order_created("sound")]))

    await project_all(Projector(database, EventMapper()))

    assert states(conninfo) == {"sound": "PENDING"}
    assert len(await ParkedOrders(database, EventMapper()).all()) == 1
