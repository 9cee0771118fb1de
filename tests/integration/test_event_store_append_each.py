"""Many single appends in one call: each has the result that it would have alone."""

import asyncio

import pytest

from pulse.eventstore import (
    AppendLimits,
    AppendOutcomeUnknown,
    AppendQueueFull,
    AppendRefused,
    VersionTaken,
)
from pulse.postgres import Database
from tests.support.events import foreign_event, foreign_events
from tests.support.log import (
    log_locked,
    running_appender,
    stored_log,
    unlock,
    until_waiting_for_lock,
)
from tests.support.waiting import until


async def test_each_event_has_its_own_outcome(database: Database) -> None:
    """Some conflict with stored events, some with earlier events of the same call."""
    stored, fresh = foreign_events(5), foreign_events(60)
    against_stored = [foreign_event(event.originator_id) for event in stored]
    against_fresh = [foreign_event(event.originator_id) for event in fresh[:5]]
    mixed = [*against_stored, *fresh[:30], *against_fresh, *fresh[30:]]
    async with running_appender(database) as appender:
        await appender.append_each(stored)
        outcomes = await appender.append_each(mixed)
    log = await stored_log(database)
    for event, outcome in zip(mixed, outcomes, strict=True):
        if event in fresh:
            assert log[event.originator_id, 1] == (outcome[0], event.state)  # type: ignore[index]
        else:
            assert isinstance(outcome, VersionTaken)
            assert outcome.originator_id == event.originator_id
    assert len(log) == 65


async def test_an_empty_list_appends_nothing(database: Database) -> None:
    async with running_appender(database) as appender:
        assert await appender.append_each([]) == []


async def test_events_beyond_the_queue_limit_are_refused_and_the_others_written(
    database: Database,
) -> None:
    events = foreign_events(15)
    async with running_appender(database, limits=AppendLimits(queue_events=10)) as appender:
        outcomes = await appender.append_each(events)
        again = await appender.append_each(events[10:])
    assert [type(outcome) for outcome in outcomes] == [tuple] * 10 + [AppendQueueFull] * 5
    assert [type(outcome) for outcome in again] == [tuple] * 5
    assert len(await stored_log(database)) == 15


@pytest.mark.timing
async def test_without_an_answer_in_time_each_outcome_is_unknown_or_refused(
    database: Database,
) -> None:
    limits = AppendLimits(queue_events=10, batch_events=3, answer_seconds=0.3)
    async with log_locked(database) as lock, running_appender(database, limits=limits) as appender:
        outcomes = await appender.append_each(foreign_events(5))
        kinds = [AppendOutcomeUnknown] * 3 + [AppendRefused] * 2
        assert [type(outcome) for outcome in outcomes] == kinds
        await unlock(lock)

        async def three_are_stored() -> bool:
            return len(await stored_log(database)) == 3

        await until(three_are_stored, "the appends in progress are written")
    assert await three_are_stored()


async def test_a_cancelled_caller_frees_its_place_in_the_queue(database: Database) -> None:
    limits = AppendLimits(queue_events=10, batch_events=1, answer_seconds=15)
    async with log_locked(database) as lock, running_appender(database, limits=limits) as appender:
        caught = asyncio.ensure_future(appender.append_each(foreign_events(10)))
        await until_waiting_for_lock(database)
        caught.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caught
        later = asyncio.ensure_future(appender.append_each(foreign_events(10)))
        await asyncio.sleep(0)
        await unlock(lock)
        assert [type(outcome) for outcome in await later] == [tuple] * 10
    assert len(await stored_log(database)) == 11, "the first cancelled append was in progress"
