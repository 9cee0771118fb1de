"""A Postgres of the benchmark's own: durable settings for everybody, a database for each turn."""

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
"""For Pulse, floors and peers alike. No checkpoint falls into a turn and none into one's alone."""

_TEMPLATE: Final = "bench_template"


class Server:
    """One running server; `database` makes databases in it."""

    def __init__(self, conninfo: str, data_dir: Path) -> None:
        self._conninfo = conninfo
        self._cluster = ServerPaths.under(data_dir).cluster
        self._numbers = itertools.count(1)

    @classmethod
    @asynccontextmanager
    async def running(cls, data_dir: Path, **options: str) -> AsyncIterator["Server"]:
        """A server while in use; `options` are further server settings."""
        embedded = await asyncio.to_thread(EmbeddedServer.acquire, data_dir, {**DURABLE, **options})
        try:
            server = cls(embedded.conninfo, data_dir)
            await server._make_template()
            yield server
        finally:
            await asyncio.to_thread(embedded.release)

    @asynccontextmanager
    async def database(self, *, migrated: bool = True) -> AsyncIterator["Database"]:
        """A database while in use, with Pulse's tables unless said otherwise."""
        name = f"bench_{next(self._numbers)}"
        template = _TEMPLATE if migrated else "template1"
        await self._create(name, template)
        try:
            yield Database(make_conninfo(self._conninfo, dbname=name))
        finally:
            await self._admin(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    @property
    def cpu_seconds(self) -> float:
        """What its processes have used so far: those that live, and those that it reaped."""
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
        """Write out what is dirty, so that no turn pays for those before it."""
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
    """One database, as those who use it name it."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo
        self.url = url_of(conninfo)

    def connect(self) -> Any:
        """A connection in autocommit; to be awaited."""
        return psycopg.AsyncConnection.connect(self.conninfo, autocommit=True)

    async def rows(self, statement: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of any statement, on a connection of its own."""
        async with await self.connect() as connection:
            cursor = await connection.execute(statement, parameters or None)
            return await cursor.fetchall() if cursor.description else []

    async def figure(self, statement: LiteralString, *parameters: Any) -> float:
        """The one figure of a statement."""
        return float((await self.rows(statement, *parameters))[0][0] or 0)

    async def until(self, statement: LiteralString, *parameters: Any, seconds: float) -> None:
        """Return when that statement's one value is true, looking every 20 ms.

        Raises:
            TimeoutError: it was not in time.
        """
        async with asyncio.timeout(seconds), await self.connect() as connection:
            while True:
                cursor = await connection.execute(statement, parameters or None)
                if (await cursor.fetchone())[0]:
                    return
                await asyncio.sleep(0.02)
