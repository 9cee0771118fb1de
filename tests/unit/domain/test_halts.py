"""Halts: what is decided, what may follow, and which orders a halt covers."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.domain import (
    HALTS_STREAM_ID,
    DueOrder,
    Event,
    HaltNotFound,
    HaltReleases,
    Halts,
    HaltTarget,
    HistoryBroken,
    RecordedBy,
    ReleasesHalted,
    ReleaseSlices,
    ReleasesResumed,
    ResumeReleases,
    Slice,
    SlicesExpired,
    SlicesReleased,
    Trace,
    decide,
    decide_halt,
    evolve,
    evolve_halts,
    fold,
    fold_halts,
    order_id_for,
    release_due,
)
from tests.support.events import order_created, slices_scheduled

T0: Final = datetime(2026, 3, 2, 9, 15, tzinfo=UTC)
API: Final = RecordedBy(component="api", instance="api-1", code_version="0.1.0")
TRACE: Final = Trace(trace_id="t", trace_source="DESK", request_id="r", request_source="DESK")
ALL: Final = HaltTarget(scope="ALL")
TCS: Final = HaltTarget(scope="INSTRUMENT", instrument="NSE:TCS")
INFY: Final = HaltTarget(scope="INSTRUMENT", instrument="NSE:INFY")
DESK: Final = HaltTarget(scope="CALLER", placed_by="desk")
ALGO: Final = HaltTarget(scope="CALLER", placed_by="algo")
TARGETS: Final = (ALL, TCS, INFY, DESK, ALGO)


def halting(target: HaltTarget, reason: str = "outage") -> HaltReleases:
    return HaltReleases(
        target=target, reason=reason, halted_by="risk", at=T0, recorded_by=API, trace=TRACE
    )


def resuming(halt_id: Any, reason: str | None = None) -> ResumeReleases:
    return ResumeReleases(
        halt_id=halt_id,
        reason=reason,
        resumed_by="ops",
        at=T0 + timedelta(minutes=1),
        recorded_by=API,
        trace=TRACE,
    )


def halted(*targets: HaltTarget) -> Halts:
    halts = Halts()
    for target in targets:
        (event,) = decide_halt(halting(target), halts)
        halts = evolve_halts(halts, event)
    return halts


def event_of(target: HaltTarget, halts: Halts | None = None, **changes: Any) -> ReleasesHalted:
    (event,) = decide_halt(halting(target), halts or Halts())
    assert isinstance(event, ReleasesHalted)
    return msgspec.structs.replace(event, **changes)


def test_a_halt_is_an_event_with_its_target_author_and_reason() -> None:
    (event,) = decide_halt(halting(TCS, "wrong price"), Halts())
    assert event == ReleasesHalted(
        originator_id=HALTS_STREAM_ID,
        originator_version=1,
        timestamp=T0,
        recorded_by=API,
        trace=TRACE,
        halt_id=event.halt_id,
        scope="INSTRUMENT",
        instrument="NSE:TCS",
        placed_by=None,
        reason="wrong price",
        halted_by="risk",
    )
    (halt,) = evolve_halts(Halts(), event).in_force
    assert (halt.target, halt.reason, halt.halted_by) == (TCS, "wrong price", "risk")
    assert (halt.halted_at, halt.lifted_at, halt.lifted_by) == (T0, None, None)


def test_a_second_halt_of_the_same_target_causes_no_event() -> None:
    assert decide_halt(halting(TCS, "another reason"), halted(TCS)) == ()
    (event,) = decide_halt(halting(INFY), halted(TCS))
    assert event.originator_version == 2


def test_a_lifted_halt_keeps_who_lifted_it_and_the_target_can_be_halted_again() -> None:
    halts = halted(TCS)
    (first,) = halts.in_force
    (event,) = decide_halt(resuming(first.halt_id, "corrected"), halts)
    assert event == ReleasesResumed(
        originator_id=HALTS_STREAM_ID,
        originator_version=2,
        timestamp=T0 + timedelta(minutes=1),
        recorded_by=API,
        trace=TRACE,
        halt_id=first.halt_id,
        reason="corrected",
        resumed_by="ops",
    )
    halts = evolve_halts(halts, event)
    assert halts.in_force == ()
    lifted = halts.of(first.halt_id)
    assert (lifted.lifted_by, lifted.lifted_at) == ("ops", T0 + timedelta(minutes=1))
    assert (lifted.lifted_reason, lifted.halted_by) == ("corrected", "risk")
    assert decide_halt(resuming(first.halt_id), halts) == ()
    (again,) = decide_halt(halting(TCS), halts)
    assert isinstance(again, ReleasesHalted)
    assert again.halt_id != first.halt_id
    second = evolve_halts(halts, again)
    assert [halt.target for halt in second.in_force] == [TCS]
    assert second.of(first.halt_id) == lifted


def test_lifting_one_halt_leaves_the_others_in_force() -> None:
    halts = halted(ALL, TCS, DESK)
    (event,) = decide_halt(resuming(halts.in_force[1].halt_id), halts)
    assert [halt.target for halt in evolve_halts(halts, event).in_force] == [ALL, DESK]


def test_an_unknown_halt_cannot_be_lifted() -> None:
    unknown = uuid4()
    with pytest.raises(HaltNotFound, match=r"^no halt has this id$") as refused:
        decide_halt(resuming(unknown), halted(ALL))
    assert refused.value.halt_id == str(unknown)


@pytest.mark.parametrize(
    ("target", "covered"),
    [
        (ALL, {("NSE:TCS", "desk"), ("NSE:TCS", "algo"), ("NSE:INFY", "desk")}),
        (TCS, {("NSE:TCS", "desk"), ("NSE:TCS", "algo")}),
        (DESK, {("NSE:TCS", "desk"), ("NSE:INFY", "desk")}),
        (ALGO, {("NSE:TCS", "algo")}),
    ],
)
def test_a_halt_covers_the_orders_of_its_target(
    target: HaltTarget, covered: set[tuple[str, str]]
) -> None:
    orders = [("NSE:TCS", "desk"), ("NSE:TCS", "algo"), ("NSE:INFY", "desk")]
    assert {order for order in orders if halted(target).covers(*order)} == covered


def test_without_halts_nothing_is_covered() -> None:
    assert not Halts().covers("NSE:TCS", "desk")


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (event_of(ALL, originator_version=2), "version 0"),
        (event_of(ALL, originator_id=uuid4()), "version 0"),
        (order_created(), "version 0"),
    ],
)
def test_an_event_that_is_not_the_next_one_of_halts_is_refused(event: Event, why: str) -> None:
    with pytest.raises(HistoryBroken, match=why):
        evolve_halts(Halts(), event)


def test_a_halt_that_is_in_force_cannot_be_set_and_one_that_is_not_cannot_be_lifted() -> None:
    halts = halted(TCS)
    with pytest.raises(HistoryBroken, match=r"cannot follow: a halt of this target is in force$"):
        evolve_halts(halts, event_of(TCS, originator_version=2))
    (halt,) = halts.in_force
    (lifting,) = decide_halt(resuming(halt.halt_id), halts)
    assert isinstance(lifting, ReleasesResumed)
    lifted = evolve_halts(halts, lifting)
    with pytest.raises(HistoryBroken, match=r"follow: the halt that it lifts is not in force$"):
        evolve_halts(lifted, msgspec.structs.replace(lifting, originator_version=3))


def test_an_event_of_an_order_is_not_about_halts() -> None:
    forged = msgspec.structs.replace(order_created(), originator_id=HALTS_STREAM_ID)
    with pytest.raises(
        HistoryBroken, match=r"OrderCreated at version 1 .*: it is not an event of a halt$"
    ):
        evolve_halts(Halts(), forged)


def test_an_event_of_a_halt_is_not_of_an_order() -> None:
    with pytest.raises(HistoryBroken, match="ReleasesHalted is not an event of an order"):
        evolve(None, event_of(ALL))


def test_no_order_has_the_id_of_the_stream_of_halts() -> None:
    keys = [("halts", ""), ("", "halts"), ("internal", "halts")]
    assert HALTS_STREAM_ID not in {order_id_for(*key) for key in keys}


def test_the_halts_in_force_are_those_that_the_events_leave() -> None:
    everything = event_of(ALL)
    one = event_of(TCS, fold_halts([everything]))
    (lifted,) = decide_halt(resuming(everything.halt_id), fold_halts([everything, one]))
    halts = fold_halts([everything, one, lifted])
    assert [halt.target for halt in halts.in_force] == [TCS]
    assert halts.version == 3


@given(st.lists(st.tuples(st.sampled_from(TARGETS), st.booleans()), max_size=30))
def test_after_any_commands_each_target_has_at_most_one_halt_and_the_fold_is_equal(
    commands: list[tuple[HaltTarget, bool]],
) -> None:
    """After each command the halts in force are those of a set of targets."""
    halts, expected, events = Halts(), set[HaltTarget](), list[Event]()
    for target, halt in commands:
        known = halts.on(target)
        if halt:
            decided = decide_halt(halting(target), halts)
            assert len(decided) == (target not in expected)
            expected.add(target)
        elif known is not None:
            decided = decide_halt(resuming(known.halt_id), halts)
            expected.discard(target)
        else:
            continue
        for event in decided:
            halts = evolve_halts(halts, event)
            events.append(event)
        assert {one.target for one in halts.in_force} == expected
        assert len(halts.in_force) == len(expected)
        assert halts.version == len(events)
    assert fold_halts(events) == halts
    assert len({halt.halt_id for halt in halts.halts}) == len(halts.halts)


def due_order(**changes: Any) -> DueOrder:
    """An order with one slice, due at T0."""
    order = DueOrder(
        order_id=uuid4(),
        version=2,
        order_unique_key="ouk_1",
        instrument="NSE:TCS",
        side="BUY",
        placed_by="desk",
        trace_id="t1",
        unsettled=(Slice(sequence_number=1, quantity=7, scheduled_at=T0),),
    )
    return msgspec.structs.replace(order, **changes)


def release(seconds: float, halts: Halts) -> ReleaseSlices:
    return ReleaseSlices(
        max_delay_seconds=60,
        halts=halts,
        released_by="releaser-1",
        at=T0 + timedelta(seconds=seconds),
        request_id="r1",
        recorded_by=API,
    )


@pytest.mark.parametrize("target", [ALL, TCS, DESK], ids=lambda target: target.scope)
def test_a_slice_of_a_halted_order_is_not_released_but_expires(target: HaltTarget) -> None:
    halts = halted(target)
    assert release_due(release(0, halts), due_order()) == ()
    assert release_due(release(59.999, halts), due_order()) == ()
    (expired,) = release_due(release(60, halts), due_order())
    assert isinstance(expired, SlicesExpired)


@pytest.mark.parametrize("target", [ALL, TCS, DESK], ids=lambda target: target.scope)
def test_an_order_decides_by_its_own_instrument_and_caller(target: HaltTarget) -> None:
    created = order_created(
        "ouk_1", timestamp=T0, instrument="NSE:TCS", placed_by="desk", release=True
    )
    order = fold([created, slices_scheduled(created)])
    assert order is not None
    assert decide(release(0, halted(INFY, ALGO)), order) != ()
    assert decide(release(0, halted(target)), order) == ()


def test_a_slice_of_an_order_that_no_halt_covers_is_released() -> None:
    (released,) = release_due(release(0, halted(INFY, ALGO)), due_order())
    assert isinstance(released, SlicesReleased)


def test_an_unknown_scope_or_command_raises_assertion_error() -> None:
    unknown: Any = "SECTOR"
    with pytest.raises(AssertionError, match="SECTOR"):
        HaltTarget(scope=unknown).covers("NSE:TCS", "desk")
    with pytest.raises(AssertionError, match="SECTOR"):
        decide_halt(unknown, Halts())
