"""Clients of Pulse: callers that place and cancel orders and retry, and a reader of the log."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pulse.application.callers import Caller
from pulse.application.halts import HaltLifted, HaltRequest, HaltSet
from pulse.application.orders import Placed
from pulse.domain import (
    NothingToCancel,
    Order,
    OrderRefused,
    OrderSpec,
    OrderUniqueKeyTaken,
    Slice,
    SplitConfigRequest,
    Trace,
    split,
)
from pulse.errors import PulseError
from pulse.eventstore import LogPage
from pulse.postgres import DatabaseUnavailable
from pulse.projections.order_view import OrderView
from tests.simulation.memory.server import EPOCH
from tests.simulation.violation import require

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

_TRACE = Trace(trace_id="t1", trace_source="caller", request_id="r1", request_source="caller")
_CALLER = Caller()
_TIMEOUT_SECONDS = 1.5
_READS = 2
_READING_SECONDS = 0.2
_CANCEL_SECONDS = 0.2
_NEAR_SECONDS = 0.02

HALTS: Final = (
    HaltRequest("ALL", "outage"),
    HaltRequest("INSTRUMENT", "wrong price", instrument="NSE:RELIANCE"),
    HaltRequest("CALLER", "placed twice", placed_by="anonymous"),
    HaltRequest("INSTRUMENT", "of no order", instrument="NSE:TCS"),
)


def requested(
    key: str, quantity: int, minutes: int, splits: int, start_at: datetime | None = None
) -> OrderSpec:
    """A request for an order."""
    return OrderSpec(
        order_unique_key=key,
        instrument="NSE:RELIANCE",
        side="BUY",
        total_quantity=quantity,
        split_config=SplitConfigRequest(splits, minutes, quantity % 2 == 0, start_at),
    )


def _slices_of(order: Order) -> tuple[Slice, ...]:
    return split(order.terms, order.splitter_version)


class RetryingCaller(ABC):
    """Sends a request to any process, and sends it again until the answer is definite.

    `answer` is the result, or the error that is a definite answer.
    """

    action: str
    definite: type[PulseError] | tuple[type[PulseError], ...]

    def __init__(self, world: "World", name: str, at: float) -> None:
        self.answer: Any = None
        self.name = name
        self.world = world
        self._attempt: object = None
        world.at(at, self._send)

    @abstractmethod
    def request(self, process: "Process") -> Coroutine[Any, Any, Any]:
        """The call at this process."""

    @abstractmethod
    def check(self) -> None:
        """Check the answer against the log."""

    def _send(self) -> None:
        process = self.world.any_process()
        if process is None:
            self.world.after(0.1, self._send)
            return
        attempt = self._attempt = object()
        self.world.after(_TIMEOUT_SECONDS, lambda: self._on_timeout(attempt))
        self.world.note(self.name, self.action, f"at {process.name}")
        process.loop.deliver(lambda: self._start(process, attempt))

    def _start(self, process: "Process", attempt: object) -> None:
        task = process.loop.create_task(self.request(process))
        task.add_done_callback(lambda done: self._on_done(done, attempt))

    def _on_timeout(self, attempt: object) -> None:
        if self._attempt is attempt:
            self._send()

    def _on_done(self, done: "asyncio.Task[Any]", attempt: object) -> None:
        if self._attempt is not attempt or self.answer is not None:
            _ = done.cancelled() or done.exception()
            return
        try:
            self.answer = done.result()
        except self.definite as refused:
            self.answer = refused
        except PulseError as error:
            self.world.note(self.name, self.action, f"fails: {error}")
            self._attempt = None
            self.world.after(self.world.random.random() * 0.2, self._send)
            return
        self._attempt = None
        self.world.note(self.name, self.action, f"answered: {self.answer!r}")
        self.check()


class PlacingCaller(RetryingCaller):
    """Places one order, with the same key at each attempt."""

    action = "place"
    definite = (OrderUniqueKeyTaken, OrderRefused)

    def __init__(self, world: "World", name: str, order: OrderSpec, at: float) -> None:
        super().__init__(world, name, at)
        self.order = order

    def request(self, process: "Process") -> Coroutine[Any, Any, Placed]:
        return process.orders.place(self.order, _CALLER, _TRACE)

    def check(self) -> None:
        orders = self.world.invariants.orders
        answer = self.answer
        if isinstance(answer, Placed):
            stored = orders.get(answer.order_id)
            require(stored is not None, f"{self.name} got {answer}, which is not stored")
            same = stored is not None and stored.spec == self.order
            require(same, f"{self.name} was answered with another order: {stored}")
            OrderReader(self.world, answer.order_id)
            if answer.created:
                self.world.acknowledge(self.order.order_unique_key, self.name)
                self._start_cancelling(answer.order_id)
        elif isinstance(answer, OrderRefused):
            passed = self.order.split_config.start_at is not None
            require(passed, f"{self.name} was refused without a reason: {answer}")
        else:
            stored = orders.get(answer.existing_order_id)
            other = stored is not None and stored.spec != self.order
            require(other, f"{self.name} was refused because of its own order: {stored}")

    def _start_cancelling(self, order_id: UUID) -> None:
        """Start callers that cancel the order at nearly the same, random time."""
        world, random = self.world, self.world.random
        order = world.invariants.orders[order_id]
        times = [(s.scheduled_at - EPOCH).total_seconds() for s in _slices_of(order)]
        times += [times[-1] + _CANCEL_SECONDS, times[-1] * random.random()]
        at = random.choice(times)
        if not world.profile.whole_life:
            at = world.now + random.random() * _CANCEL_SECONDS
        for number in range(world.profile.cancelling_callers):
            near = max(world.now, at + (random.random() - 0.5) * _NEAR_SECONDS)
            name = f"cancel{self.name[6:]}.{number}"
            world.cancelling.append(CancellingCaller(world, name, order_id, near))


class CancellingCaller(RetryingCaller):
    """Cancels an order that was accepted."""

    action = "cancel"
    definite = NothingToCancel

    def __init__(self, world: "World", name: str, order_id: UUID, at: float) -> None:
        super().__init__(world, name, at)
        self._order_id = order_id

    def request(self, process: "Process") -> Coroutine[Any, Any, OrderView]:
        return process.orders.cancel(self._order_id, self.name, _CALLER, _TRACE)

    def check(self) -> None:
        invariants, answer = self.world.invariants, self.answer
        order = invariants.orders[self._order_id]
        if isinstance(answer, OrderView):
            require(order.cancelled, f"{self.name} was answered, {self._order_id} is not cancelled")
            require(
                answer.quantities.remaining == 0, f"{self.name} was answered {answer.quantities}"
            )
            invariants.check_answer(answer)
        else:
            left = not order.cancelled and order.quantities.remaining
            require(left == 0, f"{self.name} was refused, {self._order_id} has {left} shares left")
            require(
                answer.quantities == order.quantities,
                f"{self.name} was refused with {answer.quantities}, there are {order.quantities}",
            )


class HaltingCaller(RetryingCaller):
    """Halts releases, and lifts the halt a random time later."""

    action = "halt"
    definite = OrderUniqueKeyTaken  # there is no refusal

    def __init__(self, world: "World", name: str, request: HaltRequest, at: float) -> None:
        super().__init__(world, name, at)
        self._request = request

    def request(self, process: "Process") -> Coroutine[Any, Any, HaltSet]:
        return process.halts.halt(self._request, _CALLER, _TRACE)

    def check(self) -> None:
        halt = self.answer.halt
        require(halt.halt_id in self.world.invariants.halted, f"{self.name} got {halt}, not stored")
        at = self.world.now + self.world.random.random() * self.world.profile.halted
        name = f"resume{self.name[4:]}"
        self.world.halting.append(ResumingCaller(self.world, name, halt.halt_id, at))


class ResumingCaller(RetryingCaller):
    """Lifts a halt."""

    action = "resume"
    definite = OrderUniqueKeyTaken  # there is no refusal

    def __init__(self, world: "World", name: str, halt_id: UUID, at: float) -> None:
        super().__init__(world, name, at)
        self._halt_id = halt_id

    def request(self, process: "Process") -> Coroutine[Any, Any, HaltLifted]:
        return process.halts.resume(self._halt_id, None, _CALLER, _TRACE)

    def check(self) -> None:
        in_force = self._halt_id in self.world.invariants.in_force
        require(not in_force, f"{self.name} was answered, {self._halt_id} is in force")


class OrderReader:
    """Reads an accepted order several times: it exists, and its version never goes back."""

    def __init__(self, world: "World", order_id: UUID) -> None:
        self._world = world
        self._order_id = order_id
        self._version = 1
        profile = world.profile
        seconds = profile.minute_seconds * profile.minutes if profile.whole_life else 0.0
        for _ in range(_READS):
            world.after(world.random.random() * (_READING_SECONDS + seconds), self._send)

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
        self._world.invariants.check_answer(view)


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
