"""Following the log: nothing is lost with a hint, with a connection, or before LISTEN."""

import itertools
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from eventsourcing.persistence import Notification, StoredEvent

from pulse.eventstore import Factory
from pulse.eventstore.library import FollowLimits, PulseApplicationRecorder, PulseSubscription
from pulse.eventstore.library.engine import Rows, fetch_all
from pulse.postgres import Database, DatabaseUnavailable
from tests.integration.library.conftest import MakeFactory
from tests.integration.library.stock import DEADLINE_SECONDS, terminate, until
from tests.support.events import foreign_event, foreign_events

NO_POLLING = FollowLimits(poll_seconds=3600.0)
OFTEN = FollowLimits(poll_seconds=0.02)


@pytest.fixture
def recorder(make_factory: MakeFactory) -> PulseApplicationRecorder:
    return make_factory().application_recorder()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    threads = ThreadPoolExecutor(4)
    yield threads
    threads.shutdown(wait=False, cancel_futures=True)  # closing the factory ends who still waits


def take(subscription: PulseSubscription, count: int) -> list[Notification]:
    return list(itertools.islice(subscription, count))


def ids(notifications: Sequence[Notification]) -> list[int]:
    return [notification.id for notification in notifications]


def soon(future: "Future[Any]") -> Any:
    return future.result(timeout=DEADLINE_SECONDS)


def write_unannounced(connection: psycopg.Connection, event: StoredEvent) -> None:
    connection.execute(
        """INSERT INTO stored_events (originator_id, originator_version, topic, state)
           VALUES (%s, %s, %s, %s)""",
        (event.originator_id, event.originator_version, event.topic, event.state),
    )


def listeners(connection: psycopg.Connection) -> int:
    row = connection.execute(
        """SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name LIKE 'pulse:subscription@%'
              AND query LIKE 'LISTEN%'"""
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_hint_wakes_it_without_any_polling(
    recorder: PulseApplicationRecorder, make_factory: MakeFactory, threads: ThreadPoolExecutor
) -> None:
    writer = make_factory().application_recorder()
    recorder.follow_limits = NO_POLLING
    with recorder.subscribe() as subscription:
        writer.insert_events([foreign_event()])
        assert ids(soon(threads.submit(take, subscription, 1))) == [1]
        waiting = threads.submit(take, subscription, 3)
        writer.insert_events(foreign_events(3))
        assert ids(soon(waiting)) == [2, 3, 4]


def test_an_event_that_comes_right_after_the_first_look_is_heard_of(
    recorder: PulseApplicationRecorder,
    make_factory: MakeFactory,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    threads: ThreadPoolExecutor,
) -> None:
    """LISTEN is in force before the first look, else only polling would find it."""
    writer = make_factory().application_recorder()
    looked, go_on = threading.Event(), threading.Event()
    listening: list[int] = []

    async def look(database: Database, *arguments: Any) -> Rows:
        rows = await fetch_all(database, *arguments)
        if not looked.is_set():
            listening.append(listeners(connection))
            looked.set()
            go_on.wait(DEADLINE_SECONDS)  # the loop stands still, as a slow machine may
        return rows

    monkeypatch.setattr("pulse.eventstore.library.subscription.fetch_all", look)
    recorder.follow_limits = NO_POLLING
    with recorder.subscribe() as subscription:
        waiting = threads.submit(take, subscription, 1)
        assert looked.wait(DEADLINE_SECONDS)
        writer.insert_events([foreign_event()])
        writer._engine.close()  # the hint is out
        go_on.set()
        assert ids(soon(waiting)) == [1]
    assert listening == [1]


def test_an_event_without_a_hint_is_found_by_polling(
    recorder: PulseApplicationRecorder, connection: psycopg.Connection, threads: ThreadPoolExecutor
) -> None:
    recorder.follow_limits = OFTEN
    with recorder.subscribe() as subscription:
        write_unannounced(connection, foreign_event())
        assert ids(soon(threads.submit(take, subscription, 1))) == [1]
        waiting = threads.submit(take, subscription, 1)
        write_unannounced(connection, foreign_event())
        assert ids(soon(waiting)) == [2]


@pytest.mark.parametrize(
    ("roles", "limits"), [(["subscription"], NO_POLLING), (["subscription", "pool"], OFTEN)]
)
def test_it_outlives_its_connections(
    make_factory: MakeFactory,
    connection: psycopg.Connection,
    threads: ThreadPoolExecutor,
    roles: list[str],
    limits: FollowLimits,
) -> None:
    writer, recorder = (make_factory().application_recorder() for _ in range(2))
    recorder.follow_limits = limits
    with recorder.subscribe() as subscription:
        for expected in (1, 2, 3):
            waiting = threads.submit(take, subscription, 1)
            until(lambda: listeners(connection), "it listens")
            assert all(terminate(connection, role) for role in roles)
            until(lambda: listeners(connection), "it listens again")
            writer.insert_events([foreign_event()])
            assert ids(soon(waiting)) == [expected]


def test_a_server_that_is_away_is_waited_for(
    recorder: PulseApplicationRecorder,
    monkeypatch: pytest.MonkeyPatch,
    threads: ThreadPoolExecutor,
) -> None:
    away = threading.Event()
    away.set()
    refused = threading.Semaphore(0)
    read = Database.read

    async def read_unless_away(database: Database, query: Any) -> Any:
        if away.is_set():
            refused.release()
            raise DatabaseUnavailable("away")
        return await read(database, query)

    recorder.insert_events([foreign_event()])
    monkeypatch.setattr(Database, "read", read_unless_away)
    recorder.follow_limits = OFTEN
    with recorder.subscribe() as subscription:
        waiting = threads.submit(take, subscription, 1)
        assert refused.acquire(timeout=DEADLINE_SECONDS)
        assert refused.acquire(timeout=DEADLINE_SECONDS)
        away.clear()
        assert ids(soon(waiting)) == [1]


@pytest.mark.parametrize("ended_by", ["stop", "factory"])
def test_who_waits_in_it_is_let_go_when_it_is_stopped(
    make_factory: MakeFactory,
    connection: psycopg.Connection,
    threads: ThreadPoolExecutor,
    ended_by: str,
) -> None:
    factory: Factory = make_factory()
    recorder = factory.application_recorder()
    recorder.follow_limits = NO_POLLING
    subscription = recorder.subscribe()
    waiting = threads.submit(list, subscription)
    until(lambda: listeners(connection), "it listens")
    if ended_by == "stop":
        subscription.stop()
    else:
        factory.close()
    assert waiting.result(timeout=1.0) == []
    until(lambda: not listeners(connection), "its connection is closed")
    assert list(subscription) == []


def test_a_stop_does_not_wait_for_a_server_that_hangs(
    recorder: PulseApplicationRecorder, conninfo: str, threads: ThreadPoolExecutor
) -> None:
    recorder.max_notification_id()
    with psycopg.connect(conninfo) as holding, psycopg.connect(conninfo) as looking:
        holding.execute("LOCK TABLE stored_events IN ACCESS EXCLUSIVE MODE")
        subscription = recorder.subscribe()
        waiting = threads.submit(list, subscription)

        def hangs() -> bool:
            looking.rollback()
            row = looking.execute(
                """SELECT count(*) FROM pg_stat_activity
                    WHERE application_name LIKE 'pulse:pool@%' AND wait_event_type = 'Lock'
                      AND datname = current_database()"""
            ).fetchone()
            return row == (1,)

        until(hangs, "it waits for the server")
        subscription.stop()
        assert waiting.result(timeout=1.0) == []


def test_events_of_other_topics_are_passed_over_once_and_for_all(
    recorder: PulseApplicationRecorder, threads: ThreadPoolExecutor
) -> None:
    recorder.follow_limits = FollowLimits(window_events=10)
    stream = foreign_event().originator_id
    wanted = [StoredEvent(stream, version, "wanted", b"{}") for version in (1, 2)]
    recorder.insert_events(foreign_events(35))
    recorder.insert_events(wanted[:1])
    recorder.insert_events(foreign_events(35))
    with recorder.subscribe(gt=5, topics=["wanted", "rare"]) as subscription:
        assert ids(soon(threads.submit(take, subscription, 1))) == [36]
        waiting = threads.submit(take, subscription, 1)
        recorder.insert_events(wanted[1:])
        (second,) = soon(waiting)
    assert (second.id, second.originator_version, second.state) == (72, 2, b"{}")


def test_many_windows_come_whole_and_in_order(
    recorder: PulseApplicationRecorder, threads: ThreadPoolExecutor
) -> None:
    recorder.insert_events(foreign_events(1_234))
    with recorder.subscribe(gt=34) as subscription:
        assert ids(soon(threads.submit(take, subscription, 1_200))) == list(range(35, 1_235))


def test_several_follow_one_log_each_for_itself(
    recorder: PulseApplicationRecorder, threads: ThreadPoolExecutor
) -> None:
    subscriptions = [recorder.subscribe(gt=after) for after in (None, 10, 20)]
    waiting = [threads.submit(list, subscription) for subscription in subscriptions]
    recorder.insert_events(foreign_events(30))
    until(
        lambda: all(s._last_notification_id == 30 for s in subscriptions),
        "all have read to the end",
    )
    for subscription in subscriptions:
        subscription.stop()
    assert [type(soon(future)) for future in waiting] == [list] * 3
