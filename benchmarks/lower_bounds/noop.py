"""Pulse's API without a database: it validates and encodes orders, but stores nothing.

    PULSE_PORT=8001 python -m benchmarks.lower_bounds.noop [ANSWERS]

Reads are answered with the content of ANSWERS (from a real Pulse), encoded for each request. So
its cost is that of the framework.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import msgspec

from pulse.application.event_feed import EventFeed
from pulse.application.event_view import EventView
from pulse.application.halts import ReleaseHalts
from pulse.application.in_process import InProcessOrders
from pulse.application.origin import Origin, system_clock
from pulse.application.past import Past
from pulse.application.readiness import Readiness
from pulse.cli.server import serve
from pulse.domain import Event
from pulse.eventstore import AppendResult, EventMapper, EventStore
from pulse.evidence.tree import SealedLog
from pulse.http.api.app import ApiUseCases, create_api
from pulse.http.auth import InternalAuthMiddleware
from pulse.http.root import Mounts, Root
from pulse.process.apps import limits_of
from pulse.process.startup import tune_gc
from pulse.projections.lists import OrderPage
from pulse.projections.order_view import OrderReader, OrderView
from pulse.settings import Settings


class Answers(msgspec.Struct, frozen=True):
    """The answers to reads."""

    order: OrderView
    history: tuple[EventView, ...]
    page: tuple[OrderView, ...]


class NoopStore:
    """An event store that encodes events but does not store them."""

    def __init__(self) -> None:
        self.mapper = EventMapper()

    async def append(self, event: Event) -> int:
        """Encode the event and yield to other tasks, as an append that waits for a commit."""
        self.mapper.to_stored_event(event)
        await asyncio.sleep(0)
        return 1

    async def append_each(self, events: Sequence[Event]) -> list[AppendResult]:
        """Encode several events and yield to other tasks."""
        for event in events:
            self.mapper.to_stored_event(event)
        await asyncio.sleep(0)
        return [(1,)] * len(events)

    async def end(self) -> int:
        """The position of the last event: so low that no read waits for it."""
        return 1


class NoopOrders(InProcessOrders):
    """Pulse's use cases; reads return the given answers."""

    def __init__(self, answers: Answers | None) -> None:
        store = cast("EventStore", NoopStore())
        reader = cast("OrderReader", SimpleNamespace(database=None))
        super().__init__(store, reader, system_clock, Origin.of_this_process())
        self._answers = cast("Answers", answers)

    async def order(self, _order_id: UUID, *_: object) -> OrderView:
        """The given order."""
        return self._answers.order

    async def history(self, _order_id: UUID, *_: object) -> tuple[EventView, ...]:
        """The given history."""
        return self._answers.history

    async def orders(self, _query: object) -> OrderPage:
        """The given page."""
        return OrderPage(self._answers.page, as_of_position=1, next_before=1)


@asynccontextmanager
async def _mounts() -> AsyncIterator[Mounts]:
    answers = Path(sys.argv[1]).read_bytes() if len(sys.argv) > 1 else None  # noqa: ASYNC240
    orders = NoopOrders(msgspec.json.decode(answers, type=Answers) if answers else None)
    readiness = cast("Readiness", None)
    feed = cast("EventFeed", None)
    past = cast("Past", None)
    halts = cast("ReleaseHalts", None)
    sealed_log = cast("SealedLog", None)
    api = InternalAuthMiddleware(
        create_api(ApiUseCases(orders, past, halts, feed, sealed_log, readiness)), ()
    )
    tune_gc()
    yield {"": api}


def main() -> None:
    """Serve as `pulse api` does."""
    settings = Settings.from_environment(os.environ)
    serve(Root(_mounts, limits_of(settings)), settings, "no-op")


if __name__ == "__main__":
    main()
