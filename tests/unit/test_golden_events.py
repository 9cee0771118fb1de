"""The stored form of each event, in each class version.

Never edit an entry: a released event changes by a new class version and an upcast, with another
entry.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
import pytest
from eventsourcing.persistence import StoredEvent
from hypothesis import given

from pulse.domain import (
    EVENT_TYPES,
    HALTS_STREAM_ID,
    Event,
    OrderCancelled,
    OrderCreated,
    RecordedBy,
    ReleasesHalted,
    ReleasesResumed,
    Slice,
    SlicesExpired,
    SlicesReleased,
    SlicesScheduled,
    SplittingFailed,
    TimedOut,
    Trace,
    TraceContext,
    fold,
    fold_halts,
)
from pulse.eventstore.mapper import EventMapper
from pulse.testing import check_schedule
from tests.support.histories import histories, lives

GOLDEN: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "domain" / "golden" / "events.json").read_text(encoding="utf-8")
)

HALT_ID = UUID("69a696fa-539e-50da-af7b-eadeac3915f1")
ORDER_ID = UUID("46f5b2e9-658a-582a-aa31-54b305a74065")
T0 = datetime(2026, 3, 2, 3, 45, tzinfo=UTC)
WORKER = RecordedBy(component="worker", instance="worker-1", code_version="0.1.0")
WORKERS_TRACE = Trace(
    trace_id="t1772423100abcdef012345",
    trace_source="PULSE_BACKGROUND:worker-1",
    request_id="r1772423101abcdef012345",
    request_source="PULSE_BACKGROUND:worker-1",
)

API = RecordedBy(component="api", instance="api-1", code_version="0.1.0")
CALLERS_TRACE = Trace(
    trace_id="t1772423100abcdef012345",
    trace_source="PULSE:POST/internal/orders",
    request_id="r1772423100abcdef012345",
    request_source="PULSE:POST/internal/orders",
)
CONTEXT = TraceContext(
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    tracestate="vendor=opaque",
)
RELEASER = RecordedBy(component="releaser", instance="releaser-1", code_version="0.1.0")
RELEASERS_TRACE = Trace(
    trace_id="t1772423100abcdef012345",
    trace_source="PULSE_BACKGROUND:releaser-1",
    request_id="r1772423103abcdef012345",
    request_source="PULSE_BACKGROUND:releaser-1",
)

CREATED: Final = OrderCreated(
    originator_id=ORDER_ID,
    originator_version=1,
    timestamp=T0,
    recorded_by=API,
    trace=CALLERS_TRACE,
    key_scope="internal",
    order_unique_key='ouk "№7" é',
    instrument="NSE:M&M",
    side="BUY",
    total_quantity=1_000_000_000,
    num_splits=2,
    duration_minutes=1440,
    randomize=True,
    start_at=None,
    session_policy=None,
    split_seed="ffffffffffffffff",
    splitter_version=1,
    placed_by="anonymous",
    release=True,
    window_starts_at=T0,
    applied_policy="NONE",
    sessions=(),
    calendar_digest=None,
)
CREATED_V1: Final = msgspec.structs.replace(CREATED, release=False)
"""Class version 1 has no `release`."""

NEXT_OPEN: Final = T0 + timedelta(days=1)
CREATED_IN_SESSIONS: Final = msgspec.structs.replace(
    CREATED,
    start_at=T0 - timedelta(hours=1),
    session_policy="ROLL",
    splitter_version=2,
    applied_policy="ROLL",
    sessions=(
        (T0, T0 + timedelta(hours=6)),
        (NEXT_OPEN, NEXT_OPEN + timedelta(hours=18, microseconds=1)),
    ),
    calendar_digest="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
)

EVENTS: Final[tuple[Event, ...]] = (
    CREATED_V1,
    SlicesScheduled(
        originator_id=ORDER_ID,
        originator_version=2,
        timestamp=T0 + timedelta(seconds=1, microseconds=250_000),
        recorded_by=WORKER,
        trace=WORKERS_TRACE,
        slices=(
            Slice(sequence_number=1, quantity=499_999_999, scheduled_at=T0),
            Slice(
                sequence_number=2,
                quantity=500_000_001,
                scheduled_at=T0 + timedelta(days=1),
            ),
        ),
        splitter_version=1,
        worker="worker-1",
        claimed_at=T0 + timedelta(seconds=1, microseconds=1),
    ),
    SplittingFailed(
        originator_id=ORDER_ID,
        originator_version=2,
        timestamp=T0 + timedelta(minutes=6),
        recorded_by=WORKER,
        trace=WORKERS_TRACE,
        reason="TOO_LATE",
        message="first claimed 360.0 s after its creation, later than the 300 s allowed",
        worker="worker-1",
        claimed_at=T0 + timedelta(minutes=6),
    ),
    TimedOut(
        originator_id=ORDER_ID,
        originator_version=2,
        timestamp=T0 + timedelta(minutes=5),
        recorded_by=RecordedBy(component="monitor", instance="monitor-1", code_version="0.1.0"),
        trace=Trace(
            trace_id="t1772423100abcdef012345",
            trace_source="PULSE_BACKGROUND:monitor-1",
            request_id="r1772423400abcdef012345",
            request_source="PULSE_BACKGROUND:monitor-1",
        ),
        claimed_by="worker-1",
        claimed_at=T0 + timedelta(seconds=2),
        timeout_seconds=300.0,
        detected_by="monitor-1",
    ),
    CREATED,
    OrderCancelled(
        originator_id=ORDER_ID,
        originator_version=2,
        timestamp=T0 + timedelta(seconds=3),
        recorded_by=API,
        trace=CALLERS_TRACE,
        sequence_numbers=(),
        quantity=1_000_000_000,
        reason=None,
        cancelled_by="anonymous",
    ),
    OrderCancelled(
        originator_id=ORDER_ID,
        originator_version=4,
        timestamp=T0 + timedelta(seconds=3),
        recorded_by=API,
        trace=CALLERS_TRACE,
        sequence_numbers=(2,),
        quantity=500_000_001,
        reason='"closed" №7',
        cancelled_by="anonymous",
    ),
    SlicesReleased(
        originator_id=ORDER_ID,
        originator_version=3,
        timestamp=T0 + timedelta(seconds=1, microseconds=300_000),
        recorded_by=RELEASER,
        trace=RELEASERS_TRACE,
        order_unique_key='ouk "№7" é',
        instrument="NSE:M&M",
        side="BUY",
        slices=(Slice(sequence_number=1, quantity=499_999_999, scheduled_at=T0),),
    ),
    SlicesExpired(
        originator_id=ORDER_ID,
        originator_version=3,
        timestamp=T0 + timedelta(days=2),
        recorded_by=RELEASER,
        trace=RELEASERS_TRACE,
        sequence_numbers=(1, 2),
        quantity=1_000_000_000,
        reason="RELEASE_TOO_LATE",
    ),
    CREATED_IN_SESSIONS,
    OrderCancelled(
        originator_id=ORDER_ID,
        originator_version=2,
        timestamp=T0 + timedelta(seconds=3),
        recorded_by=API,
        trace=CALLERS_TRACE.within(CONTEXT),
        sequence_numbers=(),
        quantity=1_000_000_000,
        reason=None,
        cancelled_by="anonymous",
    ),
    ReleasesHalted(
        originator_id=HALTS_STREAM_ID,
        originator_version=1,
        timestamp=T0 + timedelta(hours=1),
        recorded_by=API,
        trace=CALLERS_TRACE,
        halt_id=HALT_ID,
        scope="INSTRUMENT",
        instrument="NSE:M&M",
        placed_by=None,
        reason='"wrong" price №7',
        halted_by="risk-desk",
    ),
    ReleasesResumed(
        originator_id=HALTS_STREAM_ID,
        originator_version=2,
        timestamp=T0 + timedelta(hours=2),
        recorded_by=API,
        trace=CALLERS_TRACE,
        halt_id=HALT_ID,
        reason=None,
        resumed_by="risk-desk",
    ),
)


def stored_form(golden: dict[str, Any]) -> StoredEvent:
    """The entry as it is stored; `state` is an object in the file, so that it can be read."""
    state = json.dumps(golden["state"], ensure_ascii=False, separators=(",", ":"))
    return StoredEvent(
        originator_id=UUID(golden["originator_id"]),
        originator_version=golden["originator_version"],
        topic=golden["topic"],
        state=state.encode(),
    )


def class_version_of(golden: dict[str, Any]) -> int:
    version: int = golden["state"].get("class_version", 1)
    return version


PINNED: Final = pytest.mark.parametrize(
    ("event", "golden"),
    [
        pytest.param(event, golden, id=f"{type(event).__name__}-v{class_version_of(golden)}")
        for event, golden in zip(EVENTS, GOLDEN, strict=True)
    ],
)


def test_every_class_version_of_every_event_has_an_entry() -> None:
    pinned = {(golden["topic"], class_version_of(golden)) for golden in GOLDEN}
    assert pinned == {
        (event_type.TOPIC, version)
        for event_type in EVENT_TYPES
        for version in range(1, event_type.class_version + 1)
    }


@PINNED
def test_an_event_is_stored_in_the_current_version_byte_for_byte(
    event: Event, golden: dict[str, Any]
) -> None:
    stored = EventMapper().to_stored_event(event)
    if class_version_of(golden) == event.class_version:
        assert stored == stored_form(golden)
    else:
        assert b'"class_version":%d' % event.class_version in stored.state


@PINNED
def test_an_event_is_encoded_in_the_version_it_was_stored_in_byte_for_byte(
    event: Event, golden: dict[str, Any]
) -> None:
    stored = stored_form(golden)
    assert EventMapper().state_as_stored(event, stored) == stored.state


@PINNED
def test_a_stored_event_of_any_version_is_read(event: Event, golden: dict[str, Any]) -> None:
    assert EventMapper().to_domain_event(stored_form(golden)) == event


@given(histories() | lives())
def test_every_history_is_read_as_it_was_written(history: tuple[Event, ...]) -> None:
    mapper = EventMapper()
    stored = [mapper.to_stored_event(event) for event in history]
    assert [mapper.to_domain_event(event) for event in stored] == list(history)
    for event, written in zip(history, stored, strict=True):
        assert mapper.state_as_stored(event, written) == written.state


@pytest.mark.parametrize("numbers", [(0, 1), (4, 1, 7, 6), (4, 1, 8), (4, 5), (9,)], ids=str)
def test_the_samples_are_possible_histories(numbers: tuple[int, ...]) -> None:
    order = fold(EVENTS[number] for number in numbers)
    assert order is not None
    if order.slices:
        check_schedule(order, order.slices)


def test_the_samples_of_halts_are_a_possible_history() -> None:
    (halt,) = fold_halts(EVENTS[-2:]).halts
    assert halt.halt_id == HALT_ID
    assert halt.lifted_by == "risk-desk"
