"""The stored form of each event, pinned for ever.

Never edit an entry: a released event changes by a new class version and an upcast, with an entry of
its own beside the old one.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from eventsourcing.persistence import StoredEvent
from hypothesis import given, settings

from pulse.domain import (
    EVENT_TYPES,
    Event,
    OrderCreated,
    RecordedBy,
    Slice,
    SlicesScheduled,
    SplittingFailed,
    TimedOut,
    Trace,
    fold,
)
from pulse.eventstore.mapper import EventMapper
from pulse.testing import check_schedule
from tests.support.histories import histories

GOLDEN: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "domain" / "golden" / "events.json").read_text(encoding="utf-8")
)

ORDER_ID = UUID("46f5b2e9-658a-582a-aa31-54b305a74065")
T0 = datetime(2026, 3, 2, 3, 45, tzinfo=UTC)
WORKER = RecordedBy(component="worker", instance="worker-1", code_version="0.1.0")
WORKERS_TRACE = Trace(
    trace_id="t1772423100abcdef012345",
    trace_source="PULSE_BACKGROUND:worker-1",
    request_id="r1772423101abcdef012345",
    request_source="PULSE_BACKGROUND:worker-1",
)

EVENTS: tuple[Event, ...] = (
    OrderCreated(
        originator_id=ORDER_ID,
        originator_version=1,
        timestamp=T0,
        recorded_by=RecordedBy(component="api", instance="api-1", code_version="0.1.0"),
        trace=Trace(
            trace_id="t1772423100abcdef012345",
            trace_source="PULSE:POST/internal/orders",
            request_id="r1772423100abcdef012345",
            request_source="PULSE:POST/internal/orders",
        ),
        key_scope="internal",
        order_unique_key='ouk "№7" é',
        instrument="NSE:M&M",
        side="BUY",
        total_quantity=1_000_000_000,
        num_splits=2,
        duration_minutes=1440,
        randomize=True,
        split_seed="ffffffffffffffff",
        splitter_version=1,
        placed_by="anonymous",
        release=True,
    ),
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
)


def stored_form(golden: dict[str, Any]) -> StoredEvent:
    """The entry as it lies in the log: `state` is written as an object so that one can read it."""
    state = json.dumps(golden["state"], ensure_ascii=False, separators=(",", ":"))
    return StoredEvent(
        originator_id=UUID(golden["originator_id"]),
        originator_version=golden["originator_version"],
        topic=golden["topic"],
        state=state.encode(),
    )


PINNED = pytest.mark.parametrize(
    ("event", "golden"),
    list(zip(EVENTS, GOLDEN, strict=True)),
    ids=[type(event).__name__ for event in EVENTS],
)


def test_every_event_is_pinned() -> None:
    assert {type(event) for event in EVENTS} == set(EVENT_TYPES)


@PINNED
def test_an_event_is_stored_byte_for_byte_in_its_pinned_form(
    event: Event, golden: dict[str, Any]
) -> None:
    assert EventMapper().to_stored_event(event) == stored_form(golden)


@PINNED
def test_a_stored_event_is_read_as_the_event_it_was(event: Event, golden: dict[str, Any]) -> None:
    assert EventMapper().to_domain_event(stored_form(golden)) == event


@settings(max_examples=100, deadline=None)
@given(histories())
def test_every_history_is_read_back_as_it_was_written(history: tuple[Event, ...]) -> None:
    mapper = EventMapper()
    read_back = [mapper.to_domain_event(mapper.to_stored_event(event)) for event in history]
    assert read_back == list(history)


def test_the_sample_schedule_keeps_every_rule() -> None:
    order = fold(EVENTS[:2])
    assert order is not None
    check_schedule(order, order.slices)
