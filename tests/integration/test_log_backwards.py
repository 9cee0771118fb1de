"""The log from its end: newest first, by topic with a bounded scan, over gaps."""

from collections.abc import Sequence

import pytest
from eventsourcing.persistence import StoredEvent

from pulse.application.event_view import TOPICS
from pulse.eventstore import EventStore, LogPageBefore
from pulse.postgres import Database
from tests.support.events import orders_created, splitting_failed, stored
from tests.support.log import fetch, orders_on, running_appender

CREATED, FAILED = TOPICS["OrderCreated"], TOPICS["SplittingFailed"]


@pytest.fixture
def store(database: Database) -> EventStore:
    return EventStore(database, on_commit=lambda: None)


async def append(database: Database, events: Sequence[StoredEvent]) -> None:
    async with running_appender(database) as appender:
        await appender.append(events)


def summary(page: LogPageBefore) -> tuple[list[int], int | None]:
    return [record.position for record in page.records], page.next_before


async def test_an_empty_log_has_no_last_page(store: EventStore) -> None:
    assert summary(await store.read_log_before(limit=10)) == ([], None)
    assert summary(await store.read_log_before(limit=10, topics=[CREATED])) == ([], None)


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 100])
async def test_pages_follow_each_other_over_gaps_to_the_start(
    database: Database, store: EventStore, limit: int
) -> None:
    await append(database, stored(orders_created(3)))
    await fetch(
        database, "SELECT nextval(pg_get_serial_sequence('stored_events', 'notification_id'))"
    )
    await append(database, stored(orders_created(3)))
    seen: list[int] = []
    page = await store.read_log_before(limit=limit)
    while page.records:
        seen += summary(page)[0]
        if page.next_before is None:
            break
        page = await store.read_log_before(before=page.next_before, limit=limit)
    assert seen == [7, 6, 5, 3, 2, 1]


async def test_a_page_of_one_topic_scans_a_bounded_part_of_the_log(
    database: Database, store: EventStore
) -> None:
    created = orders_created(4)
    await append(database, [*stored(created[:2]), *stored([splitting_failed(created[0])])])
    await append(database, stored(created[2:]))
    failed = [FAILED]
    assert summary(await store.read_log_before(limit=9, topics=failed)) == ([3], None)
    assert summary(await store.read_log_before(limit=1, topics=failed)) == ([3], 3)
    assert summary(await store.read_log_before(limit=9, topics=failed, max_scanned=2)) == ([], 4)
    page = await store.read_log_before(before=4, limit=9, topics=failed, max_scanned=2)
    assert summary(page) == ([3], 2)
    both = await store.read_log_before(limit=3, topics=[FAILED, CREATED])
    assert summary(both) == ([5, 4, 3], 3)


async def test_the_latest_events_are_shown_as_the_api_shows_them(
    database: Database, store: EventStore
) -> None:
    await append(database, stored(orders_created(3)))
    page = await orders_on(database, store).entries_before(None, None, 2)
    assert [(entry.view.position, entry.view.type) for entry in page.entries] == [
        (3, "OrderCreated"),
        (2, "OrderCreated"),
    ]
    assert page.next_before == 2
    page = await orders_on(database, store).entries_before(2, "OrderCreated", 2)
    assert [entry.view.position for entry in page.entries] == [1]
