"""The library's own recorder, run by the table's owner, on the table that Pulse migrated."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from eventsourcing.persistence import ApplicationRecorder, IntegrityError, StoredEvent

from pulse.eventstore import AppendLimits
from pulse.postgres import Database
from tests.integration.library.stock import (
    DEADLINE_SECONDS,
    stock_listens,
    stock_recorder,
    until,
    waiting_for_locks,
)
from tests.support.events import foreign_event, foreign_events
from tests.support.library_recorder import LibraryRecorder, library_recorder

EVENTS_EACH_SIDE = 2_000
WRITERS_EACH_SIDE = 2

# A writer of the topic 'slow' is blocked when it has taken its id, and before it commits.
_BLOCKED = """
CREATE FUNCTION be_blocked() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(4711);
    RETURN NEW;
END
$$;
CREATE TRIGGER be_blocked BEFORE INSERT ON stored_events
    FOR EACH ROW WHEN (NEW.topic = 'slow') EXECUTE FUNCTION be_blocked();
"""

_LAYOUT = """
SELECT 'column', attname::text, format_type(atttypid, atttypmod) || attnotnull,
       pg_get_expr(adbin, adrelid)
  FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
 WHERE attrelid = 'stored_events'::regclass AND attnum > 0
UNION ALL
SELECT 'index', pg_get_indexdef(indexrelid), null, null
  FROM pg_index WHERE indrelid = 'stored_events'::regclass
UNION ALL
SELECT 'trigger', pg_get_triggerdef(oid), null, null
  FROM pg_trigger WHERE tgrelid = 'stored_events'::regclass AND NOT tgisinternal
UNION ALL
SELECT 'options', reloptions::text, null, null FROM pg_class WHERE oid = 'stored_events'::regclass
 ORDER BY 1, 2
"""


def layout(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    return connection.execute(_LAYOUT).fetchall()


LONG_DEADLINES = AppendLimits(answer_seconds=DEADLINE_SECONDS)


class CheckpointingReader:
    """Polls for what comes after the last one it has seen, as subscriptions do."""

    def __init__(self, recorder: ApplicationRecorder) -> None:
        self.seen: list[int] = []
        self._recorder = recorder

    def poll(self) -> bool:
        """Read up to the current end of the log; returns whether there were events."""
        last = self.seen[-1] if self.seen else 0
        read = self._recorder.select_notifications(last, 500, inclusive_of_start=False)
        self.seen += [notification.id for notification in read]
        return bool(read)


def all_ids(connection: psycopg.Connection) -> list[int]:
    rows = connection.execute("SELECT notification_id FROM stored_events ORDER BY 1")
    return [row[0] for row in rows]


def everything(connection: psycopg.Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT * FROM stored_events ORDER BY notification_id").fetchall()


def test_the_librarys_recorder_leaves_the_table_and_its_indexes_as_they_are(
    conninfo: str, connection: psycopg.Connection
) -> None:
    before = layout(connection)
    with stock_recorder(conninfo) as stock:
        stock.create_table()
        assert layout(connection) == before
    assert len([row for row in before if row[0] == "index"]) == 2


def test_the_library_and_pulse_read_and_continue_each_others_streams(
    conninfo: str, pulse_recorder: LibraryRecorder, connection: psycopg.Connection
) -> None:
    ours = pulse_recorder
    stream = uuid4()
    events = [foreign_event(stream, version) for version in range(1, 5)]
    with stock_recorder(conninfo) as stock:
        assert ours.insert_events(events[:1]) == [1]
        assert stock.insert_events(events[1:2]) == [2]
        assert ours.insert_events(events[2:3]) == [3]
        assert stock.insert_events(events[3:]) == [4]
        assert stock.select_events(stream) == ours.select_events(stream) == events
        assert stock.select_notifications(1, 9) == ours.select_notifications(1, 9)
        assert stock.max_notification_id() == ours.max_notification_id() == 4
        with pytest.raises(IntegrityError):
            stock.insert_events(events[:1])
        with pytest.raises(IntegrityError):
            ours.insert_events(events[3:])
    assert all(row[5] is not None for row in everything(connection))  # recorded_at


def test_the_librarys_subscription_receives_events_of_pulse(
    conninfo: str, pulse_recorder: LibraryRecorder, connection: psycopg.Connection
) -> None:
    with (
        stock_recorder(conninfo) as stock,
        stock.subscribe() as subscription,
        ThreadPoolExecutor(1) as threads,
    ):
        until(lambda: stock_listens(connection), "the library's subscription listens")
        for writer, expected in ((pulse_recorder, 1), (stock, 2), (pulse_recorder, 3)):
            heard = threads.submit(next, subscription)
            writer.insert_events([foreign_event()])
            assert heard.result(DEADLINE_SECONDS).id == expected


@pytest.fixture
def recorders(conninfo: str) -> Iterator[Callable[[str], ApplicationRecorder]]:
    """A recorder of a kind: Pulse's, the library's, or the library's with its functions."""
    with ExitStack() as stack:

        def make(kind: str) -> ApplicationRecorder:
            if kind == "pulse":
                database = Database(conninfo, pool_size=2)
                return stack.enter_context(library_recorder(database, limits=LONG_DEADLINES))
            db_functions = kind == "stock with functions"
            return stack.enter_context(stock_recorder(conninfo, db_functions=db_functions))

        yield make


def missed_of_two(
    slow: ApplicationRecorder,
    fast: ApplicationRecorder,
    reader: CheckpointingReader,
    connection: psycopg.Connection,
) -> list[int]:
    """`slow` takes an id and is blocked, `fast` writes if it can, the reader reads, all resume."""
    connection.execute(_BLOCKED)
    with psycopg.connect(connection.info.dsn, autocommit=True) as holding:
        holding.execute("SELECT pg_advisory_lock(4711)")
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(slow.insert_events, [StoredEvent(uuid4(), 1, "slow", b"")])
            until(lambda: waiting_for_locks(connection) == 1, "the slow one has its id")
            second = threads.submit(fast.insert_events, [foreign_event()])
            until(
                lambda: second.done() or waiting_for_locks(connection) == 2,
                "the fast one is done, or waits for the slow one",
            )
            reader.poll()
            holding.execute("SELECT pg_advisory_unlock(4711)")
            first.result(DEADLINE_SECONDS)
            second.result(DEADLINE_SECONDS)
    while reader.poll():
        pass
    return sorted(set(all_ids(connection)) - set(reader.seen))


@pytest.mark.parametrize("slow", ["pulse", "stock"])
@pytest.mark.parametrize("fast", ["pulse", "stock"])
def test_an_id_is_assigned_only_after_the_previous_one_has_committed(
    recorders: Callable[[str], ApplicationRecorder],
    connection: psycopg.Connection,
    slow: str,
    fast: str,
) -> None:
    reader = CheckpointingReader(recorders("pulse"))
    assert missed_of_two(recorders(slow), recorders(fast), reader, connection) == []
    assert reader.seen == all_ids(connection) == [1, 2]


def test_without_the_lock_the_librarys_reader_loses_an_event(
    recorders: Callable[[str], ApplicationRecorder], connection: psycopg.Connection
) -> None:
    reader = CheckpointingReader(recorders("pulse"))
    writers = recorders("stock with functions"), recorders("stock with functions")
    assert missed_of_two(*writers, reader, connection) == [1]


def write(recorder: ApplicationRecorder, count: int) -> None:
    """One, three and ten at a time."""
    events = foreign_events(count)
    while events:
        for size in (1, 3, 10):
            if events:
                recorder.insert_events(events[:size])
                del events[:size]


def read_while(reader: CheckpointingReader, writing: Sequence["Future[None]"]) -> None:
    pause = threading.Event()
    while not all(future.done() for future in writing):
        if not reader.poll():
            pause.wait(0.001)
    for future in writing:
        future.result()
    while reader.poll():
        pass


def test_with_both_writing_at_once_a_reader_that_checkpoints_misses_nothing(
    recorders: Callable[[str], ApplicationRecorder], connection: psycopg.Connection
) -> None:
    readers = [CheckpointingReader(recorders(kind)) for kind in ("pulse", "stock")]
    writers = [recorders(kind) for kind in ("pulse", "stock") for _ in range(WRITERS_EACH_SIDE)]
    with ThreadPoolExecutor(len(writers) + len(readers)) as threads:
        each = EVENTS_EACH_SIDE // WRITERS_EACH_SIDE
        writing = [threads.submit(write, recorder, each) for recorder in writers]
        reading = [threads.submit(read_while, reader, writing) for reader in readers]
        for future in reading:
            future.result()
    ids = all_ids(connection)
    assert len(ids) == 2 * EVENTS_EACH_SIDE
    assert readers[0].seen == ids
    assert readers[1].seen == ids
