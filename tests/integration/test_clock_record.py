"""The offsets of each process's clock are recorded, and old rows are deleted."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from pulse.application.clock_record import ClockRecord
from pulse.application.clock_watch import ClockWatch
from pulse.application.origin import Origin
from pulse.postgres import Database, DatabaseUnavailable
from tests.support.log import fetch

ROWS = """
SELECT instance, code_version, measurements, min_offset_seconds, max_offset_seconds
  FROM clock_offsets ORDER BY recorded_at
"""


class Clock:
    """A clock that is ahead by a number of seconds."""

    ahead_seconds = 0.0

    def __call__(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead_seconds)


def recording(database: Database) -> tuple[Clock, ClockWatch, ClockRecord]:
    clock = Clock()
    watch = ClockWatch(database, clock, max_offset_seconds=1)
    return clock, watch, ClockRecord(database, Origin("host:1:abc", "0.1.0+g1"), watch.take_offsets)


async def test_a_row_has_the_range_of_the_offsets_since_the_last_one(database: Database) -> None:
    clock, watch, record = recording(database)
    for clock.ahead_seconds in (0.0, 40.0, -20.0):
        await watch.run_once()
    await record.run_once()
    ((instance, code, count, least, most),) = await fetch(database, ROWS)
    assert (instance, code, count) == ("host:1:abc", "0.1.0+g1", 3)
    assert least == pytest.approx(-20, abs=2)
    assert most == pytest.approx(40, abs=2)
    clock.ahead_seconds = 5.0
    await watch.run_once()
    await record.run_once()
    (_, (_, _, count, least, _)) = await fetch(database, ROWS)
    assert count == 1
    assert least == pytest.approx(5, abs=2)


async def test_without_a_measurement_there_is_no_row(database: Database) -> None:
    _, _, record = recording(database)
    assert await record.run_once() is None
    assert await fetch(database, ROWS) == []


async def test_offsets_that_could_not_be_written_are_in_the_next_row(
    database: Database, conninfo: str
) -> None:
    _, watch, record = recording(database)
    await watch.run_once()
    with psycopg.connect(conninfo, autocommit=True) as owner:
        owner.execute("ALTER TABLE clock_offsets RENAME TO renamed")
        with pytest.raises(DatabaseUnavailable):
            await record.run_once()
        owner.execute("ALTER TABLE renamed RENAME TO clock_offsets")
    await watch.run_once()
    await record.run_once()
    ((_, _, count, _, _),) = await fetch(database, ROWS)
    assert count == 2


async def test_rows_older_than_30_days_are_deleted(database: Database, conninfo: str) -> None:
    with psycopg.connect(conninfo) as owner:
        owner.execute(
            "INSERT INTO clock_offsets"
            " SELECT now() - days * interval '1 day', 'old', '1', 1, 0, 0, 0"
            " FROM generate_series(1, 40) AS days"
        )
    _, watch, record = recording(database)
    await watch.run_once()
    await record.run_once()
    assert await fetch(
        database,
        "SELECT count(*), min(recorded_at) > now() - interval '30 days' FROM clock_offsets",
    ) == [(30, True)]
