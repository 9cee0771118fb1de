"""Readiness: 200 if all checks pass, otherwise 503 with their messages; health is always 200."""

import httpx
import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from tests.support.events import order_created, slices_scheduled, stored
from tests.support.log import write
from tests.support.orders import ORDERS, fault, order
from tests.support.projection import projection_blocked
from tests.support.waiting import until

READY = "/pulse/health/ready"


async def is_healthy(client: httpx.AsyncClient) -> bool:
    return (await client.get("/pulse/health")).status_code == 200


async def test_a_healthy_process_is_ready(api: httpx.AsyncClient) -> None:
    response = await api.get(READY)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json()["status"] == "ready"
    checks = response.json()["checks"]
    assert {"database", "schema", "projection"} <= checks.keys()
    assert set(checks.values()) == {"ok"}


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM pulse_schema WHERE revision = 3",
        "DELETE FROM pulse_schema",
        "DROP TABLE pulse_schema",
    ],
)
async def test_a_schema_that_is_not_current_is_named(
    api: httpx.AsyncClient, conninfo: str, statement: str
) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute(statement)
    checks = fault(await api.get(READY), 503, "UNAVAILABLE")["checks"]
    assert "schema" in checks["schema"]
    assert checks["database"] is None
    assert await is_healthy(api)


async def append_recorded_ago(conninfo: str, ago: str) -> None:
    async with await psycopg.AsyncConnection.connect(conninfo) as connection:
        await connection.execute(
            "INSERT INTO stored_events"
            " (originator_id, originator_version, topic, state, recorded_at)"
            " SELECT gen_random_uuid(), 1, 'elsewhere:Thing', '{}',"
            " clock_timestamp() - %s::interval",
            (ago,),
        )


async def test_a_projection_a_little_behind_is_ready(api: httpx.AsyncClient, conninfo: str) -> None:
    async with projection_blocked(conninfo):
        await append_recorded_ago(conninfo, "8 s")
        assert (await api.get(READY)).status_code == 200


async def test_a_projection_more_than_ten_seconds_behind_is_named(
    api: httpx.AsyncClient, conninfo: str
) -> None:
    async with projection_blocked(conninfo):
        await append_recorded_ago(conninfo, "11 s")
        checks = fault(await api.get(READY), 503, "UNAVAILABLE")["checks"]
        assert "behind" in checks["projection"]
        assert checks["database"] is checks["schema"] is None
        assert await is_healthy(api)

    async def is_ready() -> bool:
        return (await api.get(READY)).status_code == 200

    await until(is_ready, "the projection has caught up")


async def test_parked_orders_and_those_for_newer_code_are_counted_and_keep_it_ready(
    api: httpx.AsyncClient, conninfo: str
) -> None:
    poisoned = order_created()
    write(conninfo, StoredEvent(poisoned.originator_id, 1, poisoned.TOPIC, b"{}"))
    write(conninfo, stored([order_created(splitter_version=99)])[0])

    async def both_are_counted() -> bool:
        answer = (await api.get(READY)).json()
        return (answer.get("parked_orders"), answer.get("orders_for_newer_code")) == (1, 1)

    await until(both_are_counted, "readiness counts them")
    assert (await api.get(READY)).status_code == 200


async def test_an_order_settled_by_newer_code_is_503_to_read_and_200_to_post_again(
    api: httpx.AsyncClient, conninfo: str
) -> None:
    request = order()
    created = order_created(
        request["order_unique_key"],
        instrument=request["instrument"],
        side=request["side"],
        total_quantity=request["total_quantity"],
        **{"randomize": True} | request["split_config"],
    )
    outcome = stored([slices_scheduled(created)])[0]
    newer = outcome.state[:-1] + b',"class_version":2}'
    settled = StoredEvent(created.originator_id, 2, outcome.topic, newer)
    write(conninfo, stored([created])[0], settled)  # together: no worker comes between

    fault(await api.get(f"{ORDERS}/{created.originator_id}"), 503, "UNAVAILABLE")
    again = await api.post(ORDERS, json=request)
    assert (again.status_code, again.json()["order_id"]) == (200, str(created.originator_id))
