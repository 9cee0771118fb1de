"""A span for each request, by the semantic conventions of OpenTelemetry for HTTP servers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pulse.domain import Trace
from pulse.http.limits import HEALTH_PATHS
from pulse.http.metrics import METRICS_PATH
from pulse.http.tracing import within

if TYPE_CHECKING:
    from pulse.spans import Span, Spans

_FIRST_ERROR: Final = 500


class RequestSpans:
    """Starts and ends the spans of requests. Health checks and scrapes of metrics have none."""

    def __init__(self, spans: "Spans") -> None:
        self._spans = spans

    def start(
        self, method: str, prefix: str, scope: Mapping[str, Any], trace: Trace
    ) -> "tuple[Span | None, Trace]":
        """The request's span, a child of the caller's span, and the trace with the new span."""
        if prefix == METRICS_PATH or scope["path"] in HEALTH_PATHS:
            return None, trace
        attributes = {
            "http.request.method": method,
            "url.path": scope["raw_path"].decode("latin-1"),
            "url.scheme": scope.get("scheme", "http"),
            "network.protocol.version": scope["http_version"],
            "pulse.trace_id": trace.trace_id,
            "pulse.request_id": trace.request_id,
        }
        span = self._spans.start(method, "SERVER", trace.context, attributes=attributes)
        return span, within(trace, span.context)

    @staticmethod
    def end(
        span: "Span",
        method: str,
        route: str,
        status: int,
        order_id: UUID | str | None,
    ) -> None:
        """End the span, as failed if the status is a server's error or the client disconnected."""
        attributes: dict[str, str | int] = {"http.route": route}
        if status:
            attributes["http.response.status_code"] = status
        if order_id is not None:
            attributes["pulse.order_id"] = str(order_id)
        span.name(f"{method} {route}")
        span.set(attributes)
        failed = status >= _FIRST_ERROR or not status
        span.end(error=(str(status) if status else "disconnected") if failed else None)
