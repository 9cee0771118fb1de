"""A Postgres server with durable settings that can be stopped, started and killed."""

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

from pulse.postgres.embedded import EmbeddedServer
from pulse.postgres.embedded.directories import ServerPaths
from tests.support.database import as_runtime, migrate_with_roles
from tests.support.processes import url_of

DURABLE: Final = {"fsync": "on", "full_page_writes": "on", "max_connections": "300"}


class AnyServer(Protocol):
    """What a deployment needs of its Postgres."""

    @property
    def conninfo(self) -> str:
        """Its connection string."""

    @property
    def url(self) -> str:
        """The same as a PULSE_DATABASE_URL."""

    async def fetch(self, statement: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
        """Execute a statement; returns its rows."""


async def fetch_from(
    conninfo: str, statement: LiteralString, *parameters: Any
) -> list[tuple[Any, ...]]:
    """Execute a statement on a new connection; returns its rows."""
    async with await psycopg.AsyncConnection.connect(
        conninfo, autocommit=True, application_name="faults"
    ) as connection:
        cursor = await connection.execute(statement, parameters)
        return await cursor.fetchall() if cursor.description else []


class Server:
    """A migrated server in one directory."""

    def __init__(self, embedded: EmbeddedServer, data_dir: Path) -> None:
        self._embedded = embedded
        self._cluster = ServerPaths.under(data_dir).cluster

    @classmethod
    @asynccontextmanager
    async def running(cls, data_dir: Path, **options: str) -> AsyncIterator["Server"]:
        """A running server; `options` are further server settings."""
        embedded = await asyncio.to_thread(EmbeddedServer.acquire, data_dir, {**DURABLE, **options})
        try:
            server = cls(embedded, data_dir)
            await asyncio.to_thread(migrate_with_roles, embedded.conninfo)
            yield server
        finally:
            await asyncio.to_thread(embedded.release)

    @property
    def conninfo(self) -> str:
        """The connection string of its local socket."""
        return self._embedded.conninfo

    @property
    def url(self) -> str:
        """The same as PULSE_DATABASE_URL, for the role that processes use."""
        return url_of(as_runtime(self.conninfo))

    @property
    def cluster(self) -> Path:
        """Its data directory."""
        return self._cluster

    @property
    def postmaster(self) -> psutil.Process:
        """The server's main process."""
        return psutil.Process(int((self._cluster / "postmaster.pid").read_text().split()[0]))

    @property
    def is_down(self) -> bool:
        """Whether no postmaster runs."""
        try:
            return not self.postmaster.is_running()
        except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
            return True

    async def stop_immediately(self) -> None:
        """Immediate shutdown, like a power failure: no checkpoint, every connection cut."""
        postmaster = self.postmaster
        postmaster.send_signal(signal.SIGQUIT)
        await asyncio.to_thread(postmaster.wait, 30)

    async def kill_postmaster(self) -> None:
        """SIGKILL of the main process; returns when its backends have noticed it and ended."""
        postmaster = self.postmaster
        backends = postmaster.children(recursive=True)
        postmaster.kill()
        await asyncio.to_thread(psutil.wait_procs, [postmaster, *backends], 30)

    async def start(self) -> None:
        """Start it again; returns when it is ready, after recovery."""
        await asyncio.to_thread(self._embedded.ensure_running)

    async def kill_backend(self, role: str = "") -> bool:
        """SIGKILL a random backend of Pulse's connections of that role, so that Postgres restarts.

        False if there is none.
        """
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
        """Execute a statement on a new connection; returns its rows."""
        return await fetch_from(self.conninfo, statement, *parameters)
