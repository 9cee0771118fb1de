"""The invariants, checked at every append, at every projection and at the end."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pulse.domain import (
    HALTS_STREAM_ID,
    Event,
    HistoryBroken,
    Order,
    OrderCreated,
    ReleasesHalted,
    ReleasesResumed,
    Slice,
    SlicesReleased,
    SlicesScheduled,
    SplittingFailed,
    TimedOut,
    broken_rules,
    evolve,
    split,
)
from pulse.domain.events import flat_fields
from pulse.eventstore import EventMapper, RecordedEvent
from pulse.projections.order_view import OrderView
from tests.simulation.life import OrderLife
from tests.simulation.memory.server import EPOCH
from tests.simulation.memory.tables import Changes, Seal
from tests.simulation.sealing import SealInvariants
from tests.simulation.violation import InvariantViolated, require

if TYPE_CHECKING:
    from tests.simulation.world import World

MAPPER = EventMapper()


_SETTLED_LETTERS = {"RELEASED": "R", "CANCELLED": "C", "EXPIRED": "E"}


class Invariants:
    """Checks the invariants against its own record of every event and every order's state.

    `versions` has each order after each of its events, `lives` what became of its slices.
    """

    def __init__(self, world: "World") -> None:
        self._world = world
        self.log: list[tuple[int, Event]] = []
        self.orders: dict[UUID, Order] = {}
        self.versions: dict[UUID, list[Order]] = {}
        self.lives: dict[UUID, OrderLife] = {}
        self.halted: set[UUID] = set()
        self.in_force: dict[UUID, ReleasesHalted] = {}
        self.first_claims: dict[UUID, datetime] = {}
        self.open_orders = 0
        self.seal = SealInvariants(world)

    def claimed(self, order_id: UUID) -> None:
        """Record the order's first claim, from which its age counts."""
        self.first_claims.setdefault(order_id, self._world.server.now)

    def appended(self, record: RecordedEvent) -> None:
        """Check an append: position, version, one outcome, the derived schedule, age and life."""
        event = MAPPER.event_of(record)
        projected = self._world.server.tables.position
        require(
            record.position > projected,
            f"{record.position} is skipped: the projection is at {projected}",
        )
        self.log.append((record.position, event))
        self.seal.appended(record)
        if isinstance(event, ReleasesHalted | ReleasesResumed):
            self._add_halt(record, event)
            return
        if isinstance(event, SlicesReleased):
            self._check_not_halted(event)
        order_id, before = event.originator_id, self.orders.get(event.originator_id)
        require(
            event.originator_version == (1 if before is None else before.version + 1),
            f"version {event.originator_version} of {order_id} follows "
            f"{0 if before is None else before.version}",
        )
        is_pending = before is not None and before.state == "PENDING"
        require(
            is_pending or not isinstance(event, SlicesScheduled | SplittingFailed | TimedOut),
            f"{order_id} has a second outcome: {type(event).__name__}",
        )
        if isinstance(event, SlicesScheduled) and before is not None:
            self._check_schedule(before, event)
        if isinstance(event, SlicesScheduled | TimedOut):
            self._check_age(event)
        self._add_to_life(event)
        try:
            order = self.orders[order_id] = evolve(before, event)
        except HistoryBroken as broken:
            raise InvariantViolated(str(broken)) from broken
        self._check_law(order)
        self.open_orders += (before is None) - (is_pending and order.state != "PENDING")
        self.versions.setdefault(order_id, []).append(order)
        self._world.note("log", type(event).__name__, f"of {order_id} at {record.position}")

    def _add_halt(self, record: RecordedEvent, event: ReleasesHalted | ReleasesResumed) -> None:
        """Check that halts and resumptions of a target alternate; record resumptions in `lives`."""
        version = len(self._world.server.log.streams[HALTS_STREAM_ID])
        require(event.originator_version == version, f"a halt has version {version}")
        if isinstance(event, ReleasesHalted):
            target = (event.scope, event.instrument, event.placed_by)
            targets = [(h.scope, h.instrument, h.placed_by) for h in self.in_force.values()]
            require(target not in targets, f"{target} is halted a second time")
            self.in_force[event.halt_id] = event
            self.halted.add(event.halt_id)
        else:
            require(event.halt_id in self.in_force, f"{event.halt_id} is lifted a second time")
            lifted = self.in_force.pop(event.halt_id)
            for order_id, order in self.orders.items():
                if _is_halted(order, [lifted]):
                    self.lives[order_id].resume(record.recorded_at)

    def _check_not_halted(self, event: SlicesReleased) -> None:
        order = self.orders[event.originator_id]
        halted = _is_halted(order, self.in_force.values())
        require(not halted, f"{order.id} was released while halted")

    def _add_to_life(self, event: Event) -> None:
        if isinstance(event, OrderCreated):
            profile = self._world.profile
            quiet_at = EPOCH + timedelta(seconds=profile.fault_seconds)
            self.lives[event.originator_id] = OrderLife(event, profile, quiet_at)
        else:
            order = self.orders[event.originator_id]
            halted = _is_halted(order, self.in_force.values())
            self.lives[order.id].add(event, self._world.server.now, halted=halted)

    def _check_law(self, order: Order) -> None:
        """Check that the domain's quantities are those counted from the events.

        Their sum is always the order's total.
        """
        life, quantities = self.lives[order.id], order.quantities
        q = quantities
        total = q.remaining + q.released + q.cancelled + q.expired
        require(total == order.spec.total_quantity, f"{order.id} has {quantities}")
        require(quantities == life.quantities, f"{order.id}: {quantities}, not {life.quantities}")
        require(order.slice_states == life.states, f"{order.id}: {order.slice_states}")
        require(order.due_at == life.due_at, f"{order.id} is due at {order.due_at}")

    def _check_schedule(self, order: Order, event: SlicesScheduled) -> None:
        require(
            event.slices == split(order.terms, order.splitter_version),
            f"{order.id} has a schedule that differs from the one its creation determines",
        )
        broken = broken_rules(order.terms, event.slices)
        require(not broken, f"{order.id} has a schedule that breaks {broken}")

    def _check_age(self, event: SlicesScheduled | TimedOut) -> None:
        """No order times out too early, and none is split under a claim made after the timeout."""
        order_id, timeout = event.originator_id, timedelta(seconds=self._world.profile.timeout)
        first = self.first_claims.get(order_id)
        if first is None:
            raise InvariantViolated(f"{order_id} has an outcome and was never claimed")
        if isinstance(event, TimedOut):
            age = self._world.server.now - first
            require(age >= timeout, f"{order_id} timed out at the age of {age}")
        else:
            age = event.claimed_at - first
            require(age <= timeout, f"{order_id} was claimed at the age of {age} and split")

    def projected(self, before: int, changes: Changes) -> None:
        """Check that the view equals the fold of the log up to the projection's position."""
        tables = self._world.server.tables
        require(tables.position >= before, f"the projection went back from {before}")
        touched = {
            event.originator_id
            for position, event in self.log
            if before < position <= tables.position and event.originator_id != HALTS_STREAM_ID
        }
        touched.update(changes.orders, changes.outcomes)
        for order_id in touched:
            self.check_view(order_id)

    def sealed(self, before: Seal) -> None:
        """Check the seal after a commit of a sealer."""
        self.seal.sealed(before)

    def check_view(self, order_id: UUID) -> None:
        """Check one order's row and slices against its events up to the position."""
        tables = self._world.server.tables
        order: Order | None = None
        position = created_position = 0
        for place, event in self.log:
            if event.originator_id == order_id and place <= tables.position:
                order, position = evolve(order, event), max(position, place)
                created_position = created_position or place
        row = tables.orders.get(order_id)
        if order is None or row is None:
            require(order is None and row is None, f"the view lacks {order_id} or has it early")
            return
        expected = _columns(order) | {"position": position, "created_position": created_position}
        different = [name for name, value in expected.items() if row[name] != value]
        require(not different, f"the view has {order_id} with a different {different}: {row}")
        is_pending = order_id in tables.pending
        require(is_pending == (order.state == "PENDING"), f"{order_id} is pending: {is_pending}")
        for number, s in enumerate(order.slices, 1):
            found = tables.slices.get((created_position, number))
            require(found == (s.quantity, s.scheduled_at), f"slice {number} of {order_id}: {found}")
        due_at = tables.due.get(created_position)
        require(
            due_at == order.due_at, f"{order_id} is due at {order.due_at}, the view has {due_at}"
        )

    def check_answer(self, view: OrderView) -> None:
        """Check that an answered order is as its events up to the answered version say."""
        order = self.versions[view.order_id][view.version - 1]
        status = {view.order_queue_status}
        expected = {"PENDING", "IN_PROGRESS"} if order.state == "PENDING" else {order.state}
        require(status <= expected, f"{view.order_id} is {order.state}, answered as {status}")
        slices = tuple(Slice(s.sequence_number, s.quantity, s.scheduled_at) for s in view.slices)
        require(slices == order.slices, f"{view.order_id} was answered with the slices {slices}")
        states = tuple(s.state for s in view.slices)
        require(states == order.slice_states, f"{view.order_id} was answered with {states}")
        answered = view.quantities
        require(answered == order.quantities, f"{view.order_id} was answered with {answered}")
        require(view.window == order.window, f"{view.order_id} was answered with {view.window}")
        require(view.release == order.release, f"{view.order_id} was answered with {view.release}")

    def is_settled(self, *, whole: bool) -> bool:
        """Whether every slice is settled that is due now, or with `whole` that will ever be due."""
        now = self._world.server.now
        due = (life.due_at for life in self.lives.values() if not life.ended)
        return all(due_at is None or (not whole and due_at > now) for due_at in due)

    def check_end(self) -> None:
        """Check the end: everything is projected, nothing is pending, the view equals the fold."""
        tables = self._world.server.tables
        require(tables.orders.keys() == self.orders.keys(), "the view has different orders")
        slices = sum(len(order.slices) for order in self.orders.values())
        require(len(tables.slices) == slices, f"{len(tables.slices)} slices instead of {slices}")
        for order_id in self.orders:
            self.check_view(order_id)
        require(not tables.pending, f"orders are pending: {list(tables.pending)}")


def _is_halted(order: Order, halts: Iterable[ReleasesHalted]) -> bool:
    return any(
        halt.scope == "ALL"
        or (halt.scope == "INSTRUMENT" and halt.instrument == order.spec.instrument)
        or (halt.scope == "CALLER" and halt.placed_by == order.placed_by)
        for halt in halts
    )


def _columns(order: Order) -> dict[str, Any]:
    return dict(_named(order))


def _named(order: Order) -> Iterator[tuple[str, Any]]:
    yield "scope", order.key_scope
    yield "placed_by", order.placed_by
    yield from flat_fields(order.spec).items()
    yield "splitter_version", order.splitter_version
    yield "state", order.state
    yield "failure_reason", order.failure_reason
    yield "failure_message", order.failure_message
    yield "version", order.version
    yield "created_at", order.created_at
    yield "updated_at", order.updated_at
    yield "split_completed_at", order.split_completed_at
    yield "trace_id", order.trace_id
    yield "release", order.release
    yield "settled", "".join(_SETTLED_LETTERS[state] for state in order.settled)
    yield "released_quantity", order.quantities.released
    yield "cancelled_quantity", order.quantities.cancelled
    yield "expired_quantity", order.quantities.expired
