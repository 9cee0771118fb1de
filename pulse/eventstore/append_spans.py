"""Spans of appends, by the semantic conventions of OpenTelemetry for messaging.

An append is a span of the trace that caused it. A commit writes appends of many traces, so its span
begins a new trace and is linked with the spans of the appends.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pulse.domain import Event
from pulse.eventstore.batch import AppendResult, PendingAppend

if TYPE_CHECKING:
    from pulse.spans import Attributes, Span, Spans


class AppendSpans:
    """The spans of the appends of some events: one for each trace context that the events have."""

    def __init__(self, spans: "Spans", events: Sequence[Event]) -> None:
        names: dict[object, str] = {}
        counts: dict[object, int] = {}
        contexts = [event.trace.context for event in events]
        for context, event in zip(contexts, events, strict=True):
            names.setdefault(context, f"append {type(event).__name__}")
            counts[context] = counts.get(context, 0) + 1
        started = {
            context: spans.start(
                names[context],
                "INTERNAL",
                context,
                attributes={"messaging.batch.message_count": counts[context]},
            )
            for context in dict.fromkeys(contexts)
        }
        self.of_events: list[Span] = [started[context] for context in contexts]
        """The span of each event's append."""

    def end(self, results: Sequence[AppendResult | None]) -> None:
        """End each span, as failed if one of its appends failed. None means cancelled."""
        errors: dict[Span, str | None] = {}
        for span, result in zip(self.of_events, results, strict=True):
            error = None if isinstance(result, tuple) else _name_of(result)
            errors[span] = errors.get(span) or error
        for span, error in errors.items():
            span.end(error=error)


def commit_span(spans: "Spans", batch: Sequence[PendingAppend]) -> "Span | None":
    """The span of the commit of this batch; None if none of its appends has a span."""
    links = dict.fromkeys(append.span.context for append in batch if append.span is not None)
    if not links:
        return None
    attributes: Attributes = {
        "db.system.name": "postgresql",
        "messaging.batch.message_count": sum(len(append.events) for append in batch),
    }
    return spans.start("commit events", "CLIENT", None, attributes=attributes, links=links)


def _name_of(result: AppendResult | None) -> str:
    return "cancelled" if result is None else type(result).__name__
