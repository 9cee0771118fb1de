"""Runs the `pulse` command in this process, on the test's database, without a terminal."""

import asyncio
import os
from contextlib import redirect_stderr, redirect_stdout
from datetime import datetime
from io import BytesIO, TextIOWrapper
from unittest.mock import patch

import msgspec
import psycopg
from eventsourcing.persistence import StoredEvent

from pulse.cli.app import run
from pulse.postgres import Database
from pulse.process import startup
from tests.support.database import as_runtime
from tests.support.processes import environment, url_of
from tests.support.read_model import project


class Ended(msgspec.Struct, frozen=True):
    """The exit code and output of a command."""

    exit_code: int
    out: str
    err: str


def run_pulse(*arguments: str, conninfo: str | None = None, **settings: object) -> Ended:
    """Run one command line with only these settings, as the role of processes.

    `migrate` and `log fork` use `conninfo` unchanged.
    """
    if conninfo is not None:
        is_for_owner = arguments[:1] == ("migrate",) or arguments[:2] == ("log", "fork")
        settings["database_url"] = url_of(conninfo if is_for_owner else as_runtime(conninfo))
    out, err = (TextIOWrapper(BytesIO(), encoding="utf-8") for _ in range(2))
    with (
        patch.dict(os.environ, environment(settings), clear=True),
        patch.object(startup, "configure_logs", lambda *_: None),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            exit_code = run(arguments)
        except SystemExit as ended:
            exit_code = int(ended.code or 0)
    return Ended(exit_code, _written(out), _written(err))


def _written(stream: TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, BytesIO)
    text = stream.buffer.getvalue().decode()
    assert "\x1b" not in text, "control code in piped output"
    return text


def write(conninfo: str, *events: StoredEvent, recorded_at: datetime | None = None) -> None:
    """Insert events into the log without the event store."""
    rows = [(e.originator_id, e.originator_version, e.topic, e.state, recorded_at) for e in events]
    with psycopg.connect(conninfo) as connection:
        connection.cursor().executemany(
            "INSERT INTO stored_events"
            " (originator_id, originator_version, topic, state, recorded_at)"
            " VALUES (%s, %s, %s, %s, COALESCE(%s, clock_timestamp()))",
            rows,
        )


def projected(conninfo: str) -> None:
    """Project to the end of the log."""

    async def project_all() -> None:
        database = Database(conninfo, pool_size=2)
        await database.open()
        try:
            await project(database)
        finally:
            await database.close()

    asyncio.run(project_all())


def claim(conninfo: str, order_id: object, worker: str, seconds_ago: float = 0) -> None:
    """Claim an order for a worker, `seconds_ago` in the past."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            "UPDATE pending_orders SET claimed_by = %s, claimed_at = at, first_claimed_at = at"
            " FROM (SELECT clock_timestamp() - make_interval(secs => %s) AS at) claimed"
            " WHERE order_id = %s",
            (worker, seconds_ago, order_id),
        )
