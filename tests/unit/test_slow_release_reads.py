"""A releaser decides as of its read. What may have expired during the read is not released."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

from eventsourcing.persistence import StoredEvent

from pulse.application.origin import Origin
from pulse.domain import DueOrder, Slice, SlicesExpired, SlicesReleased
from pulse.eventstore import EventMapper, EventStore
from pulse.postgres import Database
from pulse.projections.due_orders import DueOrders
from pulse.workers.releases import Releaser, ReleaseResult, ReleaseStep

_NOW = datetime(2026, 3, 2, 9, 15, tzinfo=UTC)


class _Database:
    """Answers the read of due orders: one order with one slice, due `late_by` before the read."""

    def __init__(self, late_by: timedelta) -> None:
        order = DueOrder(
            order_id=uuid4(),
            version=2,
            order_unique_key="key",
            instrument="NSE:TCS",
            side="BUY",
            trace_id="t1",
            unsettled=(Slice(sequence_number=1, quantity=100, scheduled_at=_NOW - late_by),),
        )
        self._due = DueOrders(_NOW, (order,), (1,), 0.5, {})

    async def read(self, _: Callable[..., Any]) -> DueOrders:
        return self._due


class _Appender:
    """Accepts every append."""

    def __init__(self) -> None:
        self.topics: list[str] = []

    async def append_each(self, events: Sequence[StoredEvent]) -> list[Any]:
        self.topics += [event.topic for event in events]
        return [(1,) for _ in events]


class _Store:
    """The parts of an event store that a releaser uses."""

    def __init__(self) -> None:
        self.mapper = EventMapper()
        self.appender = _Appender()


def _step(late_by: timedelta, *, read_seconds: float) -> tuple[_Store, Releaser, ReleaseStep]:
    store, times = _Store(), iter((0.0, read_seconds))
    releaser = Releaser(
        cast("Database", _Database(late_by)),
        cast("EventStore", store),
        Origin.of_this_process(),
        max_delay_seconds=60,
        monotonic=lambda: next(times),
    )
    return store, releaser, asyncio.run(releaser.run_once())


def test_after_a_quick_read_due_slices_are_released() -> None:
    store, _, step = _step(timedelta(seconds=1), read_seconds=58.9)
    assert store.appender.topics == [SlicesReleased.TOPIC]
    assert step.results == {ReleaseResult.RELEASED: 1}


def test_after_a_read_in_which_a_slice_may_have_expired_it_is_not_released() -> None:
    store, releaser, step = _step(timedelta(seconds=1), read_seconds=59)
    assert store.appender.topics == []
    assert step.results == {ReleaseResult.NOT_WRITTEN: 1}
    assert releaser.pause_after(step) == 0.1


def test_after_a_slow_read_late_slices_still_expire() -> None:
    store, _, step = _step(timedelta(seconds=61), read_seconds=3600)
    assert store.appender.topics == [SlicesExpired.TOPIC]
    assert step.results == {ReleaseResult.EXPIRED: 1}
