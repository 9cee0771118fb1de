"""A real Postgres of the suite's own, with durable settings, that may be killed."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, LiteralString, Protocol

import psutil
import psycopg

from pulse.postgres import PostgresLimits
from pulse.postgres.embedded import EmbeddedServer
from pulse.postgres.embedded.directories import ServerPaths
from pulse.postgres.migrations import Migrations
from pulse.process.revisions import REVISIONS
from tests.support.processes import url_of

DURABLE: Final = {"fsync": "on", "full_page_writes": "on", "max_connections": "300"}


class AnyServer(Protocol):
    """What a house needs of its Postgres."""

    @property
    def conninfo(self) -> str:
        """Where it is."""

    @property
    def url(self) -> str:
        """The same as PULSE_DATABASE_URL names it."""

    async def fetch(self, statement: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of any statement."""


async def fetch_from(
    conninfo: str, statement: LiteralString, *parameters: Any
) -> list[tuple[Any, ...]]:
    """The rows of any statement, on a connection of its own."""
    async with await psycopg.AsyncConnection.connect(
        conninfo, autocommit=True, application_name="faults"
    ) as connection:
        cursor = await connection.execute(statement, parameters)
        return await cursor.fetchall() if cursor.description else []


class Server:
    """One server in one directory, migrated; started and killed at will."""

    def __init__(self, embedded: EmbeddedServer, data_dir: Path) -> None:
        self._embedded = embedded
        self._cluster = ServerPaths.under(data_dir).cluster

    @classmethod
    @asynccontextmanager
    async def running(cls, data_dir: Path, **options: str) -> AsyncIterator["Server"]:
        """A migrated server while in use; `options` are further server settings."""
        embedded = await asyncio.to_thread(EmbeddedServer.acquire, data_dir, {**DURABLE, **options})
        try:
            server = cls(embedded, data_dir)
            await Migrations(REVISIONS).migrate(embedded.conninfo, PostgresLimits())
            yield server
        finally:
            await asyncio.to_thread(embedded.release)

    @property
    def conninfo(self) -> str:
        """Its local socket."""
        return self._embedded.conninfo

    @property
    def url(self) -> str:
        """The same as PULSE_DATABASE_URL names it."""
        return url_of(self.conninfo)

    @property
    def cluster(self) -> Path:
        """Its data directory."""
        return self._cluster

    @property
    def postmaster(self) -> psutil.Process:
        """The process that all others of the server descend from."""
        return psutil.Process(int((self._cluster / "postmaster.pid").read_text().split()[0]))

    @property
    def is_down(self) -> bool:
        """Whether no postmaster runs."""
        try:
            return not self.postmaster.is_running()
        except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
            return True

    async def stop_immediately(self) -> None:
        """As a power failure: no checkpoint, every connection cut. Back when it is dead."""
        postmaster = self.postmaster
        postmaster.send_signal(signal.SIGQUIT)
        await asyncio.to_thread(postmaster.wait, 30)

    async def start(self) -> None:
        """Start it again and return when it is ready, recovery included."""
        await asyncio.to_thread(self._embedded.ensure_running)

    async def kill_backend(self, role: str = "") -> bool:
        """SIGKILL one backend (of Pulse's connections of that role): the server then recovers."""
        rows = await self.fetch(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE %s"
            " AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1",
            f"pulse:{role}%",
        )
        for (pid,) in rows:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    async def fetch(self, statement: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of any statement, on a connection of its own."""
        return await fetch_from(self.conninfo, statement, *parameters)
