"""Slow writers, rolled-back ids and foreign writers on the log: no reader skips an event."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from typing import Final
from uuid import uuid4

import psycopg
from eventsourcing.persistence import ApplicationRecorder, StoredEvent
from psycopg.conninfo import make_conninfo

from pulse.postgres import PostgresLimits
from pulse.postgres.migrations import Migrations
from pulse.process.revisions import REVISIONS
from tests.faults.case import Case, CaseRun
from tests.integration.library.stock import stock_recorder

_WRITERS: Final = 4
_CONTROL_ROUNDS: Final = 1_200
_ORDERS_PER_SECOND: Final = 60.0
_SLOW: Final = """
CREATE FUNCTION delay_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(0.002 + 0.008 * random());
    RETURN NEW;
END
$$;
CREATE TRIGGER delay_insert BEFORE INSERT ON stored_events
    FOR EACH ROW WHEN (NEW.topic = 'slow') EXECUTE FUNCTION delay_insert();"""
"""Delays a writer of that topic between taking an id and its commit."""


async def run(case_run: CaseRun) -> None:
    """Pulse under load and the library's writers on one log; then the control."""
    async with (
        case_run.deployment(apis=2, workers=1, readers=2) as deployment,
        deployment.caller.load(rate=_ORDERS_PER_SECOND),
    ):
        missed, stored = await _write_concurrently(
            case_run, deployment.server.conninfo, rounds=case_run.times
        )
        case_run.injected(case_run.times)
        rolled_back = await deployment.server.fetch(
            "SELECT max(notification_id) - count(*) FROM stored_events"
        )
        control = make_conninfo(deployment.server.conninfo, dbname="control")
        await deployment.server.fetch("CREATE DATABASE control")
        await Migrations(REVISIONS).migrate(control, PostgresLimits())
        missed_by_control, of = await _write_concurrently(
            case_run, control, rounds=min(case_run.times, _CONTROL_ROUNDS), db_functions=True
        )
    case_run.row.skipped += missed
    case_run.fact(f"{stored:,} events stored, {rolled_back[0][0]:,} ids rolled back")
    case_run.fact(
        f"control with the library's database functions: {missed_by_control} of {of:,} events"
        " missed"
    )
    case_run.require(missed == 0, f"a checkpointing reader missed {missed} events")
    case_run.require(rolled_back[0][0] > 0, "no id was rolled back")
    case_run.require(missed_by_control > 0, "the control missed no event, so this case cannot fail")


async def _write_concurrently(
    case_run: CaseRun, conninfo: str, *, rounds: int, db_functions: bool = False
) -> tuple[int, int]:
    """Write with several writers.

    Returns the number of events that a checkpointing reader missed, and the number of all events.
    """
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(_SLOW)
    each = rounds // _WRITERS
    with ExitStack() as stack:
        writers = [
            stack.enter_context(stock_recorder(conninfo, db_functions=db_functions))
            for _ in range(_WRITERS)
        ]
        seen = stack.enter_context(_checkpointing_reader(conninfo))
        async with asyncio.TaskGroup() as writing:
            for writer in writers:
                random = Random(case_run.random.random())
                writing.create_task(asyncio.to_thread(_write, writer, conninfo, each, random))
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute("SELECT notification_id FROM stored_events").fetchall()
    last = max(seen)
    return len({position for (position,) in rows if position <= last} - seen), len(rows)


def _write(recorder: ApplicationRecorder, conninfo: str, rounds: int, random: Random) -> None:
    """Write events: most of them fast, some slow, some rolled back after taking an id."""
    with psycopg.connect(conninfo) as rolling_back:
        for _ in range(rounds):
            kind = random.choices(("quick", "slow", "rolled back"), (80, 10, 10))[0]
            if kind == "rolled back":
                rolling_back.execute("LOCK TABLE stored_events IN EXCLUSIVE MODE")
                rolling_back.execute(
                    "INSERT INTO stored_events (originator_id, originator_version, topic, state)"
                    " VALUES (%s, 1, 'rolled back', '')",
                    (uuid4(),),
                )
                rolling_back.rollback()
            else:
                recorder.insert_events([StoredEvent(uuid4(), 1, kind, b"{}")])


@contextmanager
def _checkpointing_reader(conninfo: str) -> Iterator[set[int]]:
    """The positions seen by a reader that polls from the last position it saw."""
    seen: set[int] = set()
    done = threading.Event()

    def read() -> None:
        last = 0
        with psycopg.connect(conninfo, autocommit=True) as connection:
            while True:
                finishing = done.is_set()
                rows = connection.execute(
                    "SELECT notification_id FROM stored_events WHERE notification_id > %s"
                    " ORDER BY 1 LIMIT 500",
                    (last,),
                ).fetchall()
                seen.update(position for (position,) in rows)
                last = max((last, *(position for (position,) in rows)))
                if finishing and not rows:
                    return
                done.wait(0.001)

    reading = threading.Thread(target=read)
    reading.start()
    try:
        yield seen
    finally:
        done.set()
        reading.join()


CASE: Final = Case(
    name="commit_order",
    promise="Slow writers, rolled-back ids and writers of the eventsourcing library share the log "
    "with Pulse: no reader skips an event. In the control, with the library's database functions, "
    "a reader does",
    at_least=10_000,
    short=600,
    run=run,
)
