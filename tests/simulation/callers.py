"""Those outside: callers who place orders and ask again, and a reader of the log."""

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pulse.application.callers import Caller
from pulse.application.orders import Placed
from pulse.domain import OrderSpec, OrderUniqueKeyTaken, SplitConfigRequest, Trace
from pulse.errors import PulseError
from pulse.eventstore import LogPage
from pulse.postgres import DatabaseUnavailable
from pulse.projections.order_view import OrderView
from tests.simulation.invariants import require

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

_TRACE = Trace(trace_id="t1", trace_source="caller", request_id="r1", request_source="caller")
_ANYONE = Caller()
_PATIENCE_SECONDS = 1.5
_READS = 2
_READING_SECONDS = 0.2


def requested(key: str, quantity: int, minutes: int) -> OrderSpec:
    """An order of so many shares."""
    return OrderSpec(
        order_unique_key=key,
        instrument="NSE:RELIANCE",
        side="BUY",
        total_quantity=quantity,
        split_config=SplitConfigRequest(3, minutes, quantity % 2 == 0),
    )


class PersistentCaller:
    """Places one order, and asks again with the same key until it is told something certain."""

    def __init__(self, world: "World", name: str, order: OrderSpec, at: float) -> None:
        self.told: Placed | OrderUniqueKeyTaken | None = None
        self.order = order
        self._name = name
        self._world = world
        self._asking: object = None
        world.at(at, self._ask)

    def _ask(self) -> None:
        process = self._world.any_process()
        if process is None:
            self._world.after(0.1, self._ask)
            return
        asking = self._asking = object()
        self._world.after(_PATIENCE_SECONDS, lambda: self._give_up(asking))
        self._world.note(self._name, "place", f"{self.order.order_unique_key} at {process.name}")
        process.loop.deliver(lambda: self._begin(process, asking))

    def _begin(self, process: "Process", asking: object) -> None:
        task = process.loop.create_task(process.orders.place(self.order, _ANYONE, _TRACE))
        task.add_done_callback(lambda done: self._heard(done, asking))

    def _give_up(self, asking: object) -> None:
        if self._asking is asking:
            self._ask()

    def _heard(self, done: "asyncio.Task[Placed]", asking: object) -> None:
        if self._asking is not asking or self.told is not None:
            _ = done.cancelled() or done.exception()
            return
        try:
            self.told = done.result()
        except OrderUniqueKeyTaken as taken:
            self.told = taken
        except PulseError as error:
            self._world.note(self._name, "place", f"is answered: {error}")
            self._asking = None
            self._world.after(self._world.random.random() * 0.2, self._ask)
            return
        self._asking = None
        self._world.note(self._name, "place", f"is answered: {self.told!r}")
        self._check()

    def _check(self) -> None:
        """What was said is so, and was so when it was said."""
        orders = self._world.invariants.orders
        told = self.told
        if isinstance(told, Placed):
            stands = orders.get(told.order_id)
            require(stands is not None, f"{self._name} was told of {told}, which is not stored")
            same = stands is not None and stands.spec == self.order
            require(same, f"{self._name} was answered with another order: {stands}")
            if told.created:
                self._world.acknowledge(self.order.order_unique_key, self._name)
            OrderReader(self._world, told.order_id)
        elif told is not None:
            stands = orders.get(told.existing_order_id)
            other = stands is not None and stands.spec != self.order
            require(other, f"{self._name} was refused for what is its own: {stands}")


class OrderReader:
    """Asks for an accepted order now and then: it is there, and never older than it was."""

    def __init__(self, world: "World", order_id: UUID) -> None:
        self._world = world
        self._order_id = order_id
        self._version = 1
        for _ in range(_READS):
            world.after(world.random.random() * _READING_SECONDS, self._ask)

    def _ask(self) -> None:
        process = self._world.any_process()
        if process is not None:
            process.loop.deliver(lambda: self._begin(process, self._version))

    def _begin(self, process: "Process", least: int) -> None:
        task = process.loop.create_task(process.orders.order(self._order_id, _ANYONE))
        task.add_done_callback(lambda done: self._heard(done, least))

    def _heard(self, done: "asyncio.Task[OrderView]", least: int) -> None:
        try:
            view = done.result()
        except DatabaseUnavailable:
            return
        require(view.version >= least, f"{self._order_id} fell back to version {view.version}")
        self._version = max(self._version, view.version)
        stands = self._world.invariants.orders[self._order_id]
        settled = view.version > 1
        require(settled == (view.order_queue_status in {"COMPLETED", "FAILED"}), f"torn: {view}")
        require(not settled or view.slices == stands.slices, f"other slices: {view}")


class LogReader:
    """Reads the log from a checkpoint on, and must see each event once, in order."""

    def __init__(self, world: "World") -> None:
        self.after = 0
        self.seen: list[int] = []
        self._world = world
        self._asking: object = None
        world.at(0.05, self._ask)

    def _ask(self) -> None:
        process = self._world.any_process()
        asking = self._asking = object()
        self._world.after(_PATIENCE_SECONDS, lambda: self._give_up(asking))
        if process is not None:
            process.loop.deliver(lambda: self._begin(process, asking))

    def _begin(self, process: "Process", asking: object) -> None:
        limit = self._world.random.choice((1, 2, 100))
        reading = process.store.read_log_page(after=self.after, limit=limit)
        process.loop.create_task(reading).add_done_callback(lambda done: self._heard(done, asking))

    def _give_up(self, asking: object) -> None:
        if self._asking is asking:
            self._ask()

    def _heard(self, done: "asyncio.Task[LogPage]", asking: object) -> None:
        if self._asking is not asking:
            _ = done.cancelled() or done.exception()
            return
        self._asking = None
        self._world.after(0.05 + self._world.random.random() * 0.3, self._ask)
        try:
            page: Any = done.result()
        except PulseError:
            return
        positions = [record.position for record in page.records]
        require(positions == sorted(set(positions)), f"a page is out of order: {positions}")
        require(not positions or positions[0] > self.after, f"{positions} after {self.after}")
        self.seen += positions
        self.after = page.next_after
