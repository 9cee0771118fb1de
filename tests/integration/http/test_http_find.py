"""Finding orders over HTTP: the filters of the list, and what is refused."""

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import httpx
import pytest

from tests.support.orders import ORDERS, fault, order
from tests.support.waiting import until

LONG = "x" * 10_000
ALICE = "https://issuer.example/|alice"


async def read(client: httpx.AsyncClient, **parameters: Any) -> Any:
    response = await client.get(f"{ORDERS}?{urlencode(parameters, quote_via=quote)}")
    assert response.status_code == 200, response.text
    return response.json()


async def found(client: httpx.AsyncClient, **parameters: Any) -> list[str]:
    return [listed["order_unique_key"] for listed in (await read(client, **parameters))["orders"]]


async def placed(client: httpx.AsyncClient, trace_id: str, *keys: str) -> list[str]:
    """Orders with these keys, in one trace, listed; returns their times of creation."""
    headers = {"X-Trace-Id": trace_id}
    for key in keys:
        response = await client.post(ORDERS, json=order(order_unique_key=key), headers=headers)
        assert response.status_code == 201, response.text

    async def listed() -> bool:
        return len(await found(client, trace_id=trace_id)) == len(keys)

    await until(listed, "the orders are listed")
    orders = (await read(client, trace_id=trace_id))["orders"]
    return [listed["created_at"] for listed in orders][::-1]


async def test_an_order_is_found_by_its_key_and_not_by_a_pattern(
    shared_api: httpx.AsyncClient,
) -> None:
    name = uuid4().hex
    keys = [f"{name}-a%b", f"{name}-aXb", f"{name}-a_b", f"{name}-a+b ü"]
    await placed(shared_api, name, *keys)
    for key in keys:
        assert await found(shared_api, order_unique_key=key) == [key]
        assert await found(shared_api, order_unique_key=key, key_scope="internal") == [key]
        assert await found(shared_api, order_unique_key=key, key_scope=ALICE) == []
        assert await found(shared_api, order_unique_key=key, trace_id=name) == [key]
        assert await found(shared_api, order_unique_key=key, placed_by="nobody") == []
    for pattern in (f"{name}-a%", f"{name}-%", "%", "_", name, f"{name}-A%B"):
        assert await found(shared_api, order_unique_key=pattern) == []
        assert await found(shared_api, trace_id=pattern.replace(name, name[:9] + "%")) == []


async def test_orders_are_found_by_trace_caller_and_time(shared_api: httpx.AsyncClient) -> None:
    name = uuid4().hex
    keys = [f"{name}-{n}" for n in range(5)]
    times = await placed(shared_api, name, *keys)
    assert await found(shared_api, trace_id=name) == keys[::-1]
    assert await found(shared_api, trace_id=name, placed_by="anonymous") == keys[::-1]
    assert await found(shared_api, placed_by="nobody") == []
    assert set(keys) <= set(await found(shared_api, placed_by="anonymous", limit=200))
    assert await found(shared_api, trace_id=name, created_from=times[3]) == [keys[4], keys[3]]
    assert await found(shared_api, trace_id=name, created_before=times[2]) == [keys[1], keys[0]]
    between = {"created_from": times[1], "created_before": times[3]}
    assert await found(shared_api, **between) == [keys[2], keys[1]]
    ist = datetime.fromisoformat(times[1]) + timedelta(hours=5, minutes=30)
    between["created_from"] = ist.replace(tzinfo=None).isoformat() + "+05:30"
    assert await found(shared_api, **between) == [keys[2], keys[1]]


async def test_found_orders_are_read_page_by_page(shared_api: httpx.AsyncClient) -> None:
    name = uuid4().hex
    keys = [f"{name}-{n}" for n in range(5)]
    (first, *_) = await placed(shared_api, name, *keys)
    filters = {"trace_id": name, "created_from": first, "limit": 2}
    page = await read(shared_api, **filters)
    listed = [one["order_unique_key"] for one in page["orders"]]
    while (cursor := page["next_cursor"]) is not None:
        page = await read(shared_api, **filters, cursor=cursor)
        listed += [one["order_unique_key"] for one in page["orders"]]
    assert listed == keys[::-1]


async def test_a_cursor_is_refused_with_any_other_filter(shared_api: httpx.AsyncClient) -> None:
    name = uuid4().hex
    (first, *_) = await placed(shared_api, name, *(f"{name}-{n}" for n in range(3)))
    filters = {"trace_id": name, "placed_by": "anonymous", "created_from": first}
    cursor = (await read(shared_api, **filters, limit=1))["next_cursor"]
    await read(shared_api, **filters, cursor=cursor, limit=200)
    others: list[dict[str, str]] = [
        {"trace_id": f"{name}x"},
        {"placed_by": "other"},
        {"created_from": "2026-01-05T09:15:00Z"},
        {"created_before": "2126-01-05T09:15:00Z"},
        {"order_unique_key": f"{name}-0"},
        {"order_queue_status": "COMPLETED"},
        {"instrument": "NSE:RELIANCE"},
    ]
    for other in others:
        query = urlencode({**filters, **other, "cursor": cursor})
        response = await shared_api.get(f"{ORDERS}?{query}")
        assert fault(response, 400, "INVALID_REQUEST")["field"] == "cursor"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (f"order_unique_key={LONG}", "order_unique_key"),
        ("order_unique_key=", "order_unique_key"),
        ("order_unique_key=a%00b", "order_unique_key"),
        ("order_unique_key=a%0Ab", "order_unique_key"),
        ("order_unique_key=a%C2%85b", "order_unique_key"),
        ("order_unique_key=a&order_unique_key=a", "order_unique_key"),
        ("order_unique_key=%ff", "order_unique_key"),
        ("key_scope=internal", "key_scope"),
        (f"key_scope={quote(ALICE)}&trace_id=t", "key_scope"),
        ("order_unique_key=a&key_scope=", "key_scope"),
        ("order_unique_key=a&key_scope=Internal", "key_scope"),
        ("order_unique_key=a&key_scope=a%7Cb%7Cc", "key_scope"),
        ("order_unique_key=a&key_scope=a%20b%7Cc", "key_scope"),
        (f"order_unique_key=a&key_scope={LONG}", "key_scope"),
        (f"order_unique_key=a&key_scope=a%7C{LONG}", "key_scope"),
        (f"placed_by={LONG}", "placed_by"),
        ("placed_by=", "placed_by"),
        ("placed_by=a%20b", "placed_by"),
        ("placed_by=%C3%BC", "placed_by"),
        ("placed_by=a%0A", "placed_by"),
        ("placed_by=a&placed_by=b", "placed_by"),
        (f"trace_id={'t' * 129}", "trace_id"),
        (f"trace_id={LONG}", "trace_id"),
        ("trace_id=", "trace_id"),
        ("trace_id=a%20b", "trace_id"),
        ("trace_id=a%7F", "trace_id"),
        ("trace_id=%C3%BC", "trace_id"),
        ("trace_id=a&trace_id=a", "trace_id"),
        ("created_from=2026-01-05T09:15:00", "created_from"),
        ("created_from=2026-01-05", "created_from"),
        ("created_from=1767604500", "created_from"),
        ("created_from=", "created_from"),
        (f"created_from={LONG}", "created_from"),
        ("created_before=2026-01-05T09:15:00", "created_before"),
        ("created_before=2026-13-05T09:15:00Z", "created_before"),
        (
            "created_from=2026-01-05T09:15:00.000001Z&created_before=2026-01-05T14:45:00%2B05:30",
            "created_before",
        ),
        ("cursor=AQ", "cursor"),
        (f"cursor={LONG}", "cursor"),
        ("trace=t", "trace"),
    ],
)
async def test_a_wrong_filter_is_refused_and_named(
    shared_api: httpx.AsyncClient, query: str, field: str
) -> None:
    details = fault(await shared_api.get(f"{ORDERS}?{query}"), 400, "INVALID_REQUEST")
    assert details["field"] == field
    assert details["expected"]


async def test_bounds_at_the_ends_of_the_calendar_are_accepted(
    shared_api: httpx.AsyncClient,
) -> None:
    first, last = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"
    await placed(shared_api, name := uuid4().hex, name)
    assert await found(shared_api, trace_id=name, created_from=first, created_before=last) == [name]
    assert await found(shared_api, created_before=first) == []
    assert await found(shared_api, created_from=last) == []
    assert await found(shared_api, created_from=last, created_before=last) == []
