"""Logs with given positions and recorded times."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import psycopg
from hypothesis import strategies as st

from pulse.domain import HALTS_STREAM_ID, Event, ReleasesHalted
from pulse.postgres import Database
from tests.support.database import as_superuser
from tests.support.events import AUTHOR, TRACE, foreign_event, stored
from tests.support.histories import histories, lives

START = datetime(2026, 3, 2, 3, 45, tzinfo=UTC)


def halted(version: int) -> ReleasesHalted:
    return ReleasesHalted(
        originator_id=HALTS_STREAM_ID,
        originator_version=version,
        timestamp=START,
        recorded_by=AUTHOR,
        trace=TRACE,
        halt_id=UUID(int=version),
        scope="ALL",
        instrument=None,
        placed_by=None,
        reason="a test",
        halted_by="tester",
    )


class Row(NamedTuple):
    """An event in the log, or a foreign one (None)."""

    position: int
    recorded_at: datetime
    event: Event | None


@st.composite
def logs(draw: st.DrawFn, steps: Sequence[int] = (0, 1, 2, -1, -30)) -> list[Row]:
    """Orders, halts and foreign events, mixed, with gaps, and a clock that is sometimes set back.

    Between two events the clock advances by one of `steps` seconds.
    """
    drawn: list[list[Event | None]] = [
        list(history)
        for history in draw(
            st.lists(
                histories() | lives(),
                min_size=1,
                max_size=5,
                unique_by=lambda h: h[0].originator_id,
            )
        )
    ]
    drawn.append([halted(version) for version in range(1, draw(st.integers(1, 3)) + 1)])
    drawn.append([None] * draw(st.integers(0, 2)))
    turns = draw(st.permutations([n for n, history in enumerate(drawn) for _ in history]))
    rest = [iter(history) for history in drawn]
    rows: list[Row] = []
    position, now = 0, START
    for turn in turns:
        position += draw(st.sampled_from((1, 1, 1, 2, 9)))
        now += timedelta(seconds=draw(st.sampled_from(steps)))
        rows.append(Row(position, now, next(rest[turn])))
    return rows


async def write(database: Database, rows: Sequence[Row]) -> None:
    """Write the log as it is given, with its positions and recorded times."""
    async with await psycopg.AsyncConnection.connect(as_superuser(database.conninfo)) as connection:
        for row in rows:
            event = foreign_event() if row.event is None else stored([row.event])[0]
            await connection.execute(
                "INSERT INTO stored_events (originator_id, originator_version, topic, state,"
                " notification_id, recorded_at) VALUES (%s, %s, %s, %s, %s, %s)",
                (
                    event.originator_id,
                    event.originator_version,
                    event.topic,
                    event.state,
                    row.position,
                    row.recorded_at,
                ),
            )
        await connection.execute(
            "SELECT setval(pg_get_serial_sequence('stored_events', 'notification_id'), %s)",
            (rows[-1].position,),
        )
