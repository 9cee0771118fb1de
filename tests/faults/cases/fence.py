"""Clients that write to each Postgres directly, to record which one accepts writes, and when."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID, uuid4

import psycopg

from tests.cluster.cluster import Cluster
from tests.cluster.host import Host
from tests.faults.server import fetch_from

_PAUSE_SECONDS: Final = 0.05
_KNOWN_SECONDS: Final = 60.0
_TABLE: Final = "CREATE TABLE IF NOT EXISTS fence_probe (id uuid, host text)"


class FenceProbe:
    """When the old primary last accepted a write and another server first, by this machine's clock.

    A write of the old primary counts even if no replica confirms it.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.last_old = 0.0
        self.first_new = float("inf")
        self._cluster = cluster
        self._confirmed: set[UUID] = set()

    @classmethod
    @asynccontextmanager
    async def writing_to(cls, cluster: Cluster, old: Host) -> AsyncIterator["FenceProbe"]:
        """Writes to every server until exit; `old` is the primary now."""
        probe = cls(cluster)
        await fetch_from(cluster.conninfo_of(old), _TABLE)
        writing = [
            asyncio.ensure_future(probe._write(cluster.conninfo_of(host), host, old, confirmed=c))
            for host in cluster.postgres
            for c in ((False, True) if host is old else (False,))
        ]
        try:
            yield probe
        finally:
            for each in writing:
                each.cancel()
            await asyncio.wait(writing)

    async def until_both_known(self) -> None:
        """Wait until another server has accepted a write."""
        async with asyncio.timeout(_KNOWN_SECONDS):
            while self.first_new == float("inf"):
                await asyncio.sleep(_PAUSE_SECONDS)

    async def lost(self) -> set[UUID]:
        """The commits that the old primary confirmed and that the new one lacks."""
        primary = await self._cluster.primary()
        assert primary is not None
        rows = await fetch_from(self._cluster.conninfo_of(primary), "SELECT id FROM fence_probe")
        return self._confirmed - {row[0] for row in rows}

    async def _write(self, conninfo: str, host: Host, old: Host, *, confirmed: bool) -> None:
        while True:
            with contextlib.suppress(psycopg.Error):
                async with await psycopg.AsyncConnection.connect(
                    conninfo, autocommit=True, application_name="fence probe"
                ) as connection:
                    if not confirmed:
                        await connection.execute("SET synchronous_commit = local")
                    while True:
                        row = uuid4(), host.name
                        await connection.execute("INSERT INTO fence_probe VALUES (%s, %s)", row)
                        if confirmed:
                            self._confirmed.add(row[0])
                        elif host is old:
                            self.last_old = time.time()
                        else:
                            self.first_new = min(self.first_new, time.time())
                        await asyncio.sleep(_PAUSE_SECONDS)
            await asyncio.sleep(_PAUSE_SECONDS)
