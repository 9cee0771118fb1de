"""Conflicts: exactly the later appends are refused, and others are unaffected."""

from uuid import uuid4

from pulse.eventstore import VersionTaken
from pulse.postgres import Database
from tests.support.events import foreign_event, foreign_events
from tests.support.log import append_all, append_singly, running_appender, stored_log


async def test_a_taken_version_is_refused_with_its_facts(database: Database) -> None:
    event = foreign_event()
    async with running_appender(database) as appender:
        (first,) = await append_singly(appender, [event])
        (second,) = await append_singly(appender, [foreign_event(event.originator_id)])
    assert isinstance(second, VersionTaken)
    assert (second.originator_id, second.originator_version) == (event.originator_id, 1)
    log = await stored_log(database)
    assert log == {(event.originator_id, 1): (first[0], event.state)}  # type: ignore[index]


async def test_the_same_event_appended_twice_is_a_conflict(database: Database) -> None:
    event = foreign_event()
    async with running_appender(database) as appender:
        await appender.append([event])
        (again,) = await append_singly(appender, [event])
    assert isinstance(again, VersionTaken)


async def test_of_a_hundred_concurrent_appends_exactly_the_colliding_ones_are_refused(
    database: Database,
) -> None:
    """Five conflict with stored events, five with events of the same batch."""
    stored, fresh = foreign_events(5), foreign_events(90)
    against_stored = [foreign_event(event.originator_id) for event in stored]
    against_fresh = [foreign_event(event.originator_id) for event in fresh[:5]]
    mixed = [*against_stored[:2], *fresh[:50], *against_fresh, *fresh[50:], *against_stored[2:]]
    async with running_appender(database) as appender:
        await append_singly(appender, stored)
        outcomes = await append_singly(appender, mixed)
    refused = [
        event
        for event, outcome in zip(mixed, outcomes, strict=True)
        if isinstance(outcome, VersionTaken)
    ]
    assert refused == [*against_stored[:2], *against_fresh, *against_stored[2:]]
    log = await stored_log(database)
    written = {
        event.state: outcome
        for event, outcome in zip(mixed, outcomes, strict=True)
        if event not in refused
    }
    assert written == {event.state: (log[event.originator_id, 1][0],) for event in fresh}
    assert {state for _, state in log.values()} == {event.state for event in [*stored, *fresh]}


async def test_of_many_appends_at_one_version_the_first_wins(database: Database) -> None:
    stream = uuid4()
    claimants = [foreign_event(stream) for _ in range(20)]
    async with running_appender(database) as appender:
        outcomes = await append_singly(appender, claimants)
    assert isinstance(outcomes[0], tuple)
    assert all(isinstance(outcome, VersionTaken) for outcome in outcomes[1:])
    assert await stored_log(database) == {(stream, 1): (outcomes[0][0], claimants[0].state)}


async def test_several_events_are_appended_atomically(database: Database) -> None:
    taken = foreign_event(version=2)
    async with running_appender(database) as appender:
        await appender.append([taken])
        append = [foreign_event(taken.originator_id, version) for version in (1, 2, 3)]
        (outcome,) = await append_all(appender, [append])
    assert isinstance(outcome, VersionTaken)
    assert set(await stored_log(database)) == {(taken.originator_id, 2)}


async def test_an_append_with_a_duplicate_version_is_refused(database: Database) -> None:
    stream = uuid4()
    append = [foreign_event(stream), foreign_event(stream)]
    async with running_appender(database) as appender:
        (outcome,) = await append_all(appender, [append])
    assert isinstance(outcome, VersionTaken)
    assert await stored_log(database) == {}


async def test_a_conflict_affects_no_other_append_of_the_burst(
    database: Database,
) -> None:
    """Pairs and single events in one burst: every third pair's second version is taken."""
    taken = [foreign_event(version=2) for _ in range(10)]
    free = [uuid4() for _ in range(20)]
    streams = [e.originator_id for e in taken] + free
    pairs = [[foreign_event(stream), foreign_event(stream, 2)] for stream in streams]
    singles = foreign_events(20)
    burst = [append for n in range(20) for append in (pairs[n], [singles[n]])] + pairs[20:]
    async with running_appender(database) as appender:
        await append_singly(appender, taken)
        outcomes = await append_all(appender, burst)
    log = await stored_log(database)
    for append, outcome in zip(burst, outcomes, strict=True):
        if append[0].originator_id in streams[:10]:
            assert isinstance(outcome, VersionTaken)
            assert (append[0].originator_id, 1) not in log
        else:
            assert outcome == tuple(log[e.originator_id, e.originator_version][0] for e in append)
    assert len(log) == 10 + 2 * 20 + 20


async def test_overlapping_appends_of_a_burst_are_written_in_order(
    database: Database,
) -> None:
    """The second needs a version of the first; the third needs one of the refused second."""
    stream = uuid4()
    burst = [
        [foreign_event(stream, 1), foreign_event(stream, 2)],
        [foreign_event(stream, 2), foreign_event(stream, 3)],
        [foreign_event(stream, 3), foreign_event(stream, 4)],
        [foreign_event(stream, 5)],
    ]
    async with running_appender(database) as appender:
        outcomes = await append_all(appender, burst)
    assert isinstance(outcomes[1], VersionTaken)
    assert [isinstance(outcome, tuple) for outcome in outcomes] == [True, False, True, True]
    assert {version for _, version in await stored_log(database)} == {1, 2, 3, 4, 5}


async def test_an_append_behind_a_refused_one_can_use_its_versions(
    database: Database,
) -> None:
    taken = foreign_event(version=2)
    refused, following = [
        [foreign_event(taken.originator_id, version) for version in versions]
        for versions in ((1, 2), (1, 3))
    ]
    async with running_appender(database) as appender:
        await appender.append([taken])
        outcomes = await append_all(appender, [refused, following])
    assert isinstance(outcomes[0], VersionTaken)
    log = await stored_log(database)
    assert outcomes[1] == tuple(log[taken.originator_id, version][0] for version in (1, 3))
    assert log[taken.originator_id, 1][1] == following[0].state


async def test_an_append_that_postgres_rejects_affects_no_other(database: Database) -> None:
    unstorable = foreign_event()
    broken = type(unstorable)(uuid4(), 1, "no\x00topic", b"")
    others = foreign_events(10)
    async with running_appender(database) as appender:
        outcomes = await append_singly(appender, [*others[:5], broken, *others[5:]])
    assert isinstance(outcomes[5], Exception)
    assert not isinstance(outcomes[5], VersionTaken)
    assert all(isinstance(outcome, tuple) for n, outcome in enumerate(outcomes) if n != 5)
    assert len(await stored_log(database)) == 10
