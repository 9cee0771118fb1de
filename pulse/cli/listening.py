"""The HTTP server of the command: says where it listens once it does, and ends well when told."""

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import Final, cast

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from pulse.cli.entrance import BACKLOG, Capacity, Entrance
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
        self.obstacle = ""
        self._greeting = greeting
        self._capacity = Capacity(lambda: self.server_state.total_requests, time.monotonic)
        self._entrance: Entrance

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets or [])
        if not self.started:  # the application did not come up
            return
        try:
            listeners = await _bound(self.config.host, self.config.port)
        except OSError as error:
            self.obstacle = (error.strerror or str(error)).lower()
            await self.lifespan.shutdown()
            self.started = False
            sys.exit(STARTUP_FAILURE)
        self._entrance = Entrance(listeners, self._take_in, self._in_flight, self._capacity)
        self._entrance.open()
        print(self._greeting, flush=True)  # noqa: T201 - said to whoever ran the command

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Hang up on nobody: who has connected is accepted, what they have sent is read."""
        for connection in self._entrance.close():
            await self._take_in(connection)
        await asyncio.sleep(_LAST_READ_SECONDS)
        await super().shutdown(sockets)

    async def _take_in(self, connection: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

    def _in_flight(self) -> int:
        """Requests that are here whole; who is slow to send one must not fill the process."""
        begun = len(self.server_state.tasks)
        if begun < self._capacity.most:  # not full anyhow, so nobody need be looked at
            return begun
        connections = cast("set[PulseProtocol]", self.server_state.connections)
        return begun - sum(connection.awaits_body for connection in connections)

    def _protocol(self) -> asyncio.Protocol:
        return PulseProtocol(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            capacity=self._capacity,
        )

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
    raise CouldNotStart(
        f"cannot listen on {url_of(settings)}: {server.obstacle}; choose another --host or --port"
    )


async def _bound(host: str, port: int) -> list[socket.socket]:
    """A socket for each of the host's addresses.

    Raises:
        OSError: there is no such host, or one cannot be had.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listener = socket.socket(family, kind, protocol)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
            listener.setblocking(False)
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def url_of(settings: Settings) -> str:
    """The server's root."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"
