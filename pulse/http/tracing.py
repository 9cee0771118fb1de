"""The four tracing headers: taken if valid, generated if absent, echoed on every response.

Ids, method and path of a request are also bound to its log lines.
"""

import re
from typing import Final

from structlog.contextvars import bind_contextvars

from pulse.application.origin import new_request_id, new_trace_id
from pulse.domain import Trace
from pulse.http.asgi import RawHeaders

_TRACE_ID: Final = b"x-trace-id"
_REQUEST_ID: Final = b"x-request-id"
_TRACE_SOURCE: Final = b"x-trace-source"
_REQUEST_SOURCE: Final = b"x-request-source"
TRACE_HEADERS: Final = frozenset((_TRACE_ID, _REQUEST_ID, _TRACE_SOURCE, _REQUEST_SOURCE))

_MAX_CHARACTERS: Final = 128
_MAX_LOGGED_CHARACTERS: Final = 256
_VALID: Final = re.compile(rb"[!-~]{1,128}")
_INVISIBLE: Final = re.compile(r"[^!-~]")


def trace_of(method: str, raw_path: bytes, prefix: str, received: dict[bytes, bytes]) -> Trace:
    """The trace of a request, which is also bound to its log lines.

    `raw_path` is the whole path; a generated source omits the `prefix` of the mount.
    """
    path = _visible(raw_path.decode("latin-1"))
    source = f"PULSE:{method}{path.removeprefix(prefix)}"[:_MAX_CHARACTERS]
    if received:
        received = {name: value for name, value in received.items() if _VALID.fullmatch(value)}
    trace = Trace(
        trace_id=_text(received, _TRACE_ID) or new_trace_id(),
        trace_source=_text(received, _TRACE_SOURCE) or source,
        request_id=_text(received, _REQUEST_ID) or new_request_id(),
        request_source=_text(received, _REQUEST_SOURCE) or source,
    )
    bind_contextvars(
        trace_id=trace.trace_id,
        request_id=trace.request_id,
        method=method,
        path=path[:_MAX_LOGGED_CHARACTERS],
    )
    return trace


def headers_of(trace: Trace) -> RawHeaders:
    """The headers that carry a trace."""
    return [
        (_TRACE_ID, trace.trace_id.encode("ascii")),
        (_REQUEST_ID, trace.request_id.encode("ascii")),
        (_TRACE_SOURCE, trace.trace_source.encode("ascii")),
        (_REQUEST_SOURCE, trace.request_source.encode("ascii")),
    ]


def _text(received: dict[bytes, bytes], name: bytes) -> str:
    return received[name].decode("ascii") if name in received else ""


def _visible(text: str) -> str:
    if text.isascii() and text.isprintable() and " " not in text:
        return text
    return _INVISIBLE.sub("?", text)
