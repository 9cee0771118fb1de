"""Uvicorn as the `pulse` commands run it: the zttp parser, HTTP/2, and a clean stop on a signal."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Final

import uvicorn

from pulse.http.root import Root
from pulse.process.listening import BACKLOG
from pulse.process.startup import STOP_SIGNALS
from pulse.process.uvicorn_fixes import HTTP2, fix_uvicorn

GRACE_SECONDS: Final = 15
"""How long requests in flight may take after a stop signal."""

KEEP_ALIVE_SECONDS: Final = 5
"""A connection without a request for this long is closed."""

_POLL_SECONDS: Final = 0.05
_CLOSE: Final = (b"connection", b"close")


class HttpServer(uvicorn.Server):
    """Uvicorn that calls `on_serving` when it serves, and returns normally after a stop signal.

    Uvicorn itself raises the signal again after the shutdown, so a clean shutdown would look like
    a crash to the parent process.
    """

    def __init__(self, app: Root, on_serving: Callable[[], None]) -> None:
        fix_uvicorn()
        super().__init__(_config(app))
        self._on_serving = on_serving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then accept connections of these sockets."""
        await super().startup(sockets)
        if self.started:
            self._on_serving()

    async def drain(self) -> None:
        """Hand over to another process that listens on the same sockets; then stop as on SIGTERM.

        Accepts no more connections. Each HTTP/1.1 connection gets one more response, which closes
        it, or is closed by the idle timeout. Its request is lost only if it arrives just as the
        timeout closes the connection, which can also happen without a hand-over. An idle HTTP/2
        connection is closed; on a busy one new streams are answered 503.
        """
        for server in self.servers:
            server.close()
        self.config.encoded_headers.append(_CLOSE)  # uvicorn copies these every second
        self.server_state.default_headers.append(_CLOSE)
        for connection in list(self.server_state.connections):
            if isinstance(connection, HTTP2):
                connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KEEP_ALIVE_SECONDS + 1):
                while (  # noqa: ASYNC110 - uvicorn has no event for this
                    self.server_state.connections and not self.should_exit
                ):
                    await asyncio.sleep(_POLL_SECONDS)
        if not self.should_exit:
            os.kill(os.getpid(), signal.SIGTERM)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        self.should_exit = True


def _config(app: Root) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="uvloop",
        http="zttp",
        http2=True,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        backlog=BACKLOG,
        proxy_headers=False,  # Pulse does not use the peer address that a proxy reports
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
