"""Postgres down while Pulse runs: 503 without long waits, then recovery without a restart."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tests.support.orders import BATCH, ORDERS, body, fault, fault_in, order, placed, post
from tests.support.waiting import DEADLINE_SECONDS, until

LONGER_THAN_A_RECONNECT_SECONDS = 3.0


@contextmanager
def database_down(postgres: str, conninfo: str) -> Iterator[None]:
    """The database refuses connections, and existing ones are terminated."""
    name = conninfo_to_dict(conninfo)["dbname"]
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(allow.format(sql.Identifier(str(name)), sql.SQL("false")))
        try:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
            yield
        finally:
            admin.execute(allow.format(sql.Identifier(str(name)), sql.SQL("true")))


async def test_while_postgres_is_down_all_but_health_is_503_and_then_it_resumes(
    api: httpx.AsyncClient, postgres: str, conninfo: str
) -> None:
    before = await placed(api)
    request = order()
    with database_down(postgres, conninfo):
        started = time.monotonic()
        while time.monotonic() - started < LONGER_THAN_A_RECONNECT_SECONDS:
            async with asyncio.timeout(DEADLINE_SECONDS):
                refused, unread, no_history, batch, not_ready, health = await asyncio.gather(
                    post(api, request),
                    api.get(f"{ORDERS}/{before}"),
                    api.get(f"{ORDERS}/{before}/events"),
                    post(api, b"[" + body() + b"," + body(side=None) + b"]", BATCH),
                    api.get("/pulse/health/ready"),
                    api.get("/pulse/health"),
                )
            for response in (refused, unread, no_history, not_ready):
                fault(response, 503, "UNAVAILABLE")
            assert int(refused.headers["retry-after"]) >= 1
            results = batch.json()["results"]
            assert [result["status"] for result in results] == [503, 400]
            fault_in(results[0]["body"], "UNAVAILABLE")
            assert health.status_code == 200
        fault(await post(api, body(side='"HOLD"')), 400, "INVALID_REQUEST")

    async def accepted_again() -> bool:
        return (await post(api, request)).status_code in {200, 201}

    async def all_is_done() -> bool:
        ready = await api.get("/pulse/health/ready")
        order_id = (await post(api, request)).json().get("order_id")  # 503 while the pool fills
        orders = [(await api.get(f"{ORDERS}/{i}")).json() for i in (before, order_id)]
        completed = [o.get("order_queue_status") == "COMPLETED" for o in orders]
        return ready.status_code == 200 and all(completed)

    await until(accepted_again, "orders are accepted again")
    await until(all_is_done, "the workers go on, and the process is ready")


async def test_connections_that_are_all_lost_at_once_are_replaced(
    api: httpx.AsyncClient, postgres: str, conninfo: str
) -> None:
    """A restart of Postgres leaves dead connections in the pool, which replaces them."""
    order_id = await placed(api)
    with database_down(postgres, conninfo):
        pass
    responses = await asyncio.gather(
        *(post(api, order()) for _ in range(20)),
        *(api.get(f"{ORDERS}/{order_id}") for _ in range(20)),
    )
    for response in responses:
        if response.status_code not in {200, 201}:
            fault(response, 503, "UNAVAILABLE")
    assert (await post(api, order())).status_code == 201
    assert (await api.get(f"{ORDERS}/{order_id}")).status_code == 200
