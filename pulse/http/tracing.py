"""The four tracing headers: taken if valid, otherwise generated; echoed on every response.

`traceparent` and `tracestate` of W3C Trace Context are taken if valid. A `traceparent` is generated
only if this process exports spans. Ids, method and path of a request are also bound to its log
lines.
"""

import re
from typing import Final

from msgspec import UNSET
from structlog.contextvars import bind_contextvars

from pulse.application.origin import new_request_id, new_trace_id
from pulse.domain import Trace, TraceContext
from pulse.http.asgi import RawHeaders

_TRACE_ID: Final = b"x-trace-id"
_REQUEST_ID: Final = b"x-request-id"
_TRACE_SOURCE: Final = b"x-trace-source"
_REQUEST_SOURCE: Final = b"x-request-source"
_TRACEPARENT: Final = b"traceparent"
_TRACESTATE: Final = b"tracestate"
W3C_HEADERS: Final = frozenset((_TRACEPARENT, _TRACESTATE))
TRACE_HEADERS: Final = W3C_HEADERS | {_TRACE_ID, _REQUEST_ID, _TRACE_SOURCE, _REQUEST_SOURCE}

_MAX_CHARACTERS: Final = 128
_MAX_LOGGED_CHARACTERS: Final = 256
_VALID: Final = re.compile(rb"[!-~]{1,128}")
_INVISIBLE: Final = re.compile(r"[^!-~]")
_VALID_TRACEPARENT: Final = re.compile(
    rb"(?!ff)([0-9a-f]{2})(-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-)([0-9a-f]{2})(-[!-~]*)?"
)
_VALID_STATE_MEMBER: Final = re.compile(
    rb"[a-z0-9][a-z0-9_*/@-]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
)
_MAX_STATE_BYTES: Final = 512
_MAX_STATE_MEMBERS: Final = 32
_VERSION: Final = b"00"
_SAMPLED: Final = 0x01


def trace_of(method: str, raw_path: bytes, prefix: str, received: dict[bytes, bytes]) -> Trace:
    """The trace of a request, which is also bound to its log lines.

    `raw_path` is the whole path; a generated source omits the `prefix` of the mount.
    """
    path = _visible(raw_path.decode("latin-1"))
    context = None
    source = f"PULSE:{method}{path.removeprefix(prefix)}"[:_MAX_CHARACTERS]
    if received:
        context = _context_in(received)
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
    return trace if context is None else within(trace, context)


def within(trace: Trace, context: TraceContext) -> Trace:
    """The trace in this W3C trace context, whose trace id is also bound to the log lines."""
    bind_contextvars(w3c_trace_id=w3c_trace_id(context.traceparent))
    return trace.within(context)


def w3c_trace_id(traceparent: str) -> str:
    """The trace id in a valid traceparent."""
    return traceparent[3:35]


def headers_of(trace: Trace) -> RawHeaders:
    """The headers that carry a trace."""
    headers = [
        (_TRACE_ID, trace.trace_id.encode("ascii")),
        (_REQUEST_ID, trace.request_id.encode("ascii")),
        (_TRACE_SOURCE, trace.trace_source.encode("ascii")),
        (_REQUEST_SOURCE, trace.request_source.encode("ascii")),
    ]
    if trace.traceparent is not UNSET:
        headers.append((_TRACEPARENT, trace.traceparent.encode("ascii")))
    return headers


def _context_in(received: dict[bytes, bytes]) -> TraceContext | None:
    """The W3C trace context of a request; None if there is none or it is malformed.

    A traceparent of a later version of the standard is converted to version 00.
    """
    matched = _VALID_TRACEPARENT.fullmatch(received.get(_TRACEPARENT, b""))
    if matched is None:
        return None
    version, ids, flags, suffix = matched.groups()
    if version != _VERSION:
        flags = b"%02x" % (int(flags, 16) & _SAMPLED)
    elif suffix is not None:
        return None
    state = _state_in(received.get(_TRACESTATE, b""))
    return TraceContext(
        traceparent=(_VERSION + ids + flags).decode("ascii"),
        tracestate=state.decode("ascii") if state else UNSET,
    )


def _state_in(value: bytes) -> bytes:
    """The tracestate, without spaces around its members; empty if it is malformed or too long."""
    members = [member.strip(b" \t") for member in value.split(b",")]
    members = [member for member in members if member]
    state = b",".join(members)
    valid = all(_VALID_STATE_MEMBER.fullmatch(member) for member in members)
    short = len(members) <= _MAX_STATE_MEMBERS and len(state) <= _MAX_STATE_BYTES
    return state if valid and short else b""


def _text(received: dict[bytes, bytes], name: bytes) -> str:
    return received[name].decode("ascii") if name in received else ""


def _visible(text: str) -> str:
    if text.isascii() and text.isprintable() and " " not in text:
        return text
    return _INVISIBLE.sub("?", text)
