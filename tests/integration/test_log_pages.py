"""Pages of the log: commit order, filters by type with a bounded scan, and the log's end."""

import asyncio
from collections.abc import Sequence
from typing import get_args

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from pulse.application.event_view import TOPICS, EventType
from pulse.domain import EVENT_TYPES, Event
from pulse.eventstore import EventStore, LogPage, PositionBeyondLog
from pulse.eventstore.store import MAX_SCANNED
from pulse.postgres import Database
from tests.support.events import (
    foreign_event,
    foreign_events,
    order_created,
    orders_created,
    splitting_failed,
    stored,
    timed_out,
)
from tests.support.log import fetch, fetch_as_superuser, running_appender

CREATED, FAILED, TIMED_OUT = (
    TOPICS[name] for name in ("OrderCreated", "SplittingFailed", "TimedOut")
)


@pytest.fixture
def store(database: Database) -> EventStore:
    return EventStore(database, on_commit=lambda: None)


async def append(database: Database, events: Sequence[StoredEvent]) -> None:
    async with running_appender(database) as appender:
        await appender.append(events)


async def use_up_positions(database: Database, count: int) -> None:
    """Use up positions, as rolled-back transactions do."""
    await fetch(
        database,
        "SELECT nextval(pg_get_serial_sequence('stored_events', 'notification_id'))"
        " FROM generate_series(1, %s)",
        count,
    )


def positions(page: LogPage) -> list[int]:
    return [record.position for record in page.records]


def summary(page: LogPage) -> tuple[list[int], int]:
    return positions(page), page.next_after


async def test_the_types_of_the_filter_are_all_events_of_pulse() -> None:
    assert list(TOPICS.values()) == [event_type.TOPIC for event_type in EVENT_TYPES]
    assert list(TOPICS) == list(get_args(EventType))


async def test_an_empty_log_is_read_from_its_start_and_no_further(store: EventStore) -> None:
    assert summary(await store.read_log_page(after=0, limit=10)) == ([], 0)
    assert summary(await store.read_log_page(after=0, limit=10, topic=CREATED)) == ([], 0)
    with pytest.raises(PositionBeyondLog) as caught:
        await store.read_log_page(after=1, limit=10)
    assert (caught.value.after, caught.value.end) == (1, 0)


@pytest.mark.parametrize("limit", [1, 3, 8, 1000])
async def test_pages_follow_each_other_over_gaps_to_the_end(
    database: Database, store: EventStore, limit: int
) -> None:
    for _ in range(4):
        await append(database, stored(orders_created(3)))
        await use_up_positions(database, 2)
    await append(database, stored(orders_created(1)))
    seen: list[int] = []
    after = 0
    while (page := await store.read_log_page(after=after, limit=limit)).records:
        seen += positions(page)
        assert page.next_after == seen[-1] > after
        after = page.next_after
    assert seen == [1, 2, 3, 6, 7, 8, 11, 12, 13, 16, 17, 18, 21]
    assert summary(page) == ([], 21)
    assert positions(await store.read_log_page(after=4, limit=1)) == [6]


@pytest.mark.parametrize("topic", [None, CREATED])
async def test_a_position_beyond_the_end_is_refused_as_of_another_log(
    database: Database, store: EventStore, topic: str | None
) -> None:
    await append(database, stored(orders_created(2)))
    assert summary(await store.read_log_page(after=2, limit=10, topic=topic)) == ([], 2)
    for after in (3, 2**63 - 1):
        with pytest.raises(PositionBeyondLog, match="end, which is 2"):
            await store.read_log_page(after=after, limit=10, topic=topic)


async def test_one_topic_is_filtered_and_the_next_page_starts_after_the_scanned_events(
    database: Database, store: EventStore
) -> None:
    created = orders_created(4)
    failed: list[Event] = [
        splitting_failed(created[0]),
        timed_out(created[1]),
        splitting_failed(created[2]),
    ]
    await append(database, [*stored(created), foreign_event(), *stored(failed)])

    page = await store.read_log_page(after=0, limit=10, topic=FAILED)
    assert (positions(page), page.next_after) == ([6, 8], 8)
    page = await store.read_log_page(after=0, limit=10, topic=CREATED)
    assert (positions(page), page.next_after) == ([1, 2, 3, 4], 8)
    page = await store.read_log_page(after=0, limit=1, topic=FAILED)
    assert (positions(page), page.next_after) == ([6], 6)
    page = await store.read_log_page(after=6, limit=10, topic=TIMED_OUT)
    assert (positions(page), page.next_after) == ([7], 8)
    page = await store.read_log_page(after=7, limit=10, topic=TIMED_OUT)
    assert (positions(page), page.next_after) == ([], 8)


async def test_the_scan_for_one_topic_is_bounded_and_resumes(
    database: Database, store: EventStore
) -> None:
    await append(database, [*foreign_events(7), *stored([order_created()]), *foreign_events(4)])
    found: list[tuple[list[int], int]] = []
    after = 0
    while after < 12:
        page = await store.read_log_page(after=after, limit=5, topic=CREATED, max_scanned=3)
        found.append((positions(page), page.next_after))
        assert page.next_after > after
        after = page.next_after
    assert found == [([], 3), ([], 6), ([8], 9), ([], 12)]


async def test_the_scan_is_bounded_by_default(database: Database, store: EventStore) -> None:
    await fetch(
        database,
        "INSERT INTO stored_events (originator_id, originator_version, topic, state)"
        " SELECT gen_random_uuid(), 1, 'elsewhere:Happened', '{}' FROM generate_series(1, %s)",
        MAX_SCANNED + 5,
    )
    page = await store.read_log_page(after=0, limit=5, topic=CREATED)
    assert summary(page) == ([], MAX_SCANNED)
    page = await store.read_log_page(after=page.next_after, limit=5, topic=CREATED)
    assert summary(page) == ([], MAX_SCANNED + 5)


@pytest.mark.parametrize("topic", [None, CREATED])
async def test_every_page_has_the_identity_of_the_log_as_it_is_then(
    database: Database, store: EventStore, topic: str | None
) -> None:
    ((made,),) = await fetch(database, "SELECT log_id FROM log_identity")
    assert (await store.read_log_page(after=0, limit=1, topic=topic)).log_id == made
    await append(database, stored(orders_created(2)))
    assert (await store.read_log_page(after=1, limit=1, topic=topic)).log_id == made
    renew = "UPDATE log_identity SET log_id = gen_random_uuid() RETURNING log_id"
    ((renewed,),) = await fetch_as_superuser(database, renew)
    assert renewed != made
    for after in (0, 2):
        page = await store.read_log_page(after=after, limit=5, topic=topic)
        assert page.log_id == renewed


async def test_a_log_has_one_identity(database: Database) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation):
        await fetch_as_superuser(database, "INSERT INTO log_identity DEFAULT VALUES")


async def test_a_reader_of_one_topic_misses_none_while_events_are_appended(
    database: Database, store: EventStore
) -> None:
    """Events appended after the scan must not count as scanned."""
    wanted, done = 150, asyncio.Event()

    async def write() -> None:
        async with running_appender(database) as one, running_appender(database) as other:
            for _ in range(wanted // 2):
                await asyncio.gather(
                    one.append(stored([order_created()])),
                    other.append(stored([order_created()])),
                    other.append(foreign_events(2)),
                )
        done.set()

    async def read() -> list[int]:
        seen: list[int] = []
        after, ended = 0, False
        while True:
            page = await store.read_log_page(after=after, limit=4, topic=CREATED, max_scanned=6)
            seen += positions(page)
            if ended and page.next_after == after:
                return seen
            assert page.next_after >= after
            after, ended = page.next_after, done.is_set()

    _, *readings = await asyncio.gather(write(), read(), read(), read())
    rows = await fetch(
        database,
        "SELECT notification_id FROM stored_events WHERE topic = %s ORDER BY 1",
        CREATED,
    )
    assert len(rows) == wanted
    assert readings == [[row[0] for row in rows]] * 3
