"""An order's life under every interleaving of callers, workers, the monitor and releasers.

Each process reads a stream, or an older view of it, decides, and appends some time later, when the
stream may have other events. The unique versions of the stream suffice: an order has at most one
outcome, and each slice is released, cancelled or expired at most once.
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
    CancelOrder,
    Claim,
    Command,
    Event,
    Halts,
    MarketClosed,
    NothingToCancel,
    Order,
    OrderCancelled,
    OrderCreated,
    OrderRefused,
    OrderUniqueKeyTaken,
    PlaceOrder,
    RecordedBy,
    ReleaseSlices,
    SlicesExpired,
    SlicesReleased,
    SlicesScheduled,
    SplitOrder,
    SplittingFailed,
    TimedOut,
    TimeOutOrder,
    decide,
    evolve,
    fold,
    order_id_for,
    split,
)
from pulse.testing import check_schedule
from tests.support.histories import life_orders, moments_from
from tests.support.releases import check_release_times

AUTHOR = RecordedBy(component="test", instance="test-1", code_version="0.1.0")
MAX_SPLIT_DELAY_SECONDS = 300
TIMEOUT_SECONDS = 60
MAX_RELEASE_DELAY_SECONDS = 5
AT_ONCE = st.booleans()


class VersionTaken(Exception):
    """The store already holds an event at this version of the stream."""


class Streams:
    """An event store in memory, with the order after each event."""

    def __init__(self) -> None:
        self._streams: dict[UUID, list[Event]] = {}
        self._orders: dict[UUID, list[Order]] = {}

    def __iter__(self) -> Iterator[UUID]:
        return iter(self._streams)

    def read(self, order_id: UUID) -> tuple[Event, ...]:
        return tuple(self._streams.get(order_id, ()))

    def append(self, event: Event) -> None:
        stream = self._streams.setdefault(event.originator_id, [])
        if event.originator_version <= len(stream):
            raise VersionTaken
        stream.append(event)
        orders = self._orders.setdefault(event.originator_id, [])
        orders.append(evolve(orders[-1] if orders else None, event))

    def order(self, order_id: UUID, version: int | None = None) -> Order | None:
        """The order as it is, or as it was at an earlier version; None if there is none."""
        orders = self._orders.get(order_id, [])[:version]
        return orders[-1] if orders else None

    def orders(self) -> Iterator[Order]:
        """Every order as it is."""
        return (orders[-1] for orders in self._orders.values())


class Decision(msgspec.Struct, frozen=True):
    """What a process decided on what it read, and has not appended yet."""

    order_id: UUID
    command: Command
    events: tuple[Event, ...]


class OrderLife(RuleBasedStateMachine):
    """A few keys, a clock that only goes forward, and any process at any time."""

    placements = Bundle("placements")
    decisions = Bundle("decisions")

    def __init__(self) -> None:
        super().__init__()
        self.streams = Streams()
        self.claims: dict[UUID, Claim] = {}
        self.before: dict[UUID, Order] = {}
        self.now = datetime(2026, 3, 2, 3, 45, tzinfo=UTC)

    # Callers

    @initialize(
        target=placements,
        commands=st.lists(life_orders(), min_size=1, max_size=2),
        begun=st.sampled_from(("SPLIT", "PLACED", "NOT_PLACED")),
    )
    def callers_have_orders_to_place(self, commands: list[PlaceOrder], begun: str) -> object:
        for command in commands:
            if begun != "NOT_PLACED":
                self.a_caller_places(command, command.split_seed, at_once=True)
            if begun == "SPLIT":
                self.a_worker_claims_and_splits(command, "w-1", at_once=True)
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

    @rule(
        target=decisions,
        command=placements,
        at_once=AT_ONCE,
        wanted=st.sampled_from((False, False, True)),
    )
    def a_caller_cancels(self, command: PlaceOrder, *, at_once: bool, wanted: bool) -> object:
        if not wanted or self.streams.order(id_of(command)) is None:
            return multiple()
        cancel = CancelOrder(
            reason=None,
            cancelled_by="caller",
            at=self.now,
            recorded_by=AUTHOR,
            trace=command.trace,
        )
        return self._decide(cancel, id_of(command), at_once=at_once)

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
        """It takes over another worker's claim; the time of the first claim is kept."""
        order = self.streams.order(id_of(command))
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
        """However late, and in any state of the order."""
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
    def the_monitor_times_an_order_out(self, command: PlaceOrder, *, at_once: bool) -> object:
        claim = self.claims.get(id_of(command))
        if claim is None or self.now - claim.first_claimed_at <= timedelta(seconds=TIMEOUT_SECONDS):
            return multiple()
        time_out = TimeOutOrder(
            claim=claim,
            timeout_seconds=TIMEOUT_SECONDS,
            detected_by="monitor-1",
            at=self.now,
            request_id="r-2",
            recorded_by=AUTHOR,
        )
        return self._decide(time_out, id_of(command), at_once=at_once)

    # Releasers

    @rule(
        target=decisions,
        command=placements,
        releaser=st.sampled_from(("r-1", "r-2")),
        unprojected=st.sampled_from((0, 0, 0, 1, 2)),
        at_once=AT_ONCE,
        data=st.data(),
    )
    def a_releaser_decides(
        self,
        command: PlaceOrder,
        releaser: str,
        unprojected: int,
        *,
        at_once: bool,
        data: st.DataObject,
    ) -> object:
        """It decides from what is projected; the order's last events may be missing there."""
        order = self.streams.order(id_of(command))
        if order is None:
            return multiple()
        moments = moments_from(self.now, order, MAX_RELEASE_DELAY_SECONDS)
        self.now = data.draw(st.sampled_from(moments))
        release = ReleaseSlices(
            halts=Halts(),
            max_delay_seconds=MAX_RELEASE_DELAY_SECONDS,
            released_by=releaser,
            at=self.now,
            request_id="r-3",
            recorded_by=AUTHOR,
        )
        version = max(1, order.version - unprojected)
        return self._decide(release, order.id, at_once=at_once, version=version)

    # Time, and appends that arrive late, twice or never

    @rule(
        passed_seconds=st.sampled_from((1, TIMEOUT_SECONDS + 1, MAX_SPLIT_DELAY_SECONDS, 86_400)),
        long=st.sampled_from((False, False, False, True)),
    )
    def time_passes(self, passed_seconds: int, *, long: bool) -> None:
        self.now += timedelta(seconds=passed_seconds if long else 0.25)

    @rule(decision=consumes(decisions))
    def an_append_arrives(self, decision: Decision) -> None:
        """If its version is taken, the process reads and decides again; a releaser waits."""
        try:
            for event in decision.events:
                self.streams.append(event)
        except VersionTaken:
            if isinstance(decision.command, ReleaseSlices):
                return
            events = self._decided(decision.command, self.streams.order(decision.order_id))
            assert events == () or isinstance(decision.command, CancelOrder)
            for event in events:
                self.streams.append(event)

    @rule(target=decisions, decision=consumes(decisions))
    def the_reply_of_an_append_is_lost(self, decision: Decision) -> object:
        """The process appends the same events again later."""
        self.an_append_arrives(decision)
        return decision

    @rule(decision=consumes(decisions))
    def a_process_is_killed_before_its_append(self, decision: Decision) -> None:
        pass

    def _decide(
        self, command: Command, order_id: UUID, *, at_once: bool, version: int | None = None
    ) -> object:
        """Decide on what is read now. The append arrives at once, or is in `decisions`."""
        order = self.streams.order(order_id, version)
        events = self._decided(command, order)
        decision = Decision(order_id=order_id, command=command, events=events)
        if not at_once:
            return decision
        self.an_append_arrives(decision)
        return multiple()

    def _decided(self, command: Command, order: Order | None) -> tuple[Event, ...]:
        """Decide; a refusal is checked, and causes no event."""
        try:
            return decide(command, order)
        except OrderUniqueKeyTaken:
            assert isinstance(command, PlaceOrder)
            assert order is not None
            assert command.spec != order.spec
        except (OrderRefused, MarketClosed):
            assert isinstance(command, PlaceOrder)
            assert order is None, "a retry is never refused because time has passed"
        except NothingToCancel:
            assert order is not None
            assert order.quantities.remaining == 0
            assert not order.cancelled
        return ()

    # Laws

    @invariant()
    def every_law_holds_for_every_order_that_changed(self) -> None:
        for order in self.streams.orders():
            before = self.before.get(order.id)
            if before is None or before.version < order.version:
                events = self.streams.read(order.id)
                assert order == fold(events)
                check_stream(events)
                check_shares(order)
                check_schedule_of(order)
                check_release_times(events, order.slices, MAX_RELEASE_DELAY_SECONDS)
                check_change(before, order)
                self.before[order.id] = order


def check_stream(events: tuple[Event, ...]) -> None:
    """One creation, at most one outcome, and each slice is settled at most once, in its order."""
    created, *later = events
    assert isinstance(created, OrderCreated)
    assert created.originator_id == order_id_for(created.key_scope, created.order_unique_key)
    assert [event.originator_version for event in events] == list(range(1, len(events) + 1))
    outcomes = [event for event in later if is_outcome(event)]
    assert len(outcomes) <= 1
    assert outcomes == later[: len(outcomes)]
    numbers = [number for event in events for number in settled_by(event)]
    assert numbers == list(range(1, len(numbers) + 1))


def check_shares(order: Order) -> None:
    """All shares are accounted for."""
    shares = msgspec.structs.astuple(order.quantities)
    assert sum(shares) == order.spec.total_quantity
    assert min(shares) >= 0


def check_schedule_of(order: Order) -> None:
    """A split order has the splitter's slices. A failed order was late: no rule is broken."""
    if order.state == "COMPLETED":
        check_schedule(order, order.slices)
        assert order.slices == split(order.terms, order.splitter_version)
    else:
        assert order.slices == ()
    reasons = {TOO_LATE, TIMED_OUT} if order.state == "FAILED" else {None}
    assert order.failure_reason in reasons


def check_change(before: Order | None, order: Order) -> None:
    """An outcome and settled slices never change; nothing follows a failure or a cancellation."""
    if before is None or before.state == "PENDING":
        return
    assert outcome_of(order) == outcome_of(before)
    assert before.state == "COMPLETED"
    assert not before.cancelled
    assert order.settled[: len(before.settled)] == before.settled
    assert len(order.settled) > len(before.settled)


def id_of(command: PlaceOrder) -> UUID:
    return order_id_for(command.key_scope, command.spec.order_unique_key)


def is_outcome(event: Event) -> bool:
    if isinstance(event, OrderCancelled):
        return event.sequence_numbers == ()
    return isinstance(event, SlicesScheduled | SplittingFailed | TimedOut)


def outcome_of(order: Order) -> tuple[object, ...]:
    return order.state, order.slices, order.split_completed_at, order.failure_message


def settled_by(event: Event) -> tuple[int, ...]:
    match event:
        case SlicesReleased():
            return tuple(s.sequence_number for s in event.slices)
        case SlicesExpired() | OrderCancelled():
            return event.sequence_numbers
        case _:
            return ()


@pytest.mark.many_cases
def test_in_any_interleaving_an_order_has_one_outcome_and_a_slice_is_settled_once() -> None:
    run_state_machine_as_test(
        OrderLife,
        settings=settings(stateful_step_count=50),
    )
