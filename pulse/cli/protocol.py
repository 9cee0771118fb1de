"""Uvicorn's HTTP protocol, but what is no HTTP is answered in the shape of every other error."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from pulse.http.errors import JSON, NotHTTP, answer_for, encode_error
from pulse.http.security import SECURITY_HEADERS
from pulse.http.tracing import headers_of, trace_of


class PulseProtocol(HttpToolsProtocol):
    """One connection."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words are not ours
        """Answer bytes that are no HTTP, and hang up.

        A request that arrived whole before them is answered first and these bytes never: their
        answer would be taken for that request's.
        """
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self.transport.write(_refusal())
        elif not cycle.more_body:
            cycle.keep_alive = False
            self.flow.pause_reading()
            return
        elif not (cycle.response_started or self.pipeline):
            self.transport.write(_refusal())
        self.transport.close()


def _refusal() -> bytes:
    status, body = answer_for(NotHTTP())
    content = encode_error(body)
    headers = [
        (b"content-type", JSON.encode()),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
        *headers_of(trace_of("UNREADABLE", "", [])),
        *SECURITY_HEADERS,
    ]
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"HTTP/1.1 %d Bad Request\r\n%b\r\n%b" % (status, lines, content)
