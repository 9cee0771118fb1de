from datetime import UTC, datetime, timedelta
from uuid import uuid4

from pulse.application.event_view import LogEntry, event_view
from pulse.domain import Event
from pulse.eventstore import RecordedEvent
from pulse.http.console.order_history import MAX_RAW, UNREADABLE, raw_json, steps_of
from tests.support.events import MAPPER, order_cancelled, order_created, slices_scheduled

AT = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)


def entry(event: Event, position: int, recorded_at: datetime) -> LogEntry:
    """The event as it is read from the log."""
    stored = MAPPER.to_stored_event(event)
    record = RecordedEvent(
        position,
        event.originator_id,
        event.originator_version,
        stored.topic,
        stored.state,
        recorded_at,
    )
    return LogEntry(event_view(record, MAPPER), event)


def test_each_event_is_a_step_with_both_clocks() -> None:
    created = order_created("k", timestamp=AT)
    split = slices_scheduled(created)
    first = entry(created, 7, AT + timedelta(milliseconds=3))
    second = entry(split, 9, AT + timedelta(seconds=1, milliseconds=903))

    one, two = steps_of(created.originator_id, [first, second])

    assert (one.version, one.position, one.type) == (1, 7, "OrderCreated")
    assert one.sentence == ("An order to BUY 100 shares of NSE:RELIANCE was accepted from tester.")
    assert (one.occurred_at, one.difference) == (AT, "3.000 ms later")
    assert one.elapsed is None
    assert two.elapsed == "1.9 s"
    assert two.recorded_by == split.recorded_by
    assert two.path.endswith(f"/{created.originator_id}?version=2")
    assert two.trace_path is not None
    assert two.trace_path.endswith("?trace_id=t1")


def test_the_elapsed_time_is_between_the_recorded_times() -> None:
    created = order_created("k", timestamp=AT)
    cancelled = order_cancelled(created)

    _, step = steps_of(
        created.originator_id,
        [entry(created, 1, AT), entry(cancelled, 2, AT + timedelta(milliseconds=42))],
    )

    assert step.elapsed == "42 ms"
    assert "cancelled what was left of it, 100 shares" in step.sentence


def test_an_event_that_cannot_be_read_is_shown_as_stored() -> None:
    record = RecordedEvent(3, uuid4(), 2, "other:Thing", b"\x00not json", AT)
    view = event_view(record, MAPPER)

    (step,) = steps_of(record.originator_id, [LogEntry(view, None)])

    assert step.sentence == UNREADABLE
    assert step.type == "other:Thing"
    assert (step.recorded_by, step.trace, step.trace_path) == (None, None, None)
    assert record.state.hex() in raw_json(view)


def test_the_raw_event_is_json_over_several_lines() -> None:
    created = order_created("k", timestamp=AT)

    (step,) = steps_of(created.originator_id, [entry(created, 1, AT)])

    assert step.raw is not None
    assert step.raw.startswith("{\n")
    assert '"order_unique_key": "k"' in step.raw


def test_a_long_history_omits_the_json() -> None:
    created = order_created("k", timestamp=AT)
    history = [entry(created, position, AT) for position in range(MAX_RAW + 1)]

    steps = steps_of(created.originator_id, history)

    assert {step.raw for step in steps} == {None}
    assert steps[0].event_path.endswith("/events/1")
