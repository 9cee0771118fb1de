"""The HTTP server of the command: says where it listens once it does, and ends well when told."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn

from pulse.cli.exits import COULD_NOT_START, CouldNotStart
from pulse.cli.protocol import PulseProtocol
from pulse.http.root import Root
from pulse.settings import Settings

_GRACE_SECONDS: Final = 15
_LAST_READ_SECONDS: Final = 0.1
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class _Server(uvicorn.Server):
    """Uvicorn that greets when it listens, and ends well when it is told to stop.

    Uvicorn itself raises the signal again once it has stopped, which would make a clean stop look
    like a crash to whoever started it.
    """

    def __init__(self, config: uvicorn.Config, greeting: str) -> None:
        super().__init__(config)
        self._greeting = greeting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(self._greeting, flush=True)  # noqa: T201 - said to whoever ran the command

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Hang up on nobody: who has connected is accepted, what they have sent is read."""
        loop = asyncio.get_running_loop()
        for connection in self._stop_listening():
            await loop.connect_accepted_socket(self._protocol, connection)
        await asyncio.sleep(_LAST_READ_SECONDS)
        await super().shutdown(sockets)

    def _stop_listening(self) -> list[socket.socket]:
        """Close the listeners and return the connections that wait in their backlogs.

        Closing a listener resets whoever is in its backlog; a duplicate keeps it open until all
        of them are taken out.
        """
        waiting: list[socket.socket] = []
        for server in self.servers:
            listeners = [socket.fromfd(s.fileno(), s.family, s.type) for s in server.sockets]
            server.close()
            for listener in listeners:
                with listener, contextlib.suppress(OSError):
                    listener.setblocking(False)
                    while True:
                        waiting.append(listener.accept()[0])
        return waiting

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in _STOP_SIGNALS:
                loop.remove_signal_handler(number)


def serve(app: Root, settings: Settings, greeting: str) -> None:
    """Serve until a signal says stop.

    Raises:
        CouldNotStart: the address cannot be listened on, or the application did not come up; the
            log says why.
    """
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=PulseProtocol,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config, greeting)
    try:
        server.run()
    except SystemExit:
        if server.started:
            raise
    if server.started:
        return
    if server.lifespan.should_exit:
        raise SystemExit(COULD_NOT_START)
    raise CouldNotStart(f"cannot listen on {url_of(settings)}: choose another --host or --port")


def url_of(settings: Settings) -> str:
    """The server's root."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"
