"""A primary with a streaming replica that applies what it receives with a delay."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from tests.faults.node import Node
from tests.support.database import as_runtime, migrate_with_roles
from tests.support.processes import url_of
from tests.support.waiting import until

FAST: Final = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "128MB"}


class Pair:
    """A migrated primary, and a replica of it; both as the role of processes."""

    def __init__(self, home: Path, *, delay_milliseconds: int) -> None:
        delay = {"recovery_min_apply_delay": f"{delay_milliseconds}ms"}
        self.primary = Node(home / "primary", FAST)
        self.replica = Node(home / "replica", {**FAST, **delay})

    @property
    def url(self) -> str:
        """The primary, as PULSE_DATABASE_URL names it."""
        return runtime_url(self.primary)

    @property
    def read_url(self) -> str:
        """The replica, as PULSE_READ_DATABASE_URL names it."""
        return runtime_url(self.replica)

    async def until_streaming(self) -> None:
        """Wait until the replica receives what the primary writes."""

        async def streaming() -> bool:
            rows = await self.primary.fetch("SELECT state FROM pg_stat_replication")
            return rows == [("streaming",)]

        await until(streaming, "the replica streams")

    async def configure(self, name: str, value: str) -> None:
        """Change a setting of the primary; it is in force for the next statement of a session."""
        await self.primary.fetch(f"ALTER SYSTEM SET {name} = '{value}'")  # type: ignore[arg-type]
        await self.primary.fetch("SELECT pg_reload_conf()")

        async def in_force() -> bool:
            rows = await self.primary.fetch("SELECT current_setting(%s)", name)
            return rows == [(value,)]

        await until(in_force, f"{name} is {value!r}")


def runtime_url(node: Node) -> str:
    """The server's URL for the role of processes."""
    return url_of(as_runtime(node.conninfo))


@contextlib.asynccontextmanager
async def replicated(home: Path, *, delay_milliseconds: int = 0) -> AsyncIterator[Pair]:
    """Both servers running; they are stopped on exit."""
    pair = Pair(home, delay_milliseconds=delay_milliseconds)
    try:
        await asyncio.to_thread(pair.primary.make)
        await asyncio.to_thread(pair.primary.start)
        await asyncio.to_thread(migrate_with_roles, pair.primary.conninfo)
        await asyncio.to_thread(pair.replica.copy_of, pair.primary, follow=True)
        await asyncio.to_thread(pair.replica.start)
        await pair.until_streaming()
        yield pair
    finally:
        for node in (pair.replica, pair.primary):
            await asyncio.to_thread(node.stop_immediately)
