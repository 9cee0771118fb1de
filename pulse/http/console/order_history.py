"""The history of an order as a timeline: each event with both clocks and what wrote it."""

from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from pulse.application.event_sentences import sentence_of
from pulse.application.event_view import EventView, LogEntry
from pulse.domain import Event, RecordedBy, Trace
from pulse.http.console.order_filters import ORDERS_PATH, orders_path
from pulse.rfc3339 import format_time
from pulse.wording import clock_difference, format_duration

MAX_RAW: Final = 30
"""The longest history that is shown with the JSON of each event. An order can have 102 events."""
MAX_RAW_CHARACTERS: Final = 4_000
"""The longest JSON of an event that is shown in the history."""
UNREADABLE: Final = "This event is another program's, or this code cannot read it."


class Step(NamedTuple):
    """An event of the timeline.

    `elapsed` is the time since the event before it, by the clock of the database. `difference` is
    how much later than `occurred_at` it was recorded. `raw` is the event as JSON with line breaks;
    None in a long history or if it is long itself: then `event_path` leads to it.
    """

    version: int
    position: int
    type: str
    sentence: str
    occurred_at: datetime | str | None
    recorded_at: datetime
    difference: str | None
    elapsed: str | None
    recorded_by: RecordedBy | None
    trace: Trace | None
    raw: str | None
    path: str
    event_path: str
    trace_path: str | None


def steps_of(order_id: UUID, entries: Iterable[LogEntry]) -> list[Step]:
    """The steps, oldest first. More than MAX_RAW of them are without their JSON."""
    known = list(entries)
    with_raw = len(known) <= MAX_RAW
    elapsed = [None, *(_elapsed(before.view, after.view) for before, after in pairwise(known))]
    return [
        step_of(order_id, one, since, with_raw=with_raw)
        for one, since in zip(known, elapsed, strict=True)
    ]


def step_of(
    order_id: UUID, entry: LogEntry, elapsed: str | None = None, *, with_raw: bool = False
) -> Step:
    """One event as a step."""
    view, event = entry.view, entry.event
    raw = raw_json(view) if with_raw else ""
    return Step(
        version=view.version,
        position=view.position,
        type=view.type,
        sentence=UNREADABLE if event is None else _sentence(event),
        occurred_at=view.occurred_at if event is None else event.timestamp,
        recorded_at=view.recorded_at,
        difference=None if event is None else clock_difference(event.timestamp, view.recorded_at),
        elapsed=elapsed,
        recorded_by=None if event is None else event.recorded_by,
        trace=None if event is None else event.trace,
        raw=raw if 0 < len(raw) <= MAX_RAW_CHARACTERS else None,
        path=f"{ORDERS_PATH}/{order_id}?version={view.version}",
        event_path=f"{ORDERS_PATH}/{order_id}/events/{view.version}",
        trace_path=None if event is None else orders_path(trace_id=event.trace.trace_id),
    )


def raw_json(view: EventView) -> str:
    """The event as the API answers it, one field a line."""
    return msgspec.json.format(msgspec.json.encode(view), indent=2).decode()


def _sentence(event: Event) -> str:
    text = sentence_of(event, format_time)
    return f"S{text[1:]}" if text.startswith("slice") else text


def _elapsed(before: EventView, after: EventView) -> str:
    seconds = (after.recorded_at - before.recorded_at).total_seconds()
    return f"{seconds * 1000:.0f} ms" if 0 <= seconds < 1 else format_duration(seconds)
