"""Clients of Pulse: callers that place orders and retry, and a reader of the log."""

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pulse.application.callers import Caller
from pulse.application.orders import Placed
from pulse.domain import OrderSpec, OrderUniqueKeyTaken, Slice, SplitConfigRequest, Trace
from pulse.errors import PulseError
from pulse.eventstore import LogPage
from pulse.postgres import DatabaseUnavailable
from pulse.projections.order_view import OrderView
from tests.simulation.invariants import require

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

_TRACE = Trace(trace_id="t1", trace_source="caller", request_id="r1", request_source="caller")
_CALLER = Caller()
_TIMEOUT_SECONDS = 1.5
_READS = 2
_READING_SECONDS = 0.2


def requested(key: str, quantity: int, minutes: int) -> OrderSpec:
    """A request for an order."""
    return OrderSpec(
        order_unique_key=key,
        instrument="NSE:RELIANCE",
        side="BUY",
        total_quantity=quantity,
        split_config=SplitConfigRequest(3, minutes, quantity % 2 == 0),
    )


class RetryingCaller:
    """Places one order, and retries with the same key until the answer is definite."""

    def __init__(self, world: "World", name: str, order: OrderSpec, at: float) -> None:
        self.answer: Placed | OrderUniqueKeyTaken | None = None
        self.order = order
        self._name = name
        self._world = world
        self._attempt: object = None
        world.at(at, self._send)

    def _send(self) -> None:
        process = self._world.any_process()
        if process is None:
            self._world.after(0.1, self._send)
            return
        attempt = self._attempt = object()
        self._world.after(_TIMEOUT_SECONDS, lambda: self._on_timeout(attempt))
        self._world.note(self._name, "place", f"{self.order.order_unique_key} at {process.name}")
        process.loop.deliver(lambda: self._start(process, attempt))

    def _start(self, process: "Process", attempt: object) -> None:
        task = process.loop.create_task(process.orders.place(self.order, _CALLER, _TRACE))
        task.add_done_callback(lambda done: self._on_done(done, attempt))

    def _on_timeout(self, attempt: object) -> None:
        if self._attempt is attempt:
            self._send()

    def _on_done(self, done: "asyncio.Task[Placed]", attempt: object) -> None:
        if self._attempt is not attempt or self.answer is not None:
            _ = done.cancelled() or done.exception()
            return
        try:
            self.answer = done.result()
        except OrderUniqueKeyTaken as taken:
            self.answer = taken
        except PulseError as error:
            self._world.note(self._name, "place", f"fails: {error}")
            self._attempt = None
            self._world.after(self._world.random.random() * 0.2, self._send)
            return
        self._attempt = None
        self._world.note(self._name, "place", f"answered: {self.answer!r}")
        self._check()

    def _check(self) -> None:
        """Check the answer against the log."""
        orders = self._world.invariants.orders
        answer = self.answer
        if isinstance(answer, Placed):
            stored = orders.get(answer.order_id)
            require(stored is not None, f"{self._name} got {answer}, which is not stored")
            same = stored is not None and stored.spec == self.order
            require(same, f"{self._name} was answered with another order: {stored}")
            if answer.created:
                self._world.acknowledge(self.order.order_unique_key, self._name)
            OrderReader(self._world, answer.order_id)
        elif answer is not None:
            stored = orders.get(answer.existing_order_id)
            other = stored is not None and stored.spec != self.order
            require(other, f"{self._name} was refused because of its own order: {stored}")


class OrderReader:
    """Reads an accepted order several times: it exists, and its version never goes back."""

    def __init__(self, world: "World", order_id: UUID) -> None:
        self._world = world
        self._order_id = order_id
        self._version = 1
        for _ in range(_READS):
            world.after(world.random.random() * _READING_SECONDS, self._send)

    def _send(self) -> None:
        process = self._world.any_process()
        if process is not None:
            process.loop.deliver(lambda: self._start(process, self._version))

    def _start(self, process: "Process", least: int) -> None:
        task = process.loop.create_task(process.orders.order(self._order_id, _CALLER))
        task.add_done_callback(lambda done: self._on_done(done, least))

    def _on_done(self, done: "asyncio.Task[OrderView]", least: int) -> None:
        try:
            view = done.result()
        except DatabaseUnavailable:
            return
        require(view.version >= least, f"{self._order_id} went back to version {view.version}")
        self._version = max(self._version, view.version)
        stored = self._world.invariants.orders[self._order_id]
        has_outcome = view.version > 1
        require(
            has_outcome == (view.order_queue_status not in {"PENDING", "IN_PROGRESS"}),
            f"inconsistent view: {view}",
        )
        slices = tuple(Slice(s.sequence_number, s.quantity, s.scheduled_at) for s in view.slices)
        require(not has_outcome or slices == stored.slices, f"wrong slices: {view}")


class LogReader:
    """Reads the log from a checkpoint; it must see each event once, in order."""

    def __init__(self, world: "World") -> None:
        self.after = 0
        self.seen: list[int] = []
        self._world = world
        self._attempt: object = None
        world.at(0.05, self._send)

    def _send(self) -> None:
        process = self._world.any_process()
        attempt = self._attempt = object()
        self._world.after(_TIMEOUT_SECONDS, lambda: self._on_timeout(attempt))
        if process is not None:
            process.loop.deliver(lambda: self._start(process, attempt))

    def _start(self, process: "Process", attempt: object) -> None:
        limit = self._world.random.choice((1, 2, 100))
        reading = process.store.read_log_page(after=self.after, limit=limit)
        process.loop.create_task(reading).add_done_callback(
            lambda done: self._on_done(done, attempt)
        )

    def _on_timeout(self, attempt: object) -> None:
        if self._attempt is attempt:
            self._send()

    def _on_done(self, done: "asyncio.Task[LogPage]", attempt: object) -> None:
        if self._attempt is not attempt:
            _ = done.cancelled() or done.exception()
            return
        self._attempt = None
        self._world.after(0.05 + self._world.random.random() * 0.3, self._send)
        try:
            page: Any = done.result()
        except PulseError:
            return
        positions = [record.position for record in page.records]
        require(positions == sorted(set(positions)), f"a page is out of order: {positions}")
        require(not positions or positions[0] > self.after, f"{positions} after {self.after}")
        self.seen += positions
        self.after = page.next_after
