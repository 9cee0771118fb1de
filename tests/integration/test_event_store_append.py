"""Appending and reading: positions, attribution, streams and the log."""

import asyncio
from uuid import uuid4

from psycopg.conninfo import conninfo_to_dict

from pulse.eventstore import Appender, AppendLimits
from pulse.postgres import Database
from tests.support.events import foreign_event, foreign_events, order_created, slices_scheduled
from tests.support.log import (
    LONG_DEADLINES,
    Commits,
    append_singly,
    nothing,
    read_log,
    running_appender,
    running_store,
    stored_event,
    stored_log,
)
from tests.support.proxy import proxied


async def test_an_append_returns_the_positions_of_its_events_in_their_order(
    database: Database,
) -> None:
    async with running_appender(database) as appender:
        stream = uuid4()
        first = await appender.append([foreign_event(stream, version) for version in (1, 2, 3)])
        second = await appender.append([foreign_event()])
    assert list(first) == sorted(first)
    assert second[0] > first[-1]
    log = await stored_log(database)
    assert [log[stream, version][0] for version in (1, 2, 3)] == list(first)


async def test_appending_nothing_writes_nothing(database: Database) -> None:
    async with running_appender(database) as appender:
        assert await appender.append([]) == ()
    assert await stored_log(database) == {}


async def test_an_event_is_read_back_as_it_was_appended(database: Database) -> None:
    created = order_created(order_unique_key="ключ \N{PILE OF POO} \"'")
    async with running_store(database) as store:
        position = await store.append(created)
        (record,) = await store.read_stream(created.originator_id)
        assert store.mapper.event_of(record) == created
        assert (record.position, record.originator_version) == (position, 1)


async def test_a_stream_is_read_oldest_first_and_alone(database: Database) -> None:
    first, second = order_created(), order_created()
    async with running_store(database) as store:
        for event in (first, second, slices_scheduled(second), slices_scheduled(first)):
            await store.append(event)
        stream = await store.read_stream(first.originator_id)
        assert [record.originator_version for record in stream] == [1, 2]
        assert {record.originator_id for record in stream} == {first.originator_id}
        assert await store.read_stream(uuid4()) == []


async def test_several_streams_are_read_together_without_unknown_ones(
    database: Database,
) -> None:
    first, second, third = order_created(), order_created(), order_created()
    async with running_store(database) as store:
        for event in (first, second, third, slices_scheduled(first)):
            await store.append(event)
        ids = [first.originator_id, uuid4(), second.originator_id]
        streams = await store.read_streams(ids)
    assert set(streams) == {first.originator_id, second.originator_id}
    assert [record.originator_version for record in streams[first.originator_id]] == [1, 2]
    assert [record.originator_version for record in streams[second.originator_id]] == [1]


async def test_the_log_is_read_in_commit_order_from_a_position_on(database: Database) -> None:
    events = foreign_events(25)
    async with running_store(database) as store:
        positions = [(await store.append_stored((event,)))[0] for event in events]
        page = await read_log(store, after=positions[4], limit=10)
        assert [record.position for record in page] == positions[5:15]
        assert [stored_event(record) for record in page] == events[5:15]
        assert await read_log(store, after=positions[-1], limit=10) == []
        assert [record.position for record in await read_log(store, after=0, limit=99)] == positions


async def test_two_hundred_concurrent_appends_each_get_the_position_of_their_own_event(
    database: Database,
) -> None:
    events = foreign_events(200)
    async with running_appender(database) as appender:
        outcomes = await append_singly(appender, events)
    log = await stored_log(database)
    for event, outcome in zip(events, outcomes, strict=True):
        position, state = log[event.originator_id, event.originator_version]
        assert outcome == (position,)
        assert state == event.state
    assert len(set(outcomes)) == 200


async def test_concurrent_appends_share_statements(database: Database) -> None:
    commits = Commits()
    async with (
        proxied(database.conninfo) as proxy,
        running_appender(
            Database(proxy.conninfo, pool_size=1), on_commit=commits, limits=LONG_DEADLINES
        ) as appender,
    ):
        assert conninfo_to_dict(proxy.conninfo)["host"] == "127.0.0.1"
        await appender.append([foreign_event()])
        await append_singly(appender, foreign_events(200))
        assert len(proxy.request_sizes) <= 4
        assert commits.count == len(proxy.request_sizes)


async def test_a_batch_is_never_larger_than_its_bound(database: Database) -> None:
    commits = Commits()
    limits = AppendLimits(answer_seconds=15, batch_events=10)
    async with running_appender(database, on_commit=commits, limits=limits) as appender:
        outcomes = await append_singly(appender, foreign_events(95))
    assert len(set(outcomes)) == 95
    assert commits.count >= 10


async def test_conflicts_cause_no_further_statements(database: Database) -> None:
    taken = foreign_events(10)
    async with (
        proxied(database.conninfo) as proxy,
        running_appender(Database(proxy.conninfo, pool_size=1)) as appender,
    ):
        await append_singly(appender, taken)
        before = len(proxy.request_sizes)
        await append_singly(appender, [*foreign_events(50), *taken, *foreign_events(50)])
        assert len(proxy.request_sizes) - before <= 2


async def test_appends_that_wait_when_the_process_stops_are_still_written(
    database: Database,
) -> None:
    events = foreign_events(50)
    appender = Appender(
        lambda: database.connect("appender"), on_commit=nothing, limits=LONG_DEADLINES
    )
    appends = [asyncio.ensure_future(appender.append([event])) for event in events]
    await asyncio.sleep(0)
    appender.drain()
    await appender.run()
    assert len(set(await asyncio.gather(*appends))) == 50
    assert len(await stored_log(database)) == 50
