"""The tally equals the fold of the log, all at once or step by step, and its minutes are exact."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pulse.postgres import Database
from pulse.projections.queue_history import HistorySummary, QueueHistory
from pulse.projections.tally import MINUTES, MinuteSums, QueueTally
from tests.support.database import as_superuser
from tests.support.events import MAPPER, order_created, slices_scheduled, stored
from tests.support.log import running_store
from tests.support.read_model import project, reset_log
from tests.support.timed_logs import Row, logs, write

WINDOW = 4


def tally_of(database: Database, max_tail_events: int = 1000) -> QueueTally:
    return QueueTally(database, MAPPER, window_positions=WINDOW, max_tail_events=max_tail_events)


async def sum_up(database: Database) -> None:
    await project(database)
    await HistorySummary(database, MAPPER, window_positions=WINDOW).run_until_done()


def minute_of(time: datetime) -> datetime:
    return time.replace(second=0, microsecond=0)


async def expected_minutes(database: Database, rows: Sequence[Row]) -> dict[datetime, MinuteSums]:
    """The change of the totals in each minute; an event counts in the latest minute so far."""
    history = QueueHistory(database, MAPPER, window_positions=WINDOW)
    latest = datetime.min.replace(tzinfo=UTC)
    ends: dict[datetime, int] = {}
    for row in rows:
        latest = max(latest, row.recorded_at)
        ends[minute_of(latest)] = row.position
    found = {}
    before = await history.totals(0)
    for minute, position in ends.items():
        after = await history.totals(position)
        change = after.minus(before)
        accepted = change.pending + change.completed + change.failed + change.cancelled
        sums = MinuteSums(
            minute,
            accepted,
            change.completed,
            change.released_quantity,
            change.expired_quantity,
        )
        found[minute], before = sums, after
    return found


@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    rows=logs(steps=(0, 1, 20, 70, 400, -90)),
    steps=st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=4),
)
async def test_the_tally_is_the_fold_of_the_log_however_it_is_read(
    database: Database, rows: list[Row], steps: list[tuple[float, bool]]
) -> None:
    await reset_log(database)
    shift = datetime.now(UTC) - max(row.recorded_at for row in rows) - timedelta(seconds=2)
    rows = [row._replace(recorded_at=row.recorded_at + shift) for row in rows]
    kept, written = tally_of(database), 0
    for share, summed in [*sorted(steps), (1.0, True)]:
        until = max(written, int(len(rows) * share))
        if until > written:
            await write(database, rows[written:until])
            written = until
        if written and summed:
            await sum_up(database)
        tally = await kept.read()
    expected = await expected_minutes(database, rows)
    for each in (tally, await tally_of(database).read()):
        assert each.position == rows[-1].position
        assert each.events_behind == 0
        assert each.totals == await QueueHistory(database, MAPPER, window_positions=WINDOW).totals(
            each.position
        )
        assert len(each.minutes) == MINUTES
        assert each.minutes[-1].minute == minute_of(each.now)
        for minute in each.minutes:
            assert minute == expected.get(minute.minute, MinuteSums(minute.minute))


async def test_a_tail_that_is_too_long_is_counted_once_its_windows_are_summed_up(
    database: Database,
) -> None:
    async with running_store(database) as store:
        await store.append_stored(stored([order_created() for _ in range(10)]))
    tally = tally_of(database, max_tail_events=2)
    behind = await tally.read()
    assert (behind.position, behind.events_behind) == (0, 10)
    await sum_up(database)
    counted = await tally.read()
    assert (counted.position, counted.events_behind) == (10, 0)
    assert counted.totals.pending == 10
    assert sum(minute.accepted for minute in counted.minutes) == 10


async def test_after_a_restore_to_an_earlier_point_the_log_is_counted_again(
    database: Database,
) -> None:
    created = [order_created() for _ in range(3)]
    async with running_store(database) as store:
        await store.append_stored(stored([*created, slices_scheduled(created[0])]))
    tally = tally_of(database)
    assert (await tally.read()).totals.completed == 1
    async with await psycopg.AsyncConnection.connect(as_superuser(database.conninfo)) as owner:
        await owner.execute("SET session_replication_role = replica")
        await owner.execute("DELETE FROM stored_events WHERE notification_id > 2")
    restored = await tally.read()
    assert restored.position == 2
    assert (restored.totals.pending, restored.totals.completed) == (2, 0)


async def test_concurrent_callers_share_a_step(database: Database) -> None:
    tally = tally_of(database)
    found = await asyncio.gather(*(tally.read() for _ in range(3)))
    assert all(each is found[0] for each in found)
