"""An order's life under every interleaving of callers, workers, late workers and the monitor.

Whoever acts reads a stream, decides, and appends some time later, when the stream may have moved
on. Only the store's versions stand between them, and they suffice: one outcome, or none yet.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from pulse.domain import (
    TIMED_OUT,
    TOO_LATE,
    Claim,
    Command,
    Event,
    Order,
    OrderCreated,
    OrderUniqueKeyTaken,
    PlaceOrder,
    RecordedBy,
    SplitOrder,
    TimeOutOrder,
    decide,
    fold,
    order_id_for,
    split,
)
from pulse.testing import check_schedule, place_orders

AUTHOR = RecordedBy(component="test", instance="test-1", code_version="0.1.0")
MAX_SPLIT_DELAY_SECONDS = 300
TIMEOUT_SECONDS = 60
AT_ONCE = st.booleans()


class VersionTaken(Exception):
    """The store already holds an event at this version of the stream."""


class Streams:
    """An event store in memory."""

    def __init__(self) -> None:
        self._streams: dict[UUID, list[Event]] = {}

    def __iter__(self) -> Iterator[UUID]:
        return iter(self._streams)

    def read(self, order_id: UUID) -> tuple[Event, ...]:
        return tuple(self._streams.get(order_id, ()))

    def append(self, event: Event) -> None:
        stream = self._streams.setdefault(event.originator_id, [])
        taken = {stored.originator_version for stored in stream}
        if event.originator_version in taken:
            raise VersionTaken
        stream.append(event)


class Decision(msgspec.Struct, frozen=True):
    """What someone decided on what they read, and has not appended yet."""

    order_id: UUID
    command: Command
    events: tuple[Event, ...]


class OrderLife(RuleBasedStateMachine):
    """A few keys, a clock that only goes forward, and anyone doing anything at any time."""

    placements = Bundle("placements")
    decisions = Bundle("decisions")

    def __init__(self) -> None:
        super().__init__()
        self.streams = Streams()
        self.claims: dict[UUID, Claim] = {}
        self.ended: dict[UUID, Order] = {}
        self.now = datetime(2026, 3, 2, 9, 15, tzinfo=UTC)

    # Callers

    @initialize(
        target=placements,
        commands=st.lists(place_orders(), min_size=1, max_size=2),
        all_stand=AT_ONCE,
    )
    def callers_have_orders_to_place(
        self, commands: list[PlaceOrder], *, all_stand: bool
    ) -> object:
        for command in commands if all_stand else ():
            self._decide(
                msgspec.structs.replace(command, at=self.now), id_of(command), at_once=True
            )
        return multiple(*commands)

    @rule(target=decisions, command=placements, seed=st.integers(0, 2**64 - 1), at_once=AT_ONCE)
    def a_caller_places(self, command: PlaceOrder, seed: int, *, at_once: bool) -> object:
        command = msgspec.structs.replace(command, at=self.now, split_seed=seed)
        return self._decide(command, id_of(command), at_once=at_once)

    @rule(target=decisions, command=placements, at_once=AT_ONCE)
    def a_caller_uses_the_key_for_other_data(self, command: PlaceOrder, *, at_once: bool) -> object:
        spec = command.spec
        spec = msgspec.structs.replace(spec, side="SELL" if spec.side == "BUY" else "BUY")
        command = msgspec.structs.replace(command, at=self.now, spec=spec)
        return self._decide(command, id_of(command), at_once=at_once)

    # Workers

    @rule(
        target=decisions,
        command=placements,
        worker=st.sampled_from(("w-1", "w-2", "w-3")),
        at_once=AT_ONCE,
    )
    def a_worker_claims_and_splits(
        self, command: PlaceOrder, worker: str, *, at_once: bool
    ) -> object:
        """It takes over whoever held the order before; the first claim's time is kept."""
        order = fold(self.streams.read(id_of(command)))
        if order is None or order.state != "PENDING":
            return multiple()
        former = self.claims.get(order.id)
        self.claims[order.id] = Claim(
            worker=worker,
            claimed_at=self.now,
            first_claimed_at=former.first_claimed_at if former else self.now,
        )
        return self.a_worker_that_holds_a_claim_splits(command, at_once=at_once)

    @rule(target=decisions, command=placements, at_once=AT_ONCE)
    def a_worker_that_holds_a_claim_splits(self, command: PlaceOrder, *, at_once: bool) -> object:
        """However late, and whatever became of the order."""
        claim = self.claims.get(id_of(command))
        if claim is None:
            return multiple()
        split_it = SplitOrder(
            claim=claim,
            max_split_delay_seconds=MAX_SPLIT_DELAY_SECONDS,
            at=self.now,
            request_id="r-1",
            recorded_by=AUTHOR,
        )
        return self._decide(split_it, id_of(command), at_once=at_once)

    @rule(target=decisions, command=placements, at_once=AT_ONCE)
    def the_monitor_gives_up(self, command: PlaceOrder, *, at_once: bool) -> object:
        claim = self.claims.get(id_of(command))
        if claim is None or self.now - claim.first_claimed_at <= timedelta(seconds=TIMEOUT_SECONDS):
            return multiple()
        give_up = TimeOutOrder(
            claim=claim,
            timeout_seconds=TIMEOUT_SECONDS,
            detected_by="monitor-1",
            at=self.now,
            request_id="r-2",
            recorded_by=AUTHOR,
        )
        return self._decide(give_up, id_of(command), at_once=at_once)

    # The world

    @rule(passed_seconds=st.sampled_from((1, TIMEOUT_SECONDS + 1, MAX_SPLIT_DELAY_SECONDS, 86_400)))
    def time_passes(self, passed_seconds: int) -> None:
        self.now += timedelta(seconds=passed_seconds)

    @rule(decision=consumes(decisions))
    def an_append_arrives(self, decision: Decision) -> None:
        """Whoever loses the race reads again and decides again: then nothing is left to do."""
        try:
            for event in decision.events:
                self.streams.append(event)
        except VersionTaken:
            order = fold(self.streams.read(decision.order_id))
            assert order is not None
            assert self._decided(decision.command, order) == ()

    def _decide(self, command: Command, order_id: UUID, *, at_once: bool) -> object:
        """Decides on what is read now. The append arrives at once, or lies in `decisions`."""
        order = fold(self.streams.read(order_id))
        events = self._decided(command, order)
        decision = Decision(order_id=order_id, command=command, events=events)
        if not at_once:
            return decision
        self.an_append_arrives(decision)
        return multiple()

    def _decided(self, command: Command, order: Order | None) -> tuple[Event, ...]:
        """A key in use for other data is refused; that is an outcome as good as any."""
        if not isinstance(command, PlaceOrder) or order is None:
            return decide(command, order)
        if command.spec == order.spec:
            return decide(command, order)
        with pytest.raises(OrderUniqueKeyTaken):
            decide(command, order)
        return ()

    # What holds at every moment

    @invariant()
    def versions_run_from_one_without_gap(self) -> None:
        for order_id in self.streams:
            versions = [event.originator_version for event in self.streams.read(order_id)]
            assert versions == list(range(1, len(versions) + 1))

    @invariant()
    def there_is_one_creation_and_at_most_one_outcome(self) -> None:
        for order_id in self.streams:
            created, *outcomes = self.streams.read(order_id)
            assert isinstance(created, OrderCreated)
            assert created.originator_id == order_id
            assert order_id == order_id_for(created.key_scope, created.order_unique_key)
            assert len(outcomes) <= 1

    @invariant()
    def shares_are_conserved_and_a_completed_order_keeps_every_rule(self) -> None:
        for order_id in self.streams:
            order = fold(self.streams.read(order_id))
            assert order is not None
            if order.state == "COMPLETED":
                assert sum(s.quantity for s in order.slices) == order.spec.total_quantity
                check_schedule(order, order.slices)
                assert order.slices == split(order.terms, order.splitter_version)
                assert order.failure_reason is None
            else:
                assert order.slices == ()

    @invariant()
    def an_order_fails_by_time_alone(self) -> None:
        """The splitter is whole, so no schedule of its is ever turned down."""
        for order_id in self.streams:
            order = fold(self.streams.read(order_id))
            assert order is not None
            told = {TOO_LATE, TIMED_OUT} if order.state == "FAILED" else {None}
            assert order.failure_reason in told

    @invariant()
    def what_ended_stays_as_it_ended(self) -> None:
        for order_id in self.streams:
            order = fold(self.streams.read(order_id))
            assert order is not None
            if order.state != "PENDING":
                assert self.ended.setdefault(order_id, order) == order


def id_of(command: PlaceOrder) -> UUID:
    return order_id_for(command.key_scope, command.spec.order_unique_key)


def test_whatever_the_interleaving_an_order_has_at_most_one_outcome() -> None:
    run_state_machine_as_test(
        OrderLife,
        settings=settings(max_examples=120, stateful_step_count=40, deadline=None),
    )
