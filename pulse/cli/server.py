"""Runs an application on uvicorn with the zttp parser, and shuts it down on a signal."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterator
from typing import Final

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from pulse.cli.exits import COULD_NOT_START, CouldNotStart
from pulse.cli.terminal import announce
from pulse.http.root import Root
from pulse.process import listening
from pulse.process.listening import CannotListen, reason_of, root_url
from pulse.process.startup import STOP_SIGNALS
from pulse.process.uvicorn_fixes import fix_uvicorn
from pulse.settings import Settings

GRACE_SECONDS: Final = 15
_REMEDY: Final = "choose another --host or --port"


class _Server(uvicorn.Server):
    """Uvicorn that prints a greeting when it listens and returns normally after a stop signal.

    Uvicorn itself raises the signal again after the shutdown, so a clean shutdown would look like
    a crash to the parent process.
    """

    def __init__(self, config: uvicorn.Config, greeting: str) -> None:
        super().__init__(config)
        self.listen_error = ""
        self._greeting = greeting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except OSError as error:
            self.listen_error = reason_of(error)
            await self.lifespan.shutdown()
            sys.exit(STARTUP_FAILURE)
        if self.started:
            announce(self._greeting)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
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


def serve(app: Root, settings: Settings, greeting: str) -> None:
    """Serve HTTP/1.1 and HTTP/2 without TLS until SIGINT or SIGTERM.

    After the signal, requests in flight have up to 15 s to finish.

    Raises:
        CouldNotStart: it cannot listen on the address.
        SystemExit: the application did not start; the log says why.
    """
    fix_uvicorn()
    sockets = bind(settings)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="zttp",
        http2=True,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # Pulse does not use the peer address that a proxy reports
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config, greeting)
    try:
        server.run(sockets)
    except SystemExit:
        if server.started:
            raise
    if server.started:
        return
    if server.listen_error:
        raise CouldNotStart(str(CannotListen(url_of(settings), server.listen_error, _REMEDY)))
    raise SystemExit(COULD_NOT_START)


def url_of(settings: Settings) -> str:
    """The root URL of the server."""
    return root_url(settings.host, settings.port)


def bind(settings: Settings) -> list[socket.socket]:
    """A socket for each address of the host.

    Raises:
        CouldNotStart: the host is unknown, or one of its addresses cannot be used.
    """
    try:
        return listening.bind(settings.host, settings.port, _REMEDY)
    except CannotListen as error:
        raise CouldNotStart(str(error)) from error
