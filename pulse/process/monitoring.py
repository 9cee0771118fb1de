"""The monitoring port: metrics and health of a process that serves no API."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import structlog
import uvicorn

from pulse.application.readiness import Readiness
from pulse.process.apps import monitoring_app
from pulse.process.listening import BACKLOG, bind, root_url
from pulse.process.uvicorn_fixes import fix_uvicorn
from pulse.settings import Settings

_log = structlog.get_logger(__name__)
_GRACE_SECONDS = 1


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handlers: the process handles signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind_monitoring(host: str, port: int) -> list[socket.socket]:
    """The sockets of the monitoring port.

    Raises:
        CannotListen: the port is in use, or the host is unknown.
    """
    sockets = bind(host, port, "choose another PULSE_MONITORING_PORT or PULSE_HOST")
    _log.info("monitoring.listening", url=root_url(host, port))
    return sockets


@asynccontextmanager
async def serve_monitoring(
    settings: Settings, sockets: list[socket.socket], readiness: Readiness
) -> AsyncIterator[None]:
    """Serve metrics and health on these sockets until the context ends."""
    fix_uvicorn()
    config = uvicorn.Config(
        monitoring_app(settings, readiness),
        http="zttp",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        backlog=BACKLOG,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config)
    running = asyncio.create_task(server.serve(sockets))
    try:
        yield
    finally:
        server.should_exit = True
        await running
