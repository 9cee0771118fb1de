"""The Postgres server of a process: that of PULSE_DATABASE_URL, or an embedded one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import psycopg
import structlog
from psycopg.conninfo import make_conninfo

from pulse.loop import Job, Loop
from pulse.postgres import PostgresLimits, describe
from pulse.postgres.embedded import EmbeddedServer, EmbeddedServerError
from pulse.postgres.roles import RoleNames, create_login_roles
from pulse.process.background_services import BackgroundServices
from pulse.settings import Settings

_log = structlog.get_logger(__name__)

EMBEDDED_ROLES: Final = RoleNames()
"""The roles of an embedded server, with LOGIN.

Its superuser creates them, migrates, and forks the log.
"""


class Server(msgspec.Struct, frozen=True):
    """The conninfo that a process works with, and that of the superuser of an embedded server.

    `superuser_conninfo` is None for the server of PULSE_DATABASE_URL: operators create its roles.
    """

    conninfo: str
    superuser_conninfo: str | None = None


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
async def open_server(settings: Settings) -> AsyncIterator[Server]:
    """Yield the server; an embedded one runs until the context ends.

    Processes work with an embedded server as its runtime role, which is created if it is missing.

    Raises:
        EmbeddedServerError: no database URL is set, and the embedded server cannot run here, or
            refuses to create its roles.
    """
    if settings.database_url is not None:
        yield Server(settings.database_url)
        return
    embedded = await asyncio.to_thread(EmbeddedServer.acquire, settings.data_dir)
    try:
        try:
            await create_login_roles(embedded.conninfo, PostgresLimits(), EMBEDDED_ROLES)
        except psycopg.Error as error:
            raise EmbeddedServerError(
                f"The embedded Postgres server does not create its roles: {describe(error)}."
            ) from error
        async with BackgroundServices() as services:
            services.start_loop(Loop(EmbeddedServerWatch(embedded)))
            conninfo = make_conninfo(embedded.conninfo, user=EMBEDDED_ROLES.runtime)
            yield Server(conninfo, superuser_conninfo=embedded.conninfo)
    finally:
        await asyncio.to_thread(embedded.release)
