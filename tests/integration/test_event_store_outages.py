"""Outages of Postgres: appends fail fast, and the appender recovers without a restart."""

import asyncio
from uuid import uuid4

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from pulse.eventstore import Appender, AppendLimits, AppendOutcomeUnknown, AppendRefused
from pulse.eventstore.append_state import Disconnected
from pulse.postgres import Connection, Database
from tests.support.database import as_superuser
from tests.support.events import foreign_event, foreign_events
from tests.support.log import (
    LONG_DEADLINES,
    Key,
    append_singly,
    nothing,
    read_log,
    running,
    running_appender,
    running_store,
    stored_event,
    stored_log,
    terminate,
)
from tests.support.proxy import PostgresProxy, proxied
from tests.support.waiting import DEADLINE_SECONDS, until


async def test_appends_are_refused_during_an_outage_and_succeed_after_it(
    database: Database,
) -> None:
    async with (
        proxied(database.conninfo) as proxy,
        running_appender(Database(proxy.conninfo, pool_size=1)) as appender,
    ):
        await appender.append([foreign_event()])
        proxy.refuse()
        caught = foreign_event()
        in_flight = asyncio.ensure_future(append_singly(appender, [caught]))
        refused = await until_refused(appender)
        with pytest.raises(AppendRefused, match="Postgres cannot be reached"):
            await appender.append([foreign_event()])
        await proxy.accept()
        (outcome,) = await in_flight
        log = await stored_log(database)
        assert outcome == (log[caught.originator_id, 1][0],)
        assert (refused.originator_id, 1) not in log
        await appender.append([foreign_event()])


async def test_an_appender_started_before_postgres_writes_after_its_start(
    database: Database,
) -> None:
    proxy = PostgresProxy(database.conninfo)
    await proxy.accept()
    behind = Database(proxy.conninfo, pool_size=1)
    proxy.refuse()
    async with running_appender(behind) as appender:
        refused = await until_refused(appender)
        await proxy.accept()

        async def accepted() -> bool:
            outcomes = await append_singly(appender, [foreign_event()])
            return isinstance(outcomes[0], tuple)

        await until(accepted, "an append is accepted")
    assert (refused.originator_id, 1) not in await stored_log(database)
    await proxy.close()


async def until_refused(appender: Appender) -> StoredEvent:
    """Append until one is refused without waiting; earlier ones may wait for their deadline."""
    refused: list[StoredEvent] = []

    async def at_once() -> bool:
        event = foreign_event()
        append = asyncio.ensure_future(appender.append([event]))
        await asyncio.wait({append}, timeout=0.01)
        append.cancel()
        (outcome,) = await asyncio.gather(append, return_exceptions=True)
        if isinstance(outcome, AppendRefused):
            refused.append(event)
        return bool(refused)

    await until(at_once, "an append is refused at once")
    return refused[0]


async def test_an_append_survives_the_end_of_its_idle_connection(database: Database) -> None:
    async with running_appender(database) as appender:
        await appender.append([foreign_event()])
        assert await terminate(database, "appender") == 1
        event = foreign_event()
        positions = await appender.append([event])
    assert (await stored_log(database))[event.originator_id, 1][0] == positions[0]


async def test_every_acknowledged_append_is_stored_once_despite_terminated_backends(
    database: Database,
) -> None:
    """At least 500 appends from 20 callers, singly and in pairs, while backends are terminated."""
    killed = 0
    acknowledged: dict[Key, int] = {}

    async def caller() -> None:
        n = 0
        while n < 25 or killed < 5:
            n += 1
            stream = uuid4()
            events = [foreign_event(stream, version) for version in range(1, 2 + n % 2)]
            positions = await appender.append(events)
            for event, position in zip(events, positions, strict=True):
                acknowledged[event.originator_id, event.originator_version] = position

    async with running_appender(database) as appender:
        callers = asyncio.gather(*(caller() for _ in range(20)))
        while not callers.done():
            killed += await terminate(database, "appender")
            await asyncio.wait({callers}, timeout=0.005)
        await callers
    log = await stored_log(database)
    assert acknowledged == {key: position for key, (position, _) in log.items()}
    assert len({stream for stream, _ in acknowledged}) >= 500


async def read_only(database: Database, setting: str) -> None:
    """As a primary is that was demoted."""
    name = str(conninfo_to_dict(database.conninfo)["dbname"])
    async with await psycopg.AsyncConnection.connect(
        as_superuser(database.conninfo),
        options="-c default_transaction_read_only=off",
        autocommit=True,
    ) as connection:
        statement = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
        await connection.execute(statement.format(sql.Identifier(name), setting))


async def test_a_read_only_server_refuses_appends_before_the_deadline(
    database: Database,
) -> None:
    assert await stored_log(database) == {}  # the pool has a connection before new ones are refused
    await read_only(database, "on")
    async with running_appender(database, limits=AppendLimits(answer_seconds=0.3)) as appender:
        outcomes = await append_singly(appender, foreign_events(3))
    assert {type(outcome) for outcome in outcomes} == {AppendRefused}
    assert await stored_log(database) == {}


async def test_an_append_survives_a_failover_without_a_restart(
    database: Database,
) -> None:
    await read_only(database, "on")
    connections = 0

    async def connect() -> Connection:
        nonlocal connections
        connections += 1
        return await database.connect("appender")

    async def tried_again() -> bool:
        return connections > 2

    appender = Appender(connect, on_commit=nothing, limits=LONG_DEADLINES)
    async with running(appender.run):
        waiting = asyncio.ensure_future(append_singly(appender, foreign_events(3)))
        await until(tried_again, "the appender looks for another server")
        await read_only(database, "off")
        assert all(isinstance(outcome, tuple) for outcome in await waiting)


async def test_a_draining_appender_ends_when_its_first_connection_fails() -> None:
    connecting, drained = asyncio.Event(), asyncio.Event()

    async def connect() -> Connection:
        connecting.set()
        await drained.wait()
        raise psycopg.OperationalError("Postgres is down")

    appender = Appender(connect, on_commit=nothing)
    running = asyncio.ensure_future(appender.run())
    await connecting.wait()
    appender.drain()
    drained.set()
    ended, _ = await asyncio.wait({running}, timeout=DEADLINE_SECONDS)
    running.cancel()
    assert ended == {running}


async def test_reads_succeed_after_every_connection_of_the_pool_was_terminated(
    database: Database,
) -> None:
    async with running_store(database) as store:
        event = foreign_event()
        await store.append_stored([event])
        assert await terminate(database, "pool") > 0
        (record,) = await read_log(store, after=0, limit=10)
        assert stored_event(record) == event


async def test_the_outcome_of_an_append_caught_by_an_outage_is_unknown_until_it_is_read(
    database: Database,
) -> None:
    async with proxied(database.conninfo) as proxy:
        behind = Database(proxy.conninfo, pool_size=1)
        async with running_appender(behind) as appender:
            await append_singly(appender, foreign_events(2))
            proxy.refuse()
            caught = asyncio.ensure_future(append_singly(appender, [foreign_event()]))

            async def unavailable() -> bool:
                return isinstance(appender.state, Disconnected)

            await until(unavailable, "the appender knows that Postgres is down")
        (outcome,) = await caught
        assert isinstance(outcome, AppendOutcomeUnknown)
