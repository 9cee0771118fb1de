"""Spans of OpenTelemetry. This module needs the extra `otel`: only pulse.tracing imports it."""

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, get_args

import structlog
from msgspec import UNSET
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan

from pulse.code_version import code_version
from pulse.domain import TraceContext

_log = structlog.get_logger(__name__)

MAX_CLOSE_SECONDS: Final = 3.0
"""How long a stopping process exports queued spans at most. The remaining ones are lost."""

_TRACE_ID: Final = slice(3, 35)
_SPAN_ID: Final = slice(36, 52)
_FLAGS: Final = slice(53, 55)

Kind = Literal["SERVER", "CLIENT", "CONSUMER", "INTERNAL"]
_KINDS: Final[Mapping[Kind, SpanKind]] = {kind: SpanKind[kind] for kind in get_args(Kind)}
Attributes = Mapping[str, str | int | float | bool]


class Span:
    """A span that has started. A span that is never ended is not exported."""

    __slots__ = ("_span", "context")

    def __init__(self, span: OtelSpan) -> None:
        self._span = span
        self.context = _trace_context(span.get_span_context())
        """The trace context that names this span."""

    def name(self, name: str) -> None:
        """Change its name."""
        self._span.update_name(name)

    def set(self, attributes: Attributes) -> None:
        """Set attributes."""
        self._span.set_attributes(attributes)

    def link(self, context: TraceContext) -> None:
        """Link it to a span of another trace."""
        self._span.add_link(_span_context(context))

    def end(self, *, error: str | None = None, at_ns: int | None = None) -> None:
        """End the span; with an `error`, the name of a class or a code, it is marked as failed."""
        if error is not None:
            self._span.set_attribute("error.type", error)
            self._span.set_status(StatusCode.ERROR)
        self._span.end(at_ns)


class Spans:
    """Starts the spans of this process. Those that have ended are exported in batches, by a thread.

    The queue is bounded: while the collector cannot be reached, spans are dropped.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("pulse", code_version())

    def start(  # noqa: PLR0913 - what a span can have
        self,
        name: str,
        kind: Kind,
        parent: TraceContext | None,
        *,
        attributes: Attributes | None = None,
        links: Iterable[TraceContext] = (),
        at_ns: int | None = None,
    ) -> Span:
        """Start a span, the first of a new trace if there is no parent.

        The sampler decides whether it is recorded; by default it follows the parent.
        """
        context = Context()
        if parent is not None:
            context = set_span_in_context(NonRecordingSpan(_span_context(parent)), context)
        linked = [Link(_span_context(link)) for link in links]
        span = self._tracer.start_span(
            name,
            context,
            kind=_KINDS[kind],
            attributes=attributes,
            links=linked,
            start_time=at_ns,
            record_exception=False,
        )
        return Span(span)

    async def close(self) -> None:
        """Export what is queued, for at most MAX_CLOSE_SECONDS."""
        loop = asyncio.get_running_loop()
        closed = asyncio.Event()

        def close() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(closed.set)

        # A daemon, unlike the threads of an executor: it must not keep the process from ending.
        threading.Thread(target=close, daemon=True, name="pulse-spans").start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MAX_CLOSE_SECONDS):
                await closed.wait()


class _ReportingExporter(SpanExporter):
    """An exporter that logs once when exports begin to fail, and once when they succeed again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export the spans."""
        result = self._exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failing:
            _log.warning(
                "traces.export_failed",
                consequence="spans are lost until the collector can be reached",
                remedy="check OTEL_EXPORTER_OTLP_ENDPOINT and the collector",
            )
        elif self._failing and not failed:
            _log.info("traces.export_restored")
        self._failing = failed
        return result

    def shutdown(self) -> None:
        """Close its connections."""
        self._exporter.shutdown()


def start(service_name: str) -> Spans:
    """Start exporting as the OTEL_* variables say. OTEL_SERVICE_NAME overrides the service name."""
    # The exporter logs each attempt with the endpoint, which may contain a password.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    provider = TracerProvider(resource=_resource(service_name), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_ReportingExporter(OTLPSpanExporter())))
    return Spans(provider)


def _resource(service_name: str) -> Resource:
    named = Resource.create()
    own: dict[str, str | int] = {
        "service.version": code_version(),
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
    }
    if str(named.attributes["service.name"]).startswith("unknown_service"):
        own["service.name"] = service_name
    return named.merge(Resource(own))


def _span_context(context: TraceContext) -> SpanContext:
    """The context for OpenTelemetry; INVALID_SPAN_CONTEXT if the traceparent is malformed."""
    parent, state = context.traceparent, context.tracestate
    try:
        return SpanContext(
            int(parent[_TRACE_ID], 16),
            int(parent[_SPAN_ID], 16),
            is_remote=True,
            trace_flags=TraceFlags(int(parent[_FLAGS], 16)),
            trace_state=None if state is UNSET else TraceState.from_header([state]),
        )
    except ValueError:
        return INVALID_SPAN_CONTEXT


def _trace_context(span: SpanContext) -> TraceContext:
    return TraceContext(
        traceparent=f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}",
        tracestate=span.trace_state.to_header() if span.trace_state else UNSET,
    )
