"""Serves an application, or a group of processes, until a signal."""

import asyncio
import socket
from typing import Final

from pulse.cli.exits import COULD_NOT_START, CouldNotStart
from pulse.cli.terminal import announce
from pulse.http.root import Root
from pulse.process import listening
from pulse.process.group.directory import NoDirectory
from pulse.process.group.supervisor import GroupSize, ProcessGroup
from pulse.process.http_server import HttpServer
from pulse.process.listening import CannotListen, root_url
from pulse.settings import Settings

_REMEDY: Final = "choose another --host or --port"


def serve(app: Root, settings: Settings, greeting: str) -> None:
    """Serve HTTP/1.1 and HTTP/2 without TLS until SIGINT or SIGTERM.

    After the signal, requests in flight have up to 15 s to finish.

    Raises:
        CouldNotStart: it cannot listen on the address.
        SystemExit: the application did not start; the log says why.
    """
    sockets = bind(settings)
    server = HttpServer(app, lambda: announce(greeting))
    try:
        server.run(sockets)
    except SystemExit:
        if server.started:
            raise
    if not server.started:
        raise SystemExit(COULD_NOT_START)


def serve_group(settings: Settings, size: GroupSize, greeting: str) -> None:
    """Serve with several processes on one port until SIGINT or SIGTERM; SIGHUP restarts them.

    Raises:
        CouldNotStart: it cannot listen on the address, or has no directory for temporary files.
        SystemExit: a process did not start; the log says why.
    """
    sockets = bind(settings)
    group = ProcessGroup(settings, size, sockets, on_serving=lambda: announce(greeting))
    try:
        started = asyncio.run(group.run())
    except NoDirectory as error:
        raise CouldNotStart(str(error)) from error
    if not started:
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
