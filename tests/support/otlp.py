"""A collector of traces: an HTTP server that decodes OTLP as opentelemetry-proto defines it."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Received(NamedTuple):
    """A span as the collector received it. Ids are hexadecimal; a root has an empty parent."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, Any]
    failed: bool
    kind: str


class Collector:
    """The received spans. If `refuse_with` is set, every export is refused with this status."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.refuse_with = 0
        self._spans: list[Received] = []
        self._lock = threading.Lock()

    @property
    def spans(self) -> list[Received]:
        """Every span so far."""
        with self._lock:
            return list(self._spans)

    def of_trace(self, trace_id: str) -> list[Received]:
        """The spans of a trace so far."""
        return [span for span in self.spans if span.trace_id == trace_id]

    def named(self, name: str) -> list[Received]:
        """The spans with this name so far."""
        return [span for span in self.spans if span.name == name]

    def receive(self, body: bytes) -> None:
        """Decode an export."""
        request = ExportTraceServiceRequest.FromString(body)
        with self._lock:
            for resource_spans in request.resource_spans:
                service = _attributes(resource_spans.resource)["service.name"]
                for scope_spans in resource_spans.scope_spans:
                    self._spans += [_received(service, span) for span in scope_spans.spans]


def _received(service: str, span: Any) -> Received:
    return Received(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        _attributes(span),
        span.status.code == span.status.STATUS_CODE_ERROR,
        span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
    )


def _attributes(of: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in of.attributes}


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector that listens on a port of the loopback."""
    received = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            status = received.refuse_with or 200
            if status == 200 and self.path == "/v1/traces":
                received.receive(body)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
