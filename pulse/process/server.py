"""Which Postgres this process uses: the one it is told of, or an embedded one it keeps alive."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

import structlog

from pulse.errors import PulseError
from pulse.postgres.embedded import EmbeddedServer
from pulse.settings import Settings

_log = structlog.get_logger(__name__)
_WATCH_SECONDS: Final = 0.5


class Server(Protocol):
    """A Postgres server as the process sees it."""

    @property
    def conninfo(self) -> str:
        """Where it is."""

    async def watch(self) -> None:
        """See to it, until cancelled, that it runs, as far as that is this process's business."""


class ExternalServer:
    """Somebody else's server: its running is theirs to see to."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo

    async def watch(self) -> None:
        """Nothing to do."""


class WatchedEmbeddedServer:
    """The embedded server, started again when it is found dead."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server

    @property
    def conninfo(self) -> str:
        """Its socket."""
        return self._server.conninfo

    async def watch(self) -> None:
        """Look every half second."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            try:
                if await asyncio.to_thread(self._server.ensure_running):
                    _log.warning("postgres.restarted", reason="the embedded server had died")
            except PulseError as error:
                _log.error("postgres.not_restarted", error=str(error))


@asynccontextmanager
async def open_server(settings: Settings) -> AsyncIterator[Server]:
    """The server of these settings, while in use.

    Raises:
        EmbeddedServerError: none is named and the embedded one cannot run here.
    """
    if settings.database_url is not None:
        yield ExternalServer(settings.database_url)
        return
    embedded = await asyncio.to_thread(EmbeddedServer.acquire, settings.data_dir)
    try:
        yield WatchedEmbeddedServer(embedded)
    finally:
        await asyncio.to_thread(embedded.release)
