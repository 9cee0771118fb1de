"""An order and the queue as of a position, version or time: the fold of the log up to there."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pulse.application.callers import Caller
from pulse.application.orders import OrderNotFound
from pulse.application.past import AsOfQuery, Past, TimeInFuture, VersionBeyondStream
from pulse.domain import HALTS_STREAM_ID, Event, Order, evolve
from pulse.eventstore import EventStore, EventTooNew, PositionBeyondLog
from pulse.postgres import Database
from pulse.projections import queue_history
from pulse.projections.order_view import AsOf, OrderReader, view_of
from pulse.projections.queue_history import HistorySummary, QueueHistory, QueueTotals
from pulse.projections.rebuild import Rebuild
from tests.support.events import (
    MAPPER,
    foreign_event,
    order_cancelled,
    order_created,
    slices_released,
    slices_scheduled,
    splitting_failed,
    stored,
    timed_out,
)
from tests.support.log import fetch, running_store
from tests.support.read_model import project, reset_log
from tests.support.timed_logs import START, Row, logs, write

WINDOW = 4
INTERNAL = Caller()


def past_of(database: Database) -> Past:
    store = EventStore(database, on_commit=lambda: None)
    history = QueueHistory(database, MAPPER, window_positions=WINDOW)
    return Past(store, OrderReader(database, MAPPER), history)


async def sum_up(database: Database) -> None:
    await HistorySummary(database, MAPPER, window_positions=WINDOW).run_until_done()


def totals_of(orders: dict[UUID, Order]) -> QueueTotals:
    states = Counter(order.state for order in orders.values())
    sums = Counter[str]()
    for order in orders.values():
        sums.update(msgspec.structs.asdict(order.quantities))
    return QueueTotals(
        states["PENDING"],
        states["COMPLETED"],
        states["FAILED"],
        states["CANCELLED"],
        sums["remaining"],
        sums["released"],
        sums["cancelled"],
        sums["expired"],
    )


async def queue_at(past: Past, as_of: AsOfQuery) -> tuple[int, QueueTotals]:
    found = await past.queue(as_of)
    counts = msgspec.structs.astuple(found.counts)
    return found.as_of_position, QueueTotals(*counts, *msgspec.structs.astuple(found.quantities))


@settings(
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rows=logs(), projected=st.floats(0, 1), summed=st.sampled_from(("summed up", "")))
async def test_every_answer_is_the_fold_of_the_log_up_to_its_position(
    database: Database, rows: list[Row], projected: float, summed: str
) -> None:
    await reset_log(database)
    whole = int(len(rows) * projected)
    if whole:
        await write(database, rows[:whole])
        await project(database)
        if summed:
            await sum_up(database)
    if rows[whole:]:
        await write(database, rows[whole:])
    past = past_of(database)
    orders: dict[UUID, Order] = {}
    latest: dict[UUID, int] = {}
    runmax = START - timedelta(days=1)
    before = 0
    last_at: dict[datetime, int] = {}
    with pytest.raises(OrderNotFound):
        await past.order(order_ids(rows)[0], AsOfQuery(position=0), INTERNAL)
    assert await queue_at(past, AsOfQuery(position=0)) == (0, QueueTotals())
    for row in rows:
        runmax = max(runmax, row.recorded_at)
        last_at[runmax] = row.position
        if row.event is not None and row.event.originator_id != HALTS_STREAM_ID:
            order_id = row.event.originator_id
            orders[order_id] = evolve(orders.get(order_id), row.event)
            latest[order_id] = row.position
            order, version = orders[order_id], row.event.originator_version
            expected = msgspec.structs.replace(
                view_of(order, row.position), as_of=AsOf(row.position, runmax)
            )
            assert await past.order(order_id, AsOfQuery(version=version), INTERNAL) == expected
        for order_id in order_ids(rows):
            as_of = AsOfQuery(position=row.position)
            if order_id not in orders:
                with pytest.raises(OrderNotFound):
                    await past.order(order_id, as_of, INTERNAL)
                continue
            expected = msgspec.structs.replace(
                view_of(orders[order_id], latest[order_id]), as_of=AsOf(row.position, runmax)
            )
            assert await past.order(order_id, as_of, INTERNAL) == expected
        expected_queue = (row.position, totals_of(orders))
        assert await queue_at(past, AsOfQuery(position=row.position)) == expected_queue
        if row.position - before > 1 and before:  # a position in a gap is as of the event before it
            assert (await queue_at(past, AsOfQuery(position=row.position - 1)))[0] == before
        before = row.position
    for at, position in last_at.items():
        assert (await queue_at(past, AsOfQuery(at=at)))[0] == position
    first = rows[0].recorded_at
    just_before = AsOfQuery(at=first - timedelta(microseconds=1))
    assert await queue_at(past, just_before) == (0, QueueTotals())
    with pytest.raises(OrderNotFound):
        await past.order(order_ids(rows)[0], just_before, INTERNAL)
    assert (await queue_at(past, AsOfQuery()))[0] == rows[-1].position


def order_ids(rows: Sequence[Row]) -> list[UUID]:
    found = [row.event.originator_id for row in rows if row.event is not None]
    return [i for i in dict.fromkeys(found) if i != HALTS_STREAM_ID]


async def test_a_version_position_or_time_that_does_not_exist_is_refused(
    database: Database,
) -> None:
    created = order_created()
    async with running_store(database) as store:
        await store.append_stored(stored([created, slices_scheduled(created)]))
    past, order_id = past_of(database), created.originator_id
    with pytest.raises(PositionBeyondLog):
        await past.order(order_id, AsOfQuery(position=3), INTERNAL)
    with pytest.raises(PositionBeyondLog):
        await past.queue(AsOfQuery(position=3))
    tomorrow = AsOfQuery(at=datetime.now(UTC) + timedelta(days=1))
    with pytest.raises(TimeInFuture):
        await past.order(order_id, tomorrow, INTERNAL)
    with pytest.raises(TimeInFuture):
        await past.queue(tomorrow)
    with pytest.raises(VersionBeyondStream) as caught:
        await past.order(order_id, AsOfQuery(version=3), INTERNAL)
    assert caught.value.version == 2
    for as_of in (AsOfQuery(version=1), AsOfQuery(position=2)):
        with pytest.raises(OrderNotFound):
            await past.order(UUID(int=7), as_of, INTERNAL)
        with pytest.raises(OrderNotFound):
            await past.order(HALTS_STREAM_ID, as_of, INTERNAL)
        with pytest.raises(OrderNotFound):
            await past.order(order_id, as_of, Caller.named("issuer|someone"))


async def test_a_version_that_another_program_wrote_does_not_change_the_order(
    database: Database,
) -> None:
    created = order_created()
    foreign = foreign_event(created.originator_id, 2)
    async with running_store(database) as store:
        await store.append_stored([*stored([created]), foreign])
    order = await past_of(database).order(created.originator_id, AsOfQuery(version=2), INTERNAL)
    assert (order.version, order.position) == (1, 2)


async def test_an_order_is_never_in_progress_in_the_past(database: Database) -> None:
    created = order_created()
    async with running_store(database) as store:
        await store.append_stored(stored([created]))
    await project(database)
    await fetch(
        database,
        "UPDATE pending_orders SET claimed_by = 'w', claimed_at = now(), first_claimed_at = now()",
    )
    reader = OrderReader(database, MAPPER)
    now = await reader.view(created.originator_id)
    assert now is not None
    assert now.order_queue_status == "IN_PROGRESS"
    then = await past_of(database).order(created.originator_id, AsOfQuery(version=1), INTERNAL)
    assert (then.order_queue_status, then.claimed_by, then.claimed_at) == ("PENDING", None, None)


async def test_a_parked_order_counts_as_before_the_event_that_parked_it(
    database: Database,
) -> None:
    good, bad = order_created(), order_created()
    released = slices_released(bad, slices_scheduled(bad))
    broken = msgspec.structs.replace(released, originator_version=5)  # it leaves a gap
    failed = order_created()
    log: list[Event] = [good, bad, slices_scheduled(bad), broken, failed, timed_out(failed)]
    async with running_store(database) as store:
        await store.append_stored(stored(log))
        again = msgspec.structs.replace(splitting_failed(failed), originator_version=3)
        await store.append_stored(stored([again, order_cancelled(good)]))
    await project(database)
    assert len(await fetch(database, "SELECT order_id FROM parked_orders")) == 2
    for _ in range(2):
        assert await queue_at(past_of(database), AsOfQuery()) == (
            8,
            QueueTotals(0, 1, 1, 1, 100, 0, 100, 100),
        )
        assert (await queue_at(past_of(database), AsOfQuery(position=3)))[1].pending == 1
        await sum_up(database)


async def test_a_rebuild_leaves_the_past_as_it_is(database: Database) -> None:
    created = [order_created() for _ in range(6)]
    async with running_store(database) as store:
        await store.append_stored(stored(created))
        await store.append_stored(stored([slices_scheduled(one) for one in created[:4]]))
    await project(database)
    await sum_up(database)
    before = [await queue_at(past_of(database), AsOfQuery(position=p)) for p in range(11)]
    await Rebuild(database, MAPPER, lambda *_: None).run()
    assert [await queue_at(past_of(database), AsOfQuery(position=p)) for p in range(11)] == before
    rows = await fetch(database, "SELECT until_position FROM queue_history ORDER BY 1")
    assert rows == [(4,), (8,)]


async def test_one_process_at_a_time_sums_up_windows(database: Database) -> None:
    async with running_store(database) as store:
        await store.append_stored(stored([order_created() for _ in range(4)]))
    summary = HistorySummary(database, MAPPER, window_positions=WINDOW)
    assert await summary.run_once() is None, "the projection has not passed the window"
    await project(database)
    async with await database.connect("test") as other, other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock(%s)", (queue_history.HISTORY_LOCK,))
        assert await summary.run_once() is None
    summed = await summary.run_once()
    assert summed is not None
    assert summed.until == 4
    assert summed.windows_behind == 0
    assert summary.pause_after(summed) == 19 * summed.seconds
    far_behind = msgspec.structs.replace(summed, windows_behind=33)
    assert summary.pause_after(far_behind) == 4 * summed.seconds
    assert await summary.run_once() is None
    assert summary.pause_after(None) is None


async def test_events_of_newer_code_are_left_to_newer_code(database: Database) -> None:
    (created,) = stored([order_created()])
    too_new = created.state.replace(b'"class_version":3', b'"class_version":9')
    async with running_store(database) as store:
        await store.append_stored([replace(created, state=too_new)])
        with pytest.raises(EventTooNew):
            await past_of(database).queue(AsOfQuery())
    await reset_log(database)
    async with running_store(database) as store:
        await store.append_stored([replace(foreign_event(), topic="pulse.domain:OrderAmended")])
    with pytest.raises(EventTooNew):
        await past_of(database).queue(AsOfQuery())


async def test_a_queue_is_refused_if_too_many_events_follow_the_last_summary(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_history, "MAX_FOLDED_EVENTS", 4096)
    monkeypatch.setattr(queue_history, "EVENTS_PER_READ", 1024)
    async with running_store(database) as store:
        await store.append_stored([foreign_event() for _ in range(4097)])
    with pytest.raises(queue_history.HistoryIncomplete):
        await past_of(database).queue(AsOfQuery())
    monkeypatch.setattr(queue_history, "MAX_SCANNED_POSITIONS", 4096)
    for as_of in (AsOfQuery(position=4097), AsOfQuery(at=START)):
        with pytest.raises(queue_history.HistoryIncomplete):
            await past_of(database).queue(as_of)
    await project(database)
    await HistorySummary(database, MAPPER).run_until_done()
    store, reader = EventStore(database, on_commit=lambda: None), OrderReader(database, MAPPER)
    whole = Past(store, reader, QueueHistory(database, MAPPER))
    assert (await whole.queue(AsOfQuery())).as_of_position == 4097
