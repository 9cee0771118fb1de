"""Ambiguous commits: the connection breaks at any byte, and the result is still correct."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from eventsourcing.persistence import StoredEvent

from pulse.eventstore import Appender, AppendLimits, AppendOutcomeUnknown, VersionTaken
from pulse.postgres import Database
from tests.support.events import foreign_event, foreign_events
from tests.support.log import (
    LONG_DEADLINES,
    Commits,
    append_all,
    append_singly,
    fetch,
    fetch_as_superuser,
    log_locked,
    running_appender,
    stored_log,
    unlock,
    until_waiting_for_lock,
)
from tests.support.proxy import Fault, PostgresProxy

REPLY_LOST = Fault(reply_bytes=0)
NEVER_ARRIVED = Fault(request_bytes=0)
CUT_BEFORE_ITS_SYNC = Fault(request_bytes=-5)


@pytest.fixture
async def appender(proxy: PostgresProxy) -> AsyncIterator[Appender]:
    """An appender behind the proxy, its statements prepared."""
    async with running_appender(Database(proxy.conninfo, pool_size=1)) as appender:
        await appender.append([foreign_event()])
        await appender.append(foreign_events(2))
        yield appender


async def stored_once(database: Database, append: list[StoredEvent], outcome: object) -> bool:
    """Whether exactly these events are stored, at the positions of the answer."""
    log = await stored_log(database)
    here = [log[event.originator_id, event.originator_version] for event in append]
    total = await fetch(database, "SELECT count(*) FROM stored_events")
    return (
        outcome == tuple(position for position, _ in here)
        and [state for _, state in here] == [event.state for event in append]
        and total == [(3 + len(append),)]
    )


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("fault", [REPLY_LOST, NEVER_ARRIVED, CUT_BEFORE_ITS_SYNC])
async def test_an_append_whose_statement_or_reply_is_lost_ends_with_its_own_positions(
    database: Database,
    proxy: PostgresProxy,
    appender: Appender,
    *,
    fault: Fault,
    times: int,
    count: int,
) -> None:
    proxy.faults.extend([fault] * times)
    stream = uuid4()
    append = [foreign_event(stream, version) for version in range(1, count + 1)]
    (outcome,) = await append_all(appender, [append])
    assert not proxy.faults
    assert await stored_once(database, append, outcome)


async def test_cut_at_any_byte_of_its_reply_an_append_ends_with_its_own_position(
    database: Database, proxy: PostgresProxy, appender: Appender
) -> None:
    """The row, the command tag and the commit are separate messages; any may be the last."""
    await appender.append([foreign_event()])
    size = proxy.reply_sizes[-1]
    events = foreign_events(size)
    for reply_bytes, event in enumerate(events):
        proxy.faults.append(Fault(reply_bytes=reply_bytes))
        (outcome,) = await append_singly(appender, [event])
        log = await stored_log(database)
        assert outcome == (log[event.originator_id, 1][0],), f"cut after {reply_bytes} bytes"
    assert len(await stored_log(database)) == 4 + size


async def test_cut_at_any_byte_of_its_statement_an_append_is_written_once(
    database: Database, proxy: PostgresProxy, appender: Appender
) -> None:
    await appender.append([foreign_event()])
    sizes = range(0, proxy.request_sizes[-1], 7)
    for request_bytes in sizes:
        event = foreign_event()
        proxy.faults.append(Fault(request_bytes=request_bytes))
        (outcome,) = await append_singly(appender, [event])
        log = await stored_log(database)
        assert outcome == (log[event.originator_id, 1][0],), f"cut after {request_bytes} bytes"
    assert len(await stored_log(database)) == 4 + len(sizes)


async def test_a_retry_waits_for_the_first_attempt_that_is_still_in_progress(
    database: Database, proxy: PostgresProxy, appender: Appender
) -> None:
    """The client is cut off, its old backend still waits for the lock: both will write."""
    event = foreign_event()
    proxy.faults.append(Fault(client_only=True))
    async with log_locked(database) as lock:
        waiting = asyncio.ensure_future(append_singly(appender, [event]))
        await until_waiting_for_lock(database, count=2)
        await unlock(lock)
        (outcome,) = await waiting
    assert await stored_once(database, [event], outcome)


async def test_a_real_conflict_in_a_retry_is_still_a_conflict(
    database: Database, proxy: PostgresProxy, appender: Appender
) -> None:
    """The statement never arrived, and meanwhile another process took the version."""
    mine, other = foreign_event(), foreign_event()
    rival = foreign_event(mine.originator_id)
    fault = Fault(request_bytes=0, hold=asyncio.Event())
    proxy.faults.append(fault)
    waiting = asyncio.ensure_future(append_singly(appender, [mine, other]))
    await fault.held.wait()
    async with running_appender(database) as elsewhere:
        await elsewhere.append([rival])
    assert fault.hold is not None
    fault.hold.set()
    outcomes = await waiting
    assert isinstance(outcomes[0], VersionTaken)
    log = await stored_log(database)
    assert log[mine.originator_id, 1][1] == rival.state
    assert outcomes[1] == (log[other.originator_id, 1][0],)


async def test_an_event_with_the_same_bytes_and_another_topic_is_a_conflict(
    database: Database, proxy: PostgresProxy, appender: Appender
) -> None:
    mine = foreign_event()
    rival = StoredEvent(mine.originator_id, 1, "elsewhere:Other", mine.state)
    fault = Fault(request_bytes=0, hold=asyncio.Event())
    proxy.faults.append(fault)
    waiting = asyncio.ensure_future(append_singly(appender, [mine]))
    await fault.held.wait()
    async with running_appender(database) as elsewhere:
        await elsewhere.append([rival])
    assert fault.hold is not None
    fault.hold.set()
    assert isinstance((await waiting)[0], VersionTaken)


async def test_a_retry_that_fails_otherwise_does_not_claim_that_nothing_was_written(
    database: Database, proxy: PostgresProxy, appender: Appender
) -> None:
    event = foreign_event()
    fault = Fault(request_bytes=0, hold=asyncio.Event())
    proxy.faults.extend([REPLY_LOST, fault])
    waiting = asyncio.ensure_future(append_singly(appender, [event]))
    await fault.held.wait()
    assert fault.hold is not None
    await fetch_as_superuser(database, "ALTER TABLE stored_events RENAME TO somewhere_else")
    fault.hold.set()
    (outcome,) = await waiting
    await fetch_as_superuser(database, "ALTER TABLE somewhere_else RENAME TO stored_events")
    assert isinstance(outcome, AppendOutcomeUnknown)
    assert (event.originator_id, 1) in await stored_log(database)


async def test_after_a_lost_reply_each_caller_of_the_burst_receives_its_own_result(
    database: Database, proxy: PostgresProxy, appender: Appender
) -> None:
    """Some conflict with stored events, some with each other; the batch's outcome is unknown."""
    stored = foreign_events(5)
    await append_singly(appender, stored)
    fresh = foreign_events(40)
    losers = [foreign_event(event.originator_id) for event in [*stored, *fresh[:5]]]
    proxy.faults.extend([REPLY_LOST, NEVER_ARRIVED, REPLY_LOST])
    outcomes = await append_singly(appender, [*fresh, *losers])
    assert not proxy.faults
    log = await stored_log(database)
    assert outcomes[:40] == [(log[event.originator_id, 1][0],) for event in fresh]
    assert all(isinstance(outcome, VersionTaken) for outcome in outcomes[40:])
    assert len(log) == 3 + 45


async def test_a_connection_that_breaks_during_the_retry_is_replaced(
    database: Database, proxy: PostgresProxy, appender: Appender
) -> None:
    """The append's reply is lost, and then the reply of the query for stored events."""
    event = foreign_event()
    proxy.faults.extend([REPLY_LOST, None, REPLY_LOST])
    (outcome,) = await append_singly(appender, [event])
    assert not proxy.faults
    assert await stored_once(database, [event], outcome)


async def test_a_commit_with_a_lost_reply_still_notifies_the_readers(
    conninfo: str, proxy: PostgresProxy
) -> None:
    commits = Commits()
    assert conninfo != proxy.conninfo
    database = Database(proxy.conninfo, pool_size=1)
    async with running_appender(database, on_commit=commits) as appender:
        proxy.faults.append(REPLY_LOST)
        await appender.append([foreign_event()])
    assert commits.count == 1


@pytest.mark.timing
async def test_an_append_on_a_silent_connection_succeeds_on_another(
    database: Database, proxy: PostgresProxy
) -> None:
    limits = AppendLimits(answer_seconds=15, statement_seconds=0.2)
    behind = Database(proxy.conninfo, pool_size=1)
    events = foreign_events(20)
    async with running_appender(behind, limits=limits) as appender:
        await appender.append(foreign_events(3))
        proxy.faults.append(Fault(silent=True))
        outcomes = await append_singly(appender, events)
    log = await stored_log(database)
    assert outcomes == [(log[event.originator_id, 1][0],) for event in events]


@pytest.mark.timing
async def test_a_reply_that_is_lost_beyond_the_deadline_is_an_unknown_outcome(
    database: Database, proxy: PostgresProxy
) -> None:
    limits = AppendLimits(answer_seconds=0.3, retry=LONG_DEADLINES.retry)
    behind = Database(proxy.conninfo, pool_size=1)
    event = foreign_event()
    async with running_appender(behind, limits=limits) as appender:
        await appender.append(foreign_events(3))
        retried = Fault(request_bytes=0, hold=asyncio.Event())
        proxy.faults.extend([REPLY_LOST, retried])
        with pytest.raises(AppendOutcomeUnknown):
            await appender.append([event])
        assert retried.held.is_set()
    assert (event.originator_id, 1) in await stored_log(database)
