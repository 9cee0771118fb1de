"""Spans: their contexts, sampling, and that malformed input and a failing exporter are harmless."""

import threading
from collections.abc import Sequence

import pytest
from msgspec import UNSET
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from pulse import spans as spans_module
from pulse.domain import TraceContext
from pulse.spans import Spans
from tests.support.spans import KeptSpans, ids_of, links_of, own_ids

PARENT = TraceContext(
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    tracestate="vendor=opaque,other=1",
)
NOT_SAMPLED = TraceContext(traceparent=f"{PARENT.traceparent[:-2]}00")
MALFORMED = ["", "x", "00-1-1-01", "00-" + "g" * 32 + "-00f067aa0ba902b7-01", "\u0660" * 55]


def test_a_child_has_the_trace_and_the_state_of_its_parent() -> None:
    kept = KeptSpans()
    span = kept.spans.start("work", "INTERNAL", PARENT)
    assert span.context.traceparent[:36] == PARENT.traceparent[:36]
    assert span.context.traceparent[36:52] != PARENT.traceparent[36:52]
    assert span.context.tracestate == PARENT.tracestate
    span.end()
    (ended,) = kept.ended
    assert own_ids(ended) == ids_of(span.context)
    assert ended.parent is not None
    assert ended.parent.is_remote


def test_without_a_parent_a_trace_begins() -> None:
    kept = KeptSpans()
    contexts = [kept.spans.start("work", "INTERNAL", None).context for _ in range(2)]
    assert len({ids_of(context)[0] for context in contexts}) == 2
    assert all(context.tracestate is UNSET for context in contexts)


def test_a_trace_that_its_caller_does_not_sample_is_not_recorded() -> None:
    kept = KeptSpans()
    span = kept.spans.start("work", "INTERNAL", NOT_SAMPLED)
    assert span.context.traceparent.endswith("-00")
    span.set({"a": 1})
    span.end(error="failed")
    assert kept.ended == ()


@pytest.mark.parametrize("traceparent", MALFORMED, ids=ascii)
def test_a_malformed_stored_context_begins_a_trace(traceparent: str) -> None:
    kept = KeptSpans()
    malformed = TraceContext(traceparent=traceparent, tracestate="=,=")
    span = kept.spans.start("work", "CONSUMER", malformed, links=[malformed, PARENT])
    span.link(malformed)
    span.end()
    (ended,) = kept.ended
    assert ended.parent is None
    assert ids_of(PARENT) in links_of(ended)


async def test_an_exporter_that_hangs_does_not_delay_the_stop_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spans_module, "MAX_CLOSE_SECONDS", 0.1)
    may_end = threading.Event()

    class Hanging(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002 - of the base class
            may_end.wait(60)
            return SpanExportResult.SUCCESS

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Hanging(), schedule_delay_millis=1))
    spans = Spans(provider)
    spans.start("work", "INTERNAL", None).end()
    try:
        await spans.close()
        assert not may_end.is_set()
    finally:
        may_end.set()
