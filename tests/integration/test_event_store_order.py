"""Ids are in commit order, so a reader with a checkpoint misses no event."""

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
from eventsourcing.persistence import StoredEvent
from psycopg import AsyncConnection

from pulse.eventstore import LOG_LOCK, Appender, AppendLimits, select_issued_log
from pulse.postgres import Connection, Database, load_sql
from tests.support.events import foreign_event, foreign_events
from tests.support.log import running_appender, stored_log

APPEND = load_sql("pulse.eventstore", "append_events")
SMALL_BATCHES = AppendLimits(answer_seconds=15, batch_events=3)
WRITERS = 4
EVENTS_EACH = 240


class CheckpointingReader:
    """Polls `notification_id > last` as subscriptions and projections do."""

    def __init__(self, connection: Connection) -> None:
        self.seen: list[int] = []
        self._connection = connection
        self._last = 0

    async def poll(self) -> int:
        """Read up to the current end of the log; returns the number of events."""
        records = await select_issued_log(self._connection, after=self._last, limit=1000)
        self.seen += [record.position for record in records]
        if records:
            self._last = records[-1].position
        return len(records)

    async def poll_until(self, written: "asyncio.Future[list[None]]") -> None:
        """Poll until everything is written, and then to the end."""
        while not written.done():
            await self.poll()
            await asyncio.sleep(0)
        await written
        while await self.poll():
            pass


async def test_a_reader_that_checkpoints_misses_nothing_of_many_writers(
    database: Database,
) -> None:
    """Four appenders with small batches, and statements that bypass the appenders."""
    async with (
        running_appender(database, limits=SMALL_BATCHES) as a,
        running_appender(database, limits=SMALL_BATCHES) as b,
        running_appender(database, limits=SMALL_BATCHES) as c,
        running_appender(database, limits=SMALL_BATCHES) as d,
        await database.connect("raw") as raw,
        await database.connect("reader") as reading,
    ):
        reader = CheckpointingReader(reading)
        writers = [write_through(appender) for appender in (a, b, c, d)]
        await reader.poll_until(asyncio.gather(*writers, write_directly(raw)))
    positions = sorted(position for position, _ in (await stored_log(database)).values())
    assert len(positions) == (WRITERS + 1) * EVENTS_EACH
    assert reader.seen == positions


async def write_through(appender: Appender) -> None:
    """Bursts of single events and of one atomic pair, so that batches form."""
    events = foreign_events(EVENTS_EACH)
    while events:
        burst, events = events[:8], events[8:]
        appends = [[event] for event in burst[:6]] + [burst[6:]]
        await asyncio.gather(*map(appender.append, appends))


async def write_directly(connection: Connection) -> None:
    for event in foreign_events(EVENTS_EACH):
        await connection.execute(APPEND, parameters(event))


def parameters(event: StoredEvent) -> tuple[object, ...]:
    columns = (event.originator_id, event.originator_version, event.topic, event.state)
    return (LOG_LOCK, None, *([value] for value in columns), [None], [None])


async def in_two_transactions(
    conninfo: str, insert: Callable[[Connection, StoredEvent], Awaitable[None]]
) -> tuple[list[int], list[int]]:
    """A takes an id; B takes the next and commits if it can; a reader reads; A, then B commits."""
    async with (
        await AsyncConnection.connect(conninfo) as a,
        await AsyncConnection.connect(conninfo) as b,
        await AsyncConnection.connect(conninfo, autocommit=True) as reading,
    ):
        reader = CheckpointingReader(reading)
        await insert(a, foreign_event())
        await b.execute("SET lock_timeout = '50ms'")
        late = foreign_event()
        try:
            await insert(b, late)
        except psycopg.errors.LockNotAvailable:
            await b.rollback()
            await reader.poll()
            await a.commit()
            await insert(b, late)
        await b.commit()
        await reader.poll()
        await a.commit()
        await reader.poll()
        cursor = await reading.execute("SELECT notification_id FROM stored_events ORDER BY 1")
        return reader.seen, [row[0] for row in await cursor.fetchall()]


async def test_an_id_is_assigned_only_after_the_previous_append_has_committed(
    conninfo: str,
) -> None:
    async def insert(connection: Connection, event: StoredEvent) -> None:
        await connection.execute(APPEND, parameters(event))

    seen, positions = await in_two_transactions(conninfo, insert)
    assert len(positions) == 2
    assert seen == positions


async def test_without_the_lock_the_reader_misses_an_event(
    conninfo: str,
) -> None:
    async def insert(connection: Connection, event: StoredEvent) -> None:
        await connection.execute(
            """INSERT INTO stored_events (originator_id, originator_version, topic, state)
               VALUES (%s, %s, %s, %s)""",
            (event.originator_id, event.originator_version, event.topic, event.state),
        )

    seen, positions = await in_two_transactions(conninfo, insert)
    assert len(positions) == 2
    assert seen == positions[1:]
