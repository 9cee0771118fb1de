"""Cancelled callers: refused appends are never written, and other appends are unaffected."""

import asyncio
from uuid import uuid4

import pytest

from pulse.eventstore import (
    Appender,
    AppendLimits,
    AppendRefused,
)
from pulse.postgres import Connection, Database
from tests.support.events import foreign_event, foreign_events
from tests.support.log import (
    append_all,
    append_singly,
    log_locked,
    running,
    running_appender,
    stored_log,
    unlock,
    until_waiting_for_lock,
)
from tests.support.proxy import Fault, proxied

SHORT_DEADLINE = AppendLimits(answer_seconds=0.3)


async def test_an_append_cancelled_before_its_batch_is_not_written(database: Database) -> None:
    events = foreign_events(3)
    async with log_locked(database) as lock, running_appender(database) as appender:
        first = asyncio.ensure_future(appender.append([events[0]]))
        await until_waiting_for_lock(database)
        cancelled = asyncio.ensure_future(appender.append([events[1]]))
        last = asyncio.ensure_future(appender.append([events[2]]))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait({cancelled})
        await unlock(lock)
        await asyncio.gather(first, last)
    assert {state for _, state in (await stored_log(database)).values()} == {
        events[0].state,
        events[2].state,
    }


async def test_a_caller_cancelled_within_its_batch_affects_no_other(database: Database) -> None:
    events = foreign_events(3)
    async with log_locked(database) as lock, running_appender(database) as appender:
        appends = [asyncio.ensure_future(appender.append([event])) for event in events]
        await until_waiting_for_lock(database)
        appends[1].cancel()
        await asyncio.wait({appends[1]})
        await unlock(lock)
        await asyncio.gather(appends[0], appends[2])
        await appender.append([foreign_event()])
    assert len(await stored_log(database)) == 4


async def test_an_append_behind_a_cancelled_one_still_receives_its_result(
    database: Database,
) -> None:
    """The first append's statement is lost and its caller is cancelled; the second is written."""
    stream = uuid4()
    fault = Fault(request_bytes=0, hold=asyncio.Event())
    async with (
        proxied(database.conninfo) as proxy,
        running_appender(Database(proxy.conninfo, pool_size=1)) as appender,
    ):
        await appender.append([foreign_event()])
        proxy.faults.append(fault)
        leader = asyncio.ensure_future(appender.append([foreign_event(stream)]))
        event = foreign_event(stream)
        follower = asyncio.ensure_future(appender.append([event]))
        await fault.held.wait()
        leader.cancel()
        await asyncio.wait({leader})
        assert fault.hold is not None
        fault.hold.set()
        assert len(await follower) == 1
    assert (await stored_log(database))[stream, 1][1] == event.state


@pytest.mark.timing
async def test_an_append_that_was_never_sent_is_refused_in_time_and_never_written(
    database: Database,
) -> None:
    first, second, third = foreign_events(3)
    async with (
        log_locked(database) as lock,
        running_appender(database, limits=SHORT_DEADLINE) as appender,
    ):
        sent = asyncio.ensure_future(append_singly(appender, [first]))
        await until_waiting_for_lock(database)
        (outcome,) = await append_singly(appender, [second])
        assert isinstance(outcome, AppendRefused)
        await sent
        await unlock(lock)
        await appender.append([third])
    assert {first.state, third.state} >= {s for _, s in (await stored_log(database)).values()}


@pytest.mark.timing
async def test_an_append_refused_during_the_retry_one_by_one_is_never_written(
    database: Database,
) -> None:
    """A conflict makes the appender try each pair by itself; one is refused before its turn."""
    taken = foreign_event(version=2)
    pairs = [[foreign_event(s), foreign_event(s, 2)] for s in (taken.originator_id, uuid4())]
    fault = Fault(hold=asyncio.Event())
    async with (
        proxied(database.conninfo) as proxy,
        running_appender(Database(proxy.conninfo, pool_size=1), limits=SHORT_DEADLINE) as appender,
    ):
        await appender.append([taken])
        proxy.faults.extend([None, fault])
        outcomes = await append_all(appender, pairs)
        assert fault.held.is_set()
        assert isinstance(outcomes[1], AppendRefused)
        assert fault.hold is not None
        fault.hold.set()
        await appender.append([foreign_event()])
    assert (pairs[1][0].originator_id, 1) not in await stored_log(database)


@pytest.mark.timing
async def test_an_append_refused_during_an_outage_is_never_written(
    database: Database,
) -> None:
    """Its caller gives up while the appender reconnects."""
    first, second = foreign_events(2)
    cut = Fault(request_bytes=0, hold=asyncio.Event())
    reconnected = asyncio.Event()
    connections = 0
    async with proxied(database.conninfo) as proxy:
        behind_proxy = Database(proxy.conninfo, pool_size=1)

        async def connect() -> Connection:
            nonlocal connections
            connections += 1
            if connections == 2:
                await reconnected.wait()
            return await behind_proxy.connect("appender")

        appender = Appender(connect, on_commit=lambda: None, limits=SHORT_DEADLINE)
        async with running(appender.run):
            await appender.append([foreign_event()])
            proxy.faults.append(cut)
            sent = asyncio.ensure_future(append_singly(appender, [first]))
            await cut.held.wait()
            await sent
            assert cut.hold is not None
            waiting = asyncio.ensure_future(append_singly(appender, [second]))
            cut.hold.set()
            assert isinstance((await waiting)[0], AppendRefused)
            reconnected.set()
            await appender.append([foreign_event()])
    assert (second.originator_id, 1) not in await stored_log(database)
