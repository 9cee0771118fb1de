"""The ASGI lifespan: ready for the first request, and failures of start and stop."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from structlog.testing import capture_logs

from pulse.errors import PulseError
from pulse.http.root import Mounts, Root
from pulse.process.apps import gateway_app
from pulse.settings import Settings
from tests.support.api import client_of, lifespan_of, root_of, serving
from tests.support.database import as_runtime
from tests.support.orders import ORDERS, fault, fault_in, order, placed, post
from tests.support.waiting import until


async def messages_of(app: Root) -> list[dict[str, Any]]:
    """The messages of the application when it is started and stopped at once."""
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup" if not said else "lifespan.shutdown"}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    await app({"type": "lifespan"}, receive, send)
    return said


async def test_the_very_first_order_after_the_start_is_accepted(conninfo: str) -> None:
    for _ in range(5):
        async with serving(Settings(database_url=as_runtime(conninfo))) as client:
            assert (await post(client, order())).status_code == 201


async def test_an_order_that_one_process_accepted_is_found_by_the_next(conninfo: str) -> None:
    request = order()
    settings = Settings(database_url=as_runtime(conninfo))
    async with serving(settings) as client:
        order_id = await placed(client, request)
    async with serving(settings) as client:
        assert (await client.get(f"{ORDERS}/{order_id}")).status_code == 200
        assert (await post(client, request)).status_code == 200


async def test_two_processes_serve_the_same_orders(conninfo: str) -> None:
    settings = Settings(database_url=as_runtime(conninfo))
    async with serving(settings) as one, serving(settings) as two:
        request = order()
        order_id = await placed(one, request)
        assert (await two.get(f"{ORDERS}/{order_id}")).json()["order_id"] == order_id
        assert (await post(two, request)).status_code == 200
        other = await post(two, {**request, "side": "SELL"})
        assert fault(other, 409, "DUPLICATE_ORDER_UNIQUE_KEY")["existing_order_id"] == order_id


async def test_a_stopped_process_leaves_no_connection(postgres: str, conninfo: str) -> None:
    name = str(conninfo_to_dict(conninfo)["dbname"])
    async with serving(Settings(database_url=as_runtime(conninfo))) as client:
        await placed(client)

    async def none_left() -> bool:
        async with await psycopg.AsyncConnection.connect(postgres) as connection:
            cursor = await connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
            return await cursor.fetchone() == (0,)

    await until(none_left, "every connection is closed")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PulseError("the disk is full"), "the disk is full"),
        (ZeroDivisionError("secret"), "Pulse crashed at {}; the error is in the log"),
    ],
)
@pytest.mark.parametrize("stage", ["startup", "shutdown"])
async def test_a_failed_start_or_stop_is_reported(
    stage: str, error: Exception, message: str
) -> None:
    """A server takes a raise for an application without a lifespan, and would serve nothing."""

    @asynccontextmanager
    async def failing_mounts() -> AsyncIterator[Mounts]:
        if stage == "startup":
            raise error
        yield {}
        raise error

    said = await messages_of(Root(failing_mounts))
    assert said[-1] == {"type": f"lifespan.{stage}.failed", "message": message.format(stage)}


async def test_a_crash_of_the_application_is_a_plain_500() -> None:
    async def crash(*_: object) -> None:
        raise ZeroDivisionError("SELECT secret")

    async with root_of(crash, at="/pulse") as app, client_of(app) as client:
        fault(await client.get("/pulse/health"), 500, "INTERNAL_ERROR")
        fault(await client.get("/elsewhere"), 404, "NOT_FOUND")


async def test_an_outdated_schema_is_not_served_where_migrating_is_off(
    conninfo: str,
) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute("DELETE FROM pulse_schema WHERE revision > 1")
    async with serving(Settings(database_url=as_runtime(conninfo), migrate=False)) as client:
        checks = fault(await client.get("/pulse/health/ready"), 503, "UNAVAILABLE")["checks"]
        assert "migrate" in checks["schema"]


async def test_requests_in_flight_at_the_end_of_the_grace_period_are_503() -> None:
    said: list[dict[str, Any]] = []
    arrived = asyncio.Event()

    async def hanging(*_: object) -> None:
        arrived.set()
        await asyncio.Event().wait()

    @asynccontextmanager
    async def mounts() -> AsyncIterator[Mounts]:
        yield {"": hanging}

    async def nothing_more() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    root = Root(mounts)
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/x",
        "raw_path": b"/x",
        "headers": [],
    }
    async with lifespan_of(root):
        answering = asyncio.ensure_future(root(scope, nothing_more, send))
        await arrived.wait()
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answering
    assert said[0]["status"] == 503
    assert fault_in(json.loads(said[1]["body"]), "UNAVAILABLE") == {}


async def test_a_parser_that_misreads_requests_is_named_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = gateway_app(Settings())
    with capture_logs() as logged:
        async with lifespan_of(app):
            pass
        assert "http.unsafe_parser" not in {entry["event"] for entry in logged}
        name = "uvicorn.protocols.http.httptools_impl"
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        async with lifespan_of(app):
            pass
    (warning,) = (entry for entry in logged if entry["event"] == "http.unsafe_parser")
    assert warning["log_level"] == "warning"
    assert "--http zttp" in warning["remedy"]
