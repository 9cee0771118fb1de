"""The past over HTTP: an order and the queue as of a version, position or time."""

from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import psycopg
import pytest

from tests.support.orders import ORDERS, fault, order, placed
from tests.support.waiting import until

QUEUE = "/pulse/internal/queue"
NOTHING = {"PENDING": 0, "COMPLETED": 0, "FAILED": 0, "CANCELLED": 0}


async def split_order(api: httpx.AsyncClient) -> dict[str, Any]:
    """An order of 100 shares that is COMPLETED, as it is read now."""
    order_id = await placed(api, order())

    async def completed() -> bool:
        answer = (await api.get(f"{ORDERS}/{order_id}")).json()
        return bool(answer["order_queue_status"] == "COMPLETED")

    await until(completed, "the order is split")
    found: dict[str, Any] = (await api.get(f"{ORDERS}/{order_id}")).json()
    return found


async def test_an_order_is_read_as_of_each_version_position_and_time(
    api: httpx.AsyncClient,
) -> None:
    now = await split_order(api)
    url = f"{ORDERS}/{now['order_id']}"
    assert "as_of" not in now
    events = (await api.get(f"{url}/events")).json()["events"]
    created_at = events[0]["recorded_at"]

    first = (await api.get(f"{url}?version=1")).json()
    assert first["as_of"] == {"position": events[0]["position"], "at": created_at}
    assert (first["order_queue_status"], first["slices"]) == ("PENDING", [])
    assert first["quantities"]["remaining"] == 100
    assert list(first) == [*now, "as_of"]
    assert (await api.get(f"{url}?position={events[0]['position']}")).json() == first
    moment = (await api.get(f"{url}?at={created_at}")).json()
    assert moment == first

    last = (await api.get(f"{url}?version=2")).json()
    assert last.pop("as_of")["position"] == now["position"]
    assert last == now
    head = await api.head(f"{url}?version=1")
    assert (head.status_code, head.content) == (200, b"")


async def test_the_queue_is_read_as_of_each_position_and_time(api: httpx.AsyncClient) -> None:
    zero = {"remaining": 0, "released": 0, "cancelled": 0, "expired": 0}
    assert (await api.get(QUEUE)).json() == {
        "as_of_position": 0,
        "counts": NOTHING,
        "quantities": zero,
    }
    now = await split_order(api)
    url = f"{ORDERS}/{now['order_id']}"
    events = (await api.get(f"{url}/events")).json()["events"]
    expected = {
        "as_of_position": 1,
        "counts": NOTHING | {"PENDING": 1},
        "quantities": zero | {"remaining": 100},
    }
    assert (await api.get(f"{QUEUE}?position=1")).json() == expected
    at = quote(events[0]["recorded_at"].replace("Z", "+00:00"))
    assert (await api.get(f"{QUEUE}?at={at}")).json() == expected
    assert (await api.get(QUEUE)).json() == {
        "as_of_position": 2,
        "counts": NOTHING | {"COMPLETED": 1},
        "quantities": zero | {"remaining": 100},
    }
    assert (await api.get(f"{QUEUE}?at=1999-01-01T00:00:00Z")).json()["as_of_position"] == 0


async def test_a_position_in_a_gap_is_as_of_the_event_before_it(
    api: httpx.AsyncClient, conninfo: str
) -> None:
    first = await split_order(api)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(
            "SELECT nextval(pg_get_serial_sequence('stored_events', 'notification_id'))"
            " FROM generate_series(1, 5)"
        )
    second = await split_order(api)
    gap = second["position"] - 3
    assert first["position"] < gap
    answer = (await api.get(f"{ORDERS}/{first['order_id']}?position={gap}")).json()
    assert answer["as_of"]["position"] == first["position"]
    assert (await api.get(f"{QUEUE}?position={gap}")).json()["as_of_position"] == first["position"]


@pytest.mark.parametrize(
    ("query", "error", "field"),
    [
        ("version=1&position=1", (400, "INVALID_REQUEST"), "position"),
        ("version=1&at=2026-03-02T03:45:00Z", (400, "INVALID_REQUEST"), "at"),
        ("position=1&at=2026-03-02T03:45:00Z", (400, "INVALID_REQUEST"), "at"),
        ("version=0", (400, "INVALID_REQUEST"), "version"),
        ("version=-1", (400, "INVALID_REQUEST"), "version"),
        ("version=3", (400, "INVALID_REQUEST"), "version"),
        ("version=99999999999999999999", (400, "INVALID_REQUEST"), "version"),
        ("version=1&version=1", (400, "INVALID_REQUEST"), "version"),
        ("position=x", (400, "INVALID_REQUEST"), "position"),
        ("position=999999", (400, "POSITION_BEYOND_LOG"), "position"),
        ("position=99999999999999999999", (400, "POSITION_BEYOND_LOG"), "position"),
        ("at=2026-03-02T03:45:00", (400, "INVALID_REQUEST"), "at"),
        ("at=now", (400, "INVALID_REQUEST"), "at"),
        ("at=9999-12-31T23:59:59Z", (400, "INVALID_REQUEST"), "at"),
        ("as_of=2026-03-02T03:45:00Z", (400, "INVALID_REQUEST"), "as_of"),
    ],
)
async def test_an_invalid_point_in_the_past_is_refused(
    shared_api: httpx.AsyncClient, query: str, error: tuple[int, str], field: str
) -> None:
    order_id = (await split_order(shared_api))["order_id"]
    assert fault(await shared_api.get(f"{ORDERS}/{order_id}?{query}"), *error)["field"] == field
    if "version" not in query:
        assert fault(await shared_api.get(f"{QUEUE}?{query}"), *error)["field"] == field


@pytest.mark.parametrize("query", ["position=0", "at=1999-01-01T00:00:00Z"])
async def test_before_its_creation_an_order_is_not_found(
    shared_api: httpx.AsyncClient, query: str
) -> None:
    order_id = (await split_order(shared_api))["order_id"]
    fault(await shared_api.get(f"{ORDERS}/{order_id}?{query}"), 404, "ORDER_NOT_FOUND")


@pytest.mark.parametrize("query", ["version=1", "position=0", "at=1999-01-01T00:00:00Z"])
async def test_an_order_that_does_not_exist_is_not_found_as_of_any_point(
    shared_api: httpx.AsyncClient, query: str
) -> None:
    for order_id in (uuid4(), "x"):
        fault(await shared_api.get(f"{ORDERS}/{order_id}?{query}"), 404, "ORDER_NOT_FOUND")
