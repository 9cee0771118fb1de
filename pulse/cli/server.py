"""Runs an application on uvicorn with the zttp parser, and shuts it down on a signal."""

import asyncio
import contextlib
import errno
import socket
import sys
from collections.abc import Iterator
from typing import Final

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from pulse.cli.exits import COULD_NOT_START, CouldNotStart
from pulse.cli.terminal import announce
from pulse.cli.uvicorn_fixes import fix_uvicorn
from pulse.http.root import Root
from pulse.process.startup import STOP_SIGNALS
from pulse.settings import Settings

GRACE_SECONDS: Final = 15
STALL_SECONDS: Final = 60
"""A connection breaks when its peer accepts none of the data sent to it for this long."""
_NOT_ON_THIS_MACHINE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


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
            self.listen_error = _reason(error)
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
        raise _cannot_listen(settings, server.listen_error)
    raise SystemExit(COULD_NOT_START)


def url_of(settings: Settings) -> str:
    """The root URL of the server."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"


def bind(settings: Settings) -> list[socket.socket]:
    """A socket for each address of the host; uvicorn listens on them.

    Addresses that this machine does not have are skipped, such as ::1 of `localhost` without IPv6.

    Raises:
        CouldNotStart: the host is unknown, or one of its addresses cannot be used.
    """
    with contextlib.ExitStack() as opened:
        bound: list[socket.socket] = []
        missing: OSError | None = None
        try:
            for family, *_, address in socket.getaddrinfo(
                settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            ):
                try:
                    bound.append(opened.enter_context(_bound(family, address)))
                except OSError as error:
                    if error.errno not in _NOT_ON_THIS_MACHINE:
                        raise
                    missing = error
            if missing is not None and not bound:
                raise missing
        except OSError as error:
            raise _cannot_listen(settings, _reason(error)) from error
        opened.pop_all()
    return bound


def _bound(family: int, address: tuple[object, ...]) -> socket.socket:
    with contextlib.ExitStack() as opened:
        bound = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections inherit it
            milliseconds = STALL_SECONDS * 1000
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        opened.pop_all()
    return bound


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _cannot_listen(settings: Settings, reason: str) -> CouldNotStart:
    return CouldNotStart(
        f"cannot listen on {url_of(settings)}: {reason}; choose another --host or --port"
    )
