"""The types of ASGI, and the keys that Pulse adds to the scope of a request."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, cast

from pulse.application.callers import Caller
from pulse.domain import Trace

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
ASGIApp = Callable[[Any, Receive, Send], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]

CALLER_KEY: Final = "pulse.caller"
"""The `Caller`, set by the auth middleware."""
TRACE_KEY: Final = "pulse.trace"
ORDER_ID_KEY: Final = "pulse.order_id"
"""The id of the order that the request placed, for its log line and its span."""
POSITION_KEY: Final = "pulse.position"
"""The position of the newest event that the request wrote or found, for a header of the answer."""
HEAD_KEY: Final = "pulse.head"
"""Set for a HEAD request, which is processed as GET: the response must not stream."""
SECURITY_HEADERS_KEY: Final = "pulse.security_headers"
"""Security headers for this response instead of SECURITY_HEADERS."""

ANONYMOUS: Final = Caller()


def caller_in(scope: Mapping[str, object]) -> Caller:
    """The caller of a request.

    Raises:
        KeyError: the auth middleware does not cover this path, which is a bug.
    """
    return cast("Caller", scope[CALLER_KEY])


def caller_name(scope: Mapping[str, Any]) -> str:
    """The name by which a caller's requests are counted; its address if it is anonymous."""
    caller = scope.get(CALLER_KEY)
    if caller is not None and caller is not ANONYMOUS and caller != ANONYMOUS:
        return str(caller.placed_by)
    client = scope.get("client")
    return str(client[0]) if client else ""


def trace_in(scope: Mapping[str, object]) -> Trace:
    """The trace of a request."""
    return cast("Trace", scope[TRACE_KEY])


def security_headers(
    content_security_policy: str,
    *,
    cache_control: str = "no-store",
    referrer_policy: str = "no-referrer",
) -> RawHeaders:
    """The headers that restrict what a browser does with a response."""
    return [
        (b"cache-control", cache_control.encode("ascii")),
        (b"content-security-policy", content_security_policy.encode("ascii")),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"referrer-policy", referrer_policy.encode("ascii")),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
    ]


_NO_CONTENT: Final = "default-src 'none'; frame-ancestors 'none'"
SECURITY_HEADERS: Final = security_headers(_NO_CONTENT)
"""The security headers of a response unless its scope has SECURITY_HEADERS_KEY."""

IMMUTABLE_HEADERS: Final = security_headers(
    _NO_CONTENT, cache_control="private, max-age=31536000, immutable"
)
"""The security headers of a response that clients may cache: its path always has this content."""
