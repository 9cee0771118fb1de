"""The Postgres server of a process: that of PULSE_DATABASE_URL, or an embedded one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from pulse.loop import Job, Loop
from pulse.postgres.embedded import EmbeddedServer
from pulse.process.supervisor import Supervisor
from pulse.settings import Settings

_log = structlog.get_logger(__name__)


class EmbeddedServerWatch(Job[None]):
    """Restarts the embedded server if it has died."""

    name = "embedded-server"
    poll_seconds = 0.5

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server

    async def run_once(self) -> None:
        """Start the server if it is not running.

        Raises:
            EmbeddedServerError: it cannot be started.
        """
        if await asyncio.to_thread(self._server.ensure_running):
            _log.warning("postgres.restarted", reason="the embedded server had died")


@asynccontextmanager
async def open_server(settings: Settings) -> AsyncIterator[str]:
    """Yield the conninfo of the server; an embedded server runs for the length of the context.

    Raises:
        EmbeddedServerError: no database URL is set, and the embedded server cannot run here.
    """
    if settings.database_url is not None:
        yield settings.database_url
        return
    embedded = await asyncio.to_thread(EmbeddedServer.acquire, settings.data_dir)
    try:
        async with Supervisor() as supervisor:
            supervisor.start_loop(Loop(EmbeddedServerWatch(embedded)))
            yield embedded.conninfo
    finally:
        await asyncio.to_thread(embedded.release)
