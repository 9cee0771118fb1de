"""Events as the log page shows them: in a few words, with who caused them, and as JSON."""

from typing import Any, Final, NamedTuple

import msgspec
from markupsafe import Markup

from pulse.application.event_sentences import summary_of
from pulse.application.event_view import EventView, LogEntry
from pulse.printable import printable_lines

MAX_JSON_CHARACTERS: Final = 1_200
"""In a list an event is cut at this size; on a page of its own it is shown in full."""

_INDENT: Final = 1
_ACTORS: Final = (
    *("cancelled_by", "halted_by", "resumed_by"),
    *("worker", "detected_by", "placed_by"),
)
"""The fields that name who caused an event. The first one that an event has is used.

`placed_by` is the last: in the halt of a caller it is the caller whose orders are halted.
"""

_KINDS: Final = {
    "SlicesScheduled": "scheduled",
    "SplittingFailed": "failed",
    "TimedOut": "failed",
    "OrderCancelled": "cancelled",
    "SlicesReleased": "released",
    "SlicesExpired": "expired",
    "ReleasesHalted": "halted",
}
"""The state that an event leads to, for the colour of its type."""


class EventRow(NamedTuple):
    """An event as the page shows it. If `cut`, `json` is only the beginning."""

    event: EventView
    kind: str
    actor: str
    summary: str
    json: Markup
    cut: bool


def event_row(entry: LogEntry, *, whole: bool) -> EventRow:
    """The row of an event; unless `whole`, its JSON is cut at MAX_JSON_CHARACTERS."""
    event = entry.view
    text = printable_lines(msgspec.json.format(msgspec.json.encode(event), indent=_INDENT).decode())
    cut = not whole and len(text) > MAX_JSON_CHARACTERS
    shown = text[:MAX_JSON_CHARACTERS] if cut else text
    return EventRow(
        event=event,
        kind=_KINDS.get(event.type, "other"),
        actor=_actor(event.data),
        summary="" if entry.event is None else summary_of(entry.event),
        json=_as_text(shown),
        cut=cut,
    )


def _actor(data: dict[str, Any]) -> str:
    """Who caused the event, if its data names it. An event of another program may have any data."""
    for name in _ACTORS:
        if isinstance(data.get(name), str):
            return str(data[name])
    recorded_by = data.get("recorded_by")
    return str(recorded_by.get("component", "")) if isinstance(recorded_by, dict) else ""


def _as_text(text: str) -> Markup:
    """The text escaped for the content of an element, where quotes need no escape."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Markup(escaped)  # noqa: S704 - escaped above; JSON would double in size with its quotes
