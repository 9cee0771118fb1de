"""The four tracing headers: taken where valid, made where absent, echoed on every response."""

import re
from typing import Final, cast

from litestar.types import Scope

from pulse.application import new_request_id, new_trace_id
from pulse.domain import Trace

SCOPE_KEY: Final = "pulse.trace"
_MAX_CHARACTERS: Final = 128
_VALID = re.compile(rb"[!-~]{1,128}")
_INVISIBLE = re.compile(r"[^!-~]")

_TRACE_ID: Final = b"x-trace-id"
_REQUEST_ID: Final = b"x-request-id"
_TRACE_SOURCE: Final = b"x-trace-source"
_REQUEST_SOURCE: Final = b"x-request-source"
_HEADERS: Final = frozenset((_TRACE_ID, _REQUEST_ID, _TRACE_SOURCE, _REQUEST_SOURCE))

RawHeaders = list[tuple[bytes, bytes]]


def trace_of(method: str, path: str, headers: RawHeaders) -> Trace:
    """The trace of a request; an id or source that is absent or invalid is made here."""
    given = {
        name: value.decode("ascii")
        for name, value in headers
        if name in _HEADERS and _VALID.fullmatch(value)
    }
    source = _own_source(method, path)
    return Trace(
        trace_id=given.get(_TRACE_ID) or new_trace_id(),
        trace_source=given.get(_TRACE_SOURCE) or source,
        request_id=given.get(_REQUEST_ID) or new_request_id(),
        request_source=given.get(_REQUEST_SOURCE) or source,
    )


def headers_of(trace: Trace) -> RawHeaders:
    """The headers that carry a trace."""
    return [
        (_TRACE_ID, trace.trace_id.encode("ascii")),
        (_REQUEST_ID, trace.request_id.encode("ascii")),
        (_TRACE_SOURCE, trace.trace_source.encode("ascii")),
        (_REQUEST_SOURCE, trace.request_source.encode("ascii")),
    ]


def trace_in(scope: Scope) -> Trace:
    """The trace the root laid into the request's scope."""
    return cast("dict[str, Trace]", scope)[SCOPE_KEY]


def _own_source(method: str, path: str) -> str:
    return _INVISIBLE.sub("?", f"PULSE:{method}{path}")[:_MAX_CHARACTERS]
