"""Clocks: a process that is off by too much says so and takes no orders."""

from datetime import UTC, datetime, timedelta

import pytest

from pulse.application import Caller, ClockOff, ClockWatch, InProcessOrders, Origin
from pulse.domain import OrderRequest, Trace, parse_order_request
from pulse.eventstore import EventStore
from pulse.postgres import Database
from pulse.projections import OrderReader

MOST_SECONDS = 1.0


def watch(database: Database, *, off_by: float) -> ClockWatch:
    return ClockWatch(
        database,
        lambda: datetime.now(UTC) + timedelta(seconds=off_by),
        most_seconds=MOST_SECONDS,
    )


async def test_a_right_clock_has_no_fault(database: Database) -> None:
    clock_watch = watch(database, off_by=0)
    offset = await clock_watch.run_once()
    assert abs(offset) < MOST_SECONDS
    assert clock_watch.fault is None


@pytest.mark.parametrize(("off_by", "direction"), [(300, "ahead of"), (-300, "behind")])
async def test_a_wrong_clock_is_named_with_its_offset(
    database: Database, off_by: float, direction: str
) -> None:
    clock_watch = watch(database, off_by=off_by)
    assert await clock_watch.run_once() == pytest.approx(off_by, abs=0.5)
    assert clock_watch.fault is not None
    assert direction in clock_watch.fault


async def test_an_unmeasured_clock_is_not_trusted(database: Database) -> None:
    assert watch(database, off_by=0).fault is not None


async def test_a_process_with_a_wrong_clock_takes_no_order(database: Database) -> None:
    clock_watch = watch(database, off_by=300)
    await clock_watch.run_once()
    store = EventStore(database, on_commit=lambda: None)
    orders = InProcessOrders(
        store,
        OrderReader(database, store.mapper),
        lambda: datetime.now(UTC),
        Origin("test"),
        clock_watch,
    )
    requested = parse_order_request(
        OrderRequest(
            order_unique_key="k",
            instrument="NSE:TCS",
            side="BUY",
            total_quantity=10,
            split_config={"num_splits": 2, "duration_minutes": 1},
        )
    )
    trace = Trace(trace_id="t", trace_source="s", request_id="r", request_source="s")

    with pytest.raises(ClockOff, match="300"):
        await orders.place(requested, Caller(), trace)

    assert await store.read_log(after=0, limit=10) == []
