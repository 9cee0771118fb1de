"""A primary, a streaming replica that applies WAL with a delay, and an API that uses both."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import httpx

from pulse.metrics import REGISTRY
from pulse.settings import Settings
from tests.faults.node import Node
from tests.support.api import FEW_CONNECTIONS
from tests.support.database import as_runtime, migrate_with_roles
from tests.support.orders import ORDERS, order, post
from tests.support.processes import url_of
from tests.support.waiting import until

TRIES: Final = 100
FAST: Final = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "128MB"}


class Pair:
    """A migrated primary and its replica. Both URLs are for the role of processes."""

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
        await self.primary.fetch(f"ALTER SYSTEM SET {name} = '{value}'")
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


def settings_of(pair: Pair, **changes: Any) -> Settings:
    known = {"database_url": pair.url, "read_database_url": pair.read_url, "release_slices": False}
    return Settings(**FEW_CONNECTIONS | known | changes)


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def on_replica() -> float:
    return counted("pulse_list_reads_total", server="replica")


async def until_used(client: httpx.AsyncClient) -> None:
    async def used() -> bool:
        before = on_replica()
        await client.get(ORDERS, params={"limit": 1})
        return on_replica() > before

    await until(used, "lists are read on the replica")


async def notices_of(client: httpx.AsyncClient) -> dict[str, str]:
    answer = (await client.get("/pulse/health/ready")).json()
    notices = answer.get("notices") or answer.get("error", {}).get("details", {}).get("notices", [])
    return {notice["code"]: notice["message"] for notice in notices}


async def until_noticed(client: httpx.AsyncClient, reason: str) -> None:
    async def noticed() -> bool:
        return reason in (await notices_of(client)).get("replica_unused", "")

    await until(noticed, f"a notice says {reason!r}")


async def served(request: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """The answer, after retries while the process is overloaded."""
    for _ in range(TRIES):
        answer = await request()
        if answer.status_code != 503:
            return answer
        await asyncio.sleep(0.1)
    return answer


async def place(client: httpx.AsyncClient, **changes: Any) -> tuple[str, str, int]:
    """Place an order; returns its key, its id and the position of the answer."""
    request = order(**changes)
    answer = await served(lambda: post(client, request))
    assert answer.status_code in {200, 201}, answer.text
    position = int(answer.headers["x-pulse-position"])
    return request["order_unique_key"], answer.json()["order_id"], position
