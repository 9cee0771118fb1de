"""Which Postgres a process uses: that of the settings, or an embedded one it keeps running."""

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
    """Starts the embedded server again when it has died."""

    name = "embedded-server"
    poll_seconds = 0.5

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server

    async def run_once(self) -> None:
        """Start it if it does not run.

        Raises:
            EmbeddedServerError: it cannot be started.
        """
        if await asyncio.to_thread(self._server.ensure_running):
            _log.warning("postgres.restarted", reason="the embedded server had died")


@asynccontextmanager
async def open_server(settings: Settings) -> AsyncIterator[str]:
    """The conninfo of the server of these settings, while in use.

    Raises:
        EmbeddedServerError: none is named and the embedded one cannot run here.
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
