"""A Postgres with durable settings, for all candidates, with any number of databases."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, LiteralString

import psutil
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pulse.postgres import PostgresLimits
from pulse.postgres.embedded import EmbeddedServer
from pulse.postgres.embedded.directories import ServerPaths
from pulse.postgres.migrations import Migrations
from pulse.process.revisions import REVISIONS
from tests.support.processes import url_of

DURABLE: Final = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "300",
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
}
"""The settings for all candidates. They avoid checkpoints during a turn."""

_TEMPLATE: Final = "bench_template"


class Server:
    """One running server."""

    def __init__(self, conninfo: str, data_dir: Path) -> None:
        self._conninfo = conninfo
        self._cluster = ServerPaths.under(data_dir).cluster
        self._numbers = itertools.count(1)

    @classmethod
    @asynccontextmanager
    async def running(cls, data_dir: Path, **options: str) -> AsyncIterator["Server"]:
        """A running server; `options` are further server settings."""
        embedded = await asyncio.to_thread(EmbeddedServer.acquire, data_dir, {**DURABLE, **options})
        try:
            server = cls(embedded.conninfo, data_dir)
            await server._make_template()
            yield server
        finally:
            await asyncio.to_thread(embedded.release)

    @asynccontextmanager
    async def database(self, *, migrated: bool = True) -> AsyncIterator["Database"]:
        """A new database, by default with Pulse's tables; dropped on exit."""
        name = f"bench_{next(self._numbers)}"
        template = _TEMPLATE if migrated else "template1"
        await self._create(name, template)
        try:
            yield Database(make_conninfo(self._conninfo, dbname=name))
        finally:
            await self._admin(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    @property
    def cpu_seconds(self) -> float:
        """The CPU time of its processes so far, including ended ones."""
        first = (self._cluster / "postmaster.pid").read_text().partition("\n")[0]
        postmaster = psutil.Process(int(first))
        reaped = postmaster.cpu_times()
        total = reaped.children_user + reaped.children_system
        for process in [postmaster, *postmaster.children()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return float(total)

    async def checkpoint(self) -> None:
        """Flush dirty pages, so that no turn includes the writes of earlier turns."""
        await self._admin(sql.SQL("CHECKPOINT"))

    async def _make_template(self) -> None:
        await self._create(_TEMPLATE, "template1")
        conninfo = make_conninfo(self._conninfo, dbname=_TEMPLATE)
        await Migrations(REVISIONS).migrate(conninfo, PostgresLimits())

    async def _create(self, name: str, template: str) -> None:
        parts = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        await self._admin(parts.format(sql.Identifier(name), sql.Identifier(template)))

    async def _admin(self, statement: sql.SQL | sql.Composed) -> None:
        async with await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True) as admin:
            await admin.execute(statement)


class Database:
    """One database."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo
        self.url = url_of(conninfo)

    def connect(self) -> Any:
        """An awaitable connection in autocommit mode."""
        return psycopg.AsyncConnection.connect(self.conninfo, autocommit=True)

    async def rows(self, statement: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
        """Execute a statement on a new connection; returns its rows."""
        async with await self.connect() as connection:
            cursor = await connection.execute(statement, parameters or None)
            return await cursor.fetchall() if cursor.description else []

    async def figure(self, statement: LiteralString, *parameters: Any) -> float:
        """The single number that a statement returns; NULL is 0."""
        return float((await self.rows(statement, *parameters))[0][0] or 0)

    async def until(self, statement: LiteralString, *parameters: Any, seconds: float) -> None:
        """Poll every 20 ms until the statement returns true.

        Raises:
            TimeoutError: it did not within `seconds`.
        """
        async with asyncio.timeout(seconds), await self.connect() as connection:
            while True:
                cursor = await connection.execute(statement, parameters or None)
                if (await cursor.fetchone())[0]:
                    return
                await asyncio.sleep(0.02)
