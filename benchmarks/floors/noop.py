"""Pulse's own API without a database: it takes, checks and encodes an order, and stores nothing.

    PULSE_PORT=8001 python -m benchmarks.floors.noop [ANSWERS]

Reads are answered with what ANSWERS (of a real Pulse) holds, encoded anew each time: what is left
is the way through the framework.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import msgspec

from pulse.application.event_view import EventView
from pulse.application.in_process import InProcessOrders
from pulse.application.origin import Origin, system_clock
from pulse.application.readiness import Readiness
from pulse.cli.server import serve
from pulse.domain import Event
from pulse.eventstore import AppendResult, EventMapper, EventStore
from pulse.http.api.app import create_api
from pulse.http.auth import InternalAuthMiddleware
from pulse.http.root import Mounts, Root
from pulse.process.apps import limits_of
from pulse.process.startup import tune_gc
from pulse.projections.lists import OrderPage
from pulse.projections.order_view import OrderView
from pulse.settings import Settings


class Answers(msgspec.Struct, frozen=True):
    """What is read."""

    order: OrderView
    history: tuple[EventView, ...]
    page: tuple[OrderView, ...]


class StoresNothing:
    """An event store whose appends end with the event's stored form."""

    def __init__(self) -> None:
        self.mapper = EventMapper()

    async def append(self, event: Event) -> int:
        """As if it stood; others get their turn, as while a commit is waited for."""
        self.mapper.to_stored_event(event)
        await asyncio.sleep(0)
        return 1

    async def append_each(self, events: Sequence[Event]) -> list[AppendResult]:
        """The same for many."""
        for event in events:
            self.mapper.to_stored_event(event)
        await asyncio.sleep(0)
        return [(1,)] * len(events)


class AnswersAtHand(InProcessOrders):
    """Pulse's use cases, those that read answered with what is at hand."""

    def __init__(self, answers: Answers | None) -> None:
        store, reader = cast("EventStore", StoresNothing()), cast("Any", None)
        super().__init__(store, reader, system_clock, Origin.of_this_process())
        self._answers = cast("Answers", answers)

    async def order(self, _order_id: UUID, *_: object) -> OrderView:
        """The one order."""
        return self._answers.order

    async def history(self, _order_id: UUID) -> tuple[EventView, ...]:
        """Its history."""
        return self._answers.history

    async def orders(self, _query: object) -> OrderPage:
        """The one page."""
        return OrderPage(self._answers.page, as_of_position=1, next_before=1)


@asynccontextmanager
async def _world() -> AsyncIterator[Mounts]:
    answers = Path(sys.argv[1]).read_bytes() if len(sys.argv) > 1 else None  # noqa: ASYNC240
    orders = AnswersAtHand(msgspec.json.decode(answers, type=Answers) if answers else None)
    readiness = cast("Readiness", None)
    api = InternalAuthMiddleware(create_api(orders, readiness), ())
    tune_gc()
    yield {"": api}


def main() -> None:
    """Serve like `pulse api`."""
    settings = Settings.from_environment(os.environ)
    serve(Root(_world, limits_of(settings)), settings, "no-op")


if __name__ == "__main__":
    main()
