"""Slow writers, rolled-back ids and strangers on the log: whoever reads on must miss nothing."""

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
_RATE: Final = 60.0
_SLOW: Final = """
CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(0.002 + 0.008 * random());
    RETURN NEW;
END
$$;
CREATE TRIGGER be_slow BEFORE INSERT ON stored_events
    FOR EACH ROW WHEN (NEW.topic = 'slow') EXECUTE FUNCTION be_slow();"""
"""Holds a writer of that topic up between taking its id and its commit."""


async def run(case_run: CaseRun) -> None:
    """Pulse under load beside the library's own writers on one log; then the control."""
    async with (
        case_run.deployment(apis=2, workers=1, readers=2) as deployment,
        deployment.caller.load(rate=_RATE),
    ):
        missed, stored = await _disorder(
            case_run, deployment.server.conninfo, rounds=case_run.times
        )
        case_run.injected(case_run.times)
        rolled_back = await deployment.server.fetch(
            "SELECT max(notification_id) - count(*) FROM stored_events"
        )
        control = make_conninfo(deployment.server.conninfo, dbname="control")
        await deployment.server.fetch("CREATE DATABASE control")
        await Migrations(REVISIONS).migrate(control, PostgresLimits())
        missed_by_control, of = await _disorder(
            case_run, control, rounds=min(case_run.times, _CONTROL_ROUNDS), db_functions=True
        )
    case_run.row.skipped += missed
    case_run.fact(f"{stored:,} events stored, {rolled_back[0][0]:,} ids rolled back")
    case_run.fact(f"control, the library's db functions on: {missed_by_control} of {of:,} missed")
    case_run.require(missed == 0, f"a checkpointing reader missed {missed} events")
    case_run.require(rolled_back[0][0] > 0, "no id was rolled back")
    case_run.require(missed_by_control > 0, "the control missed nothing: this case cannot fail")


async def _disorder(
    case_run: CaseRun, conninfo: str, *, rounds: int, db_functions: bool = False
) -> tuple[int, int]:
    """Write in disorder; how many events a checkpointing reader missed, and of how many."""
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
    """Rounds of a writer: most quick, some slow, some rolled back after taking an id."""
    with psycopg.connect(conninfo) as regretful:
        for _ in range(rounds):
            kind = random.choices(("quick", "slow", "rolled back"), (80, 10, 10))[0]
            if kind == "rolled back":
                regretful.execute("LOCK TABLE stored_events IN EXCLUSIVE MODE")
                regretful.execute(
                    "INSERT INTO stored_events (originator_id, originator_version, topic, state)"
                    " VALUES (%s, 1, 'regretted', '')",
                    (uuid4(),),
                )
                regretful.rollback()
            else:
                recorder.insert_events([StoredEvent(uuid4(), 1, kind, b"{}")])


@contextmanager
def _checkpointing_reader(conninfo: str) -> Iterator[set[int]]:
    """The positions seen by a reader that goes on from the last it saw, as often as it can."""
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
    promise="slow writers, rolled-back ids and the library's own writers beside Pulse's on one "
    "log: no reader skips an event; with the library's db functions on, the control, one does",
    at_least=10_000,
    short=600,
    run=run,
)
