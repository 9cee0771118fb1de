"""Fixes for two bugs of uvicorn 0.54 that any caller can exploit. Delete when uvicorn fixes them.

- Over HTTP/2 uvicorn replies to every PING and SETTINGS frame of a peer that reads nothing, and
  buffers response bodies beyond the peer's window: one connection can use up the memory.
- A path that is not ASCII raises: the caller gets no response, and a traceback is logged.

docs/decisions/0011 has the reproductions.
"""

import zttp
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http import auto_zttp_impl, zttp_h2_impl
from uvicorn.protocols.http.zttp_h2_impl import ZttpH2Protocol
from uvicorn.protocols.http.zttp_impl import ZttpProtocol


class HTTP1(ZttpProtocol):
    """Answers 400 to a path that is not ASCII, as to every other malformed request."""

    def handle_events(self, event: zttp.Event) -> None:
        """Handle parsed events; answer 400 to a path that is not ASCII."""
        try:
            super().handle_events(event)
        except UnicodeDecodeError:
            self.handle_remote_protocol_error()


class _Response(zttp_h2_impl.RequestResponseCycle):
    """Delays each part of a response while the one before is beyond the peer's window."""

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if self.conn.has_pending_send():
            self.flow.pause_writing()


class HTTP2(ZttpH2Protocol):
    """Buffers at most one response beyond the peer's window; others wait (backpressure).

    It stops reading from a peer that does not read its responses.
    """

    _transport_full = False

    def data_received(self, data: bytes) -> None:
        """Handle frames; replies to them may have filled the transport."""
        super().data_received(data)
        self._bound_buffers()

    def handle_request(self, event: zttp.Request) -> None:
        """Begin a stream, or reset it if its path is not ASCII."""
        try:
            super().handle_request(event)
        except UnicodeDecodeError:
            self.conn.stream(event.stream_id).reset()

    def on_response_complete(self, stream_id: int) -> None:
        """A response is complete; part of it may wait for the peer's window."""
        super().on_response_complete(stream_id)
        self._bound_buffers()

    def pause_writing(self) -> None:
        """The transport buffers more than its high-water mark."""
        self._transport_full = True
        self._bound_buffers()

    def resume_writing(self) -> None:
        """The peer has read."""
        self._transport_full = False
        self._bound_buffers()

    def _bound_buffers(self) -> None:
        if self._transport_full or self.conn.has_pending_send():
            self.flow.pause_writing()
        else:
            self.flow.resume_writing()
        if self._transport_full:
            self.flow.pause_reading()
        else:
            self.resume_reading_if_idle()


def fix_uvicorn() -> None:
    """Replace uvicorn's zttp protocol classes in this process."""
    zttp_h2_impl.RequestResponseCycle = _Response  # type: ignore[misc] # the module's own class
    auto_zttp_impl.ZttpProtocol = HTTP1  # type: ignore[attr-defined] # the module's own import
    auto_zttp_impl.ZttpH2Protocol = HTTP2  # type: ignore[attr-defined] # same
