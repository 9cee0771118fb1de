"""A primary and a synchronous replica, with failover."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, LiteralString

from pulse.postgres import PostgresLimits
from pulse.postgres.migrations import Migrations
from pulse.process.revisions import REVISIONS
from tests.faults.node import Node, url_of_nodes
from tests.faults.server import fetch_from


class Replicated:
    """A primary and its replica. A deployment can use it as its server."""

    def __init__(self, home: Path) -> None:
        self.primary, self.replica = Node(home / "one"), Node(home / "two")
        self.url = url_of_nodes(self.primary, self.replica)
        self.conninfo = self.url

    @classmethod
    @asynccontextmanager
    async def running(cls, home: Path) -> AsyncIterator["Replicated"]:
        """Both servers running, migrated and in sync."""
        pair = cls(home)
        try:
            await asyncio.to_thread(pair._start_primary)
            await Migrations(REVISIONS).migrate(pair.primary.conninfo, PostgresLimits())
            await pair.follow()
            yield pair
        finally:
            for node in (pair.primary, pair.replica):
                await asyncio.to_thread(node.stop_immediately)

    def _start_primary(self) -> None:
        self.primary.make()
        self.primary.start()

    async def follow(self) -> None:
        """Create a new replica; returns when every commit waits for it."""
        await asyncio.to_thread(self.replica.copy_of, self.primary, follow=True)
        await asyncio.to_thread(self.replica.start)
        await self._configure_primary("ALTER SYSTEM SET synchronous_standby_names = '*'")
        async with asyncio.timeout(60):
            while await self.fetch("SELECT sync_state FROM pg_stat_replication") != [("sync",)]:
                await asyncio.sleep(0.05)
            # Commits from before the replica was synchronous must have arrived too.
            ((end,),) = await self.fetch("SELECT pg_current_wal_flush_lsn()::text")
            caught_up = "SELECT flush_lsn >= %s::pg_lsn FROM pg_stat_replication"
            while await self.fetch(caught_up, end) != [(True,)]:
                await asyncio.sleep(0.05)

    async def fail_over(self) -> None:
        """Stop the primary and promote the replica; returns when it accepts writes."""
        await asyncio.to_thread(self.primary.stop_immediately)
        self.primary, self.replica = self.replica, self.primary
        await asyncio.to_thread(self.primary.promote)
        await self._configure_primary("ALTER SYSTEM SET synchronous_standby_names = ''")

    async def fetch(self, statement: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
        """Execute a statement on the primary; returns its rows."""
        return await fetch_from(self.primary.conninfo, statement, *parameters)

    async def _configure_primary(self, setting: LiteralString) -> None:
        await self.fetch(setting)
        await self.fetch("SELECT pg_reload_conf()")
