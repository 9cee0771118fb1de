"""Two servers, one the synchronous replica of the other, that change places."""

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
    """A primary and its replica. Looks like a `Server` to a house."""

    def __init__(self, home: Path) -> None:
        self.primary, self.replica = Node(home / "one"), Node(home / "two")
        self.url = url_of_nodes(self.primary, self.replica)
        self.conninfo = self.url

    @classmethod
    @asynccontextmanager
    async def running(cls, home: Path) -> AsyncIterator["Replicated"]:
        """Both running and in step, migrated."""
        pair = cls(home)
        try:
            await asyncio.to_thread(pair._begin)
            await Migrations(REVISIONS).migrate(pair.primary.conninfo, PostgresLimits())
            await pair.follow()
            yield pair
        finally:
            for node in (pair.primary, pair.replica):
                await asyncio.to_thread(node.stop_immediately)

    def _begin(self) -> None:
        self.primary.make()
        self.primary.start()

    async def follow(self) -> None:
        """A new replica of the primary; returns when no commit goes without it."""
        await asyncio.to_thread(self.replica.copy_of, self.primary, follow=True)
        await asyncio.to_thread(self.replica.start)
        await self._tell_primary("ALTER SYSTEM SET synchronous_standby_names = '*'")
        async with asyncio.timeout(60):
            while await self.fetch("SELECT sync_state FROM pg_stat_replication") != [("sync",)]:
                await asyncio.sleep(0.05)
            # What was accepted before that must have arrived too.
            ((end,),) = await self.fetch("SELECT pg_current_wal_flush_lsn()::text")
            caught_up = "SELECT flush_lsn >= %s::pg_lsn FROM pg_stat_replication"
            while await self.fetch(caught_up, end) != [(True,)]:
                await asyncio.sleep(0.05)

    async def fail_over(self) -> None:
        """The primary dies, the replica takes over alone; returns when it takes writes."""
        await asyncio.to_thread(self.primary.stop_immediately)
        self.primary, self.replica = self.replica, self.primary
        await asyncio.to_thread(self.primary.promote)
        await self._tell_primary("ALTER SYSTEM SET synchronous_standby_names = ''")

    async def fetch(self, statement: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of any statement, from the primary."""
        return await fetch_from(self.primary.conninfo, statement, *parameters)

    async def _tell_primary(self, setting: LiteralString) -> None:
        await self.fetch(setting)
        await self.fetch("SELECT pg_reload_conf()")
