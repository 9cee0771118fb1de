"""Spans that are kept in memory, as OpenTelemetry's own tests keep them."""

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pulse.domain import TraceContext
from pulse.spans import Spans


class KeptSpans:
    """`spans` starts spans; `ended` and `named` return those that have ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.spans = Spans(provider)

    @property
    def ended(self) -> tuple[ReadableSpan, ...]:
        """Every span that has ended."""
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        """Every ended span with this name."""
        return [span for span in self.ended if span.name == name]


def ids_of(context: TraceContext) -> tuple[int, int]:
    """The trace id and the span id of a context."""
    _, trace_id, span_id, _ = context.traceparent.split("-")
    return int(trace_id, 16), int(span_id, 16)


def own_ids(span: ReadableSpan) -> tuple[int, int]:
    """Its trace id and its span id."""
    context: Any = span.context
    return context.trace_id, context.span_id


def links_of(span: ReadableSpan) -> list[tuple[int, int]]:
    """The ids of the spans that it is linked with."""
    return [(link.context.trace_id, link.context.span_id) for link in span.links]
