"""Limits and deadlines of the appender, and its stop."""

import asyncio
from uuid import uuid4

import pytest

from pulse.eventstore import (
    Appender,
    AppendLimits,
    AppendOutcomeUnknown,
    AppendQueueFull,
    AppendRefused,
)
from pulse.eventstore.append_state import Accepting, HalfOpen, Probing, State
from pulse.postgres import Connection, Database, PostgresLimits
from tests.support.events import foreign_event, foreign_events
from tests.support.log import (
    LONG_DEADLINES,
    append_all,
    append_singly,
    fetch,
    fetch_as_superuser,
    log_locked,
    nothing,
    running,
    running_appender,
    stored_log,
    unlock,
    until_waiting_for_lock,
)
from tests.support.waiting import until

SHORT_DEADLINE = AppendLimits(answer_seconds=0.3)


async def test_a_full_queue_refuses_appends_and_writes_none_of_them(
    database: Database,
) -> None:
    limits = AppendLimits(queue_events=10, answer_seconds=15)
    async with log_locked(database) as lock, running_appender(database, limits=limits) as appender:
        waiting = [asyncio.ensure_future(appender.append([e])) for e in foreign_events(8)]
        await until_waiting_for_lock(database)
        refused = await append_all(appender, [foreign_events(3)])
        fitting = asyncio.ensure_future(appender.append(foreign_events(2)))
        await asyncio.sleep(0)
        refused += await append_singly(appender, foreign_events(1))
        await unlock(lock)
        await asyncio.gather(*waiting, fitting)
        assert [type(outcome) for outcome in refused] == [AppendQueueFull, AppendQueueFull]
        await append_singly(appender, foreign_events(10))
    assert len(await stored_log(database)) == 20


async def test_cancelled_callers_free_their_places_in_the_queue(database: Database) -> None:
    limits = AppendLimits(queue_events=10, answer_seconds=15)
    async with log_locked(database) as lock, running_appender(database, limits=limits) as appender:
        first = asyncio.ensure_future(appender.append([foreign_event()]))
        await until_waiting_for_lock(database)
        given_up = [asyncio.ensure_future(appender.append([e])) for e in foreign_events(9)]
        await asyncio.sleep(0)
        for append in given_up:
            append.cancel()
        await asyncio.wait(given_up)
        later = asyncio.ensure_future(appender.append(foreign_events(9)))
        await asyncio.sleep(0)
        await unlock(lock)
        await asyncio.gather(first, later)
    assert len(await stored_log(database)) == 10


@pytest.mark.timing
async def test_an_append_without_an_answer_in_time_has_an_unknown_outcome(
    database: Database,
) -> None:
    event = foreign_event()
    async with (
        log_locked(database) as lock,
        running_appender(database, limits=SHORT_DEADLINE) as appender,
    ):
        with pytest.raises(AppendOutcomeUnknown):
            await appender.append([event])
        await unlock(lock)

        async def stored() -> bool:
            return (event.originator_id, 1) in await stored_log(database)

        await until(stored, "what was sent is written")


@pytest.mark.timing
async def test_a_statement_that_the_server_cancels_is_retried(database: Database) -> None:
    """The lock is held beyond lock_timeout: Postgres cancels the statement, and it is retried."""
    impatient = Database(database.conninfo, pool_size=1, limits=PostgresLimits(lock_seconds=0.05))
    async with (
        log_locked(database) as lock,
        running_appender(impatient, limits=LONG_DEADLINES) as appender,
    ):
        waiting = asyncio.ensure_future(appender.append([foreign_event()]))
        for _ in range(2):
            await until_waiting_for_lock(database)
            await until_none_waits_for_lock(database)
        await unlock(lock)
        assert len(await waiting) == 1


async def until_none_waits_for_lock(database: Database) -> None:
    async def none_waits() -> bool:
        rows = await fetch(
            database,
            """SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock'""",
        )
        return rows == [(0,)]

    await until(none_waits, "the statement is given up")


async def test_an_appender_that_stops_refuses_later_appends(database: Database) -> None:
    async with running_appender(database) as appender:
        await appender.append([foreign_event()])
        appender.drain()
        with pytest.raises(AppendRefused):
            await appender.append([foreign_event()])
    with pytest.raises(AppendRefused):
        await appender.append([foreign_event()])


async def test_an_appender_stopped_during_a_statement_answers_every_caller(
    database: Database,
) -> None:
    stream = uuid4()
    async with log_locked(database) as lock:
        async with running_appender(database) as appender:
            burst = [foreign_event(stream), foreign_event(stream), foreign_event()]
            sent = asyncio.ensure_future(append_singly(appender, burst))
            await until_waiting_for_lock(database)
            unsent = asyncio.ensure_future(append_singly(appender, [foreign_event()]))
            await asyncio.sleep(0)
        kinds = [type(outcome) for outcome in [*await sent, *await unsent]]
        assert kinds == [*[AppendOutcomeUnknown] * 3, AppendRefused]
        assert str((await unsent)[0]) == "Pulse is stopping", (
            "its caller need not wait for the deadline"
        )
        await unlock(lock)


async def test_an_appender_that_crashed_can_be_run_again(database: Database) -> None:
    crashes = iter([RuntimeError("a bug")])

    async def connect() -> Connection:
        for crash in crashes:
            raise crash
        return await database.connect("appender")

    appender = Appender(connect, on_commit=lambda: None, limits=LONG_DEADLINES)
    with pytest.raises(RuntimeError, match="a bug"):
        await appender.run()
    async with running(appender.run):
        await appender.append([foreign_event()])
    assert len(await stored_log(database)) == 1


@pytest.mark.timing
async def test_while_the_log_is_locked_new_appends_are_refused_at_once(
    database: Database,
) -> None:
    """Its probe notices the unlock, without an append of a caller."""
    impatient = Database(database.conninfo, pool_size=1, limits=PostgresLimits(lock_seconds=0.05))
    limits = AppendLimits(answer_seconds=1.0)
    async with log_locked(database) as lock, running_appender(impatient, limits=limits) as appender:
        waiting = asyncio.ensure_future(append_singly(appender, foreign_events(1)))
        await until_state(appender, Probing)
        refused = await append_singly(appender, foreign_events(20))
        assert {str(outcome) for outcome in refused} == {
            "Postgres refuses appends: canceling statement due to lock timeout"
        }
        (outcome,) = await waiting
        assert isinstance(outcome, AppendRefused | AppendOutcomeUnknown)
        with pytest.raises(AppendRefused):  # although no append waits any more
            await appender.append([foreign_event()])
        await unlock(lock)
        await until_state(appender, HalfOpen, Accepting)
        events = foreign_events(10)
        await append_singly(appender, events)
        assert isinstance(appender.state, Accepting)
    assert {(event.originator_id, 1) for event in events} <= set(await stored_log(database))


@pytest.mark.timing
async def test_an_append_that_succeeds_after_the_fault_ends_the_refusals(
    database: Database,
) -> None:
    impatient = Database(database.conninfo, pool_size=1, limits=PostgresLimits(lock_seconds=0.05))
    async with log_locked(database) as lock, running_appender(impatient) as appender:
        waiting = asyncio.ensure_future(appender.append([foreign_event()]))
        await until_state(appender, Probing)
        await unlock(lock)
        await waiting
        assert len(await appender.append([foreign_event()])) == 1


@pytest.mark.timing
async def test_after_a_successful_probe_a_refused_batch_fails_its_callers_at_once(
    database: Database,
) -> None:
    """As with a nearly full disk: the probe's small row fits, and the batch does not."""
    async with running_appender(database, limits=SHORT_DEADLINE) as appender:
        await fetch_as_superuser(database, FULL_FOR_ALL_BUT_THE_PROBE)
        await append_singly(appender, foreign_events(1))
        await until_state(appender, HalfOpen)
        outcomes = await append_singly(appender, foreign_events(3))
        assert {str(o) for o in outcomes} == {"Postgres refuses appends: no space"}
        await fetch_as_superuser(database, "DROP TRIGGER full_disk ON stored_events")
        await until_state(appender, HalfOpen)
        await append_singly(appender, foreign_events(3))
    assert len(await stored_log(database)) == 3


@pytest.mark.timing
async def test_an_appender_that_probes_stops_at_once(database: Database) -> None:
    impatient = Database(database.conninfo, pool_size=1, limits=PostgresLimits(lock_seconds=0.05))
    async with log_locked(database):
        appender = Appender(
            lambda: impatient.connect("appender"), on_commit=nothing, limits=SHORT_DEADLINE
        )
        async with running(appender.run) as run:
            await append_singly(appender, foreign_events(1))
            await until_waiting_for_lock(database)
            assert isinstance(appender.state, Probing)
            appender.drain()
            await asyncio.wait({run}, timeout=2)
            assert run.done()


async def until_state(appender: Appender, *kinds: type[State]) -> None:
    async def reached() -> bool:
        return isinstance(appender.state, kinds)

    await until(reached, f"the appender is in one of {kinds}")


FULL_FOR_ALL_BUT_THE_PROBE = """
CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = 'disk_full'; END$$;
CREATE TRIGGER full_disk BEFORE INSERT ON stored_events
    FOR EACH ROW WHEN (NEW.topic <> 'pulse:AppendTried') EXECUTE FUNCTION no_space()"""
