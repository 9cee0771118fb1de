"""Batches: each order is accepted or refused separately, as by a single POST."""

import json
from collections import Counter
from typing import Any

import httpx
import pytest

from tests.support.orders import BATCH, ORDERS, body, fault, fault_in, new_key, order, post

DEEP_ENOUGH = "[" * 500 + "]" * 500


async def results_of(client: httpx.AsyncClient, orders: list[bytes]) -> list[dict[str, Any]]:
    response = await post(client, b"[" + b",".join(orders) + b"]", BATCH)
    assert response.status_code == 200, response.text
    assert list(response.json()) == ["results"]
    results: list[dict[str, Any]] = response.json()["results"]
    assert [list(result) for result in results] == [["status", "body"]] * len(orders)
    return results


async def test_every_order_of_a_batch_is_answered_as_its_single_post(
    shared_api: httpx.AsyncClient,
) -> None:
    one, two = order(), order()
    orders = [
        json.dumps(one).encode(),
        body(total_quantity="0"),
        json.dumps(two).encode(),
        json.dumps(one).encode(),
        json.dumps({**one, "side": "SELL"}).encode(),
        body(instrument='"NYSE:IBM"'),
        body(split_config="null"),
        body(total_quantity="1e999"),
        body(total_quantity=DEEP_ENOUGH),
        body(total_quantity='1,"total_quantity":2'),
        body(price="1"),
        body(side=None),
        b"null",
        b"[]",
        b'"x"',
        b"5",
        b"{}",
        body(order_unique_key=json.dumps("k" * 70_000)),
    ]
    results = await results_of(shared_api, orders)
    statuses = [201, 400, 201, 200, 409, *[400] * 12, 413]
    assert [result["status"] for result in results] == statuses
    for request, result in zip(orders, results, strict=True):
        single = await post(shared_api, request)
        assert single.json() == result["body"]
        assert single.status_code == (200 if result["status"] == 201 else result["status"])
        if single.status_code >= 400:
            fault_in(result["body"], single.json()["error"]["code"])


UNREADABLE_ORDERS = {
    "half a surrogate pair in the key": body(order_unique_key='"x\\ud800"'),
    "the other half": body(order_unique_key='"\\udc00x"'),
    "two first halves": body(order_unique_key='"\\ud800\\ud800"'),
    "half a pair in another field": body(instrument='"NSE:A\\ud800"'),
    "half a pair in a name": body(side=None)[:-1] + b',"a\\ud800":1}',
    "half a pair within a nested value": body(side='{"a":["\\ud800"]}'),
    "half a pair and bytes that are not UTF-8": body(side='"\\ud800"').replace(b"ouk", b"\xff"),
    "a number that JSON has not": body(total_quantity="NaN"),
    "half a pair and a number that is too long": body(side='"\\ud800"', total_quantity="9" * 6000),
}


@pytest.mark.parametrize("name", UNREADABLE_ORDERS)
async def test_an_order_that_cannot_be_read_is_refused_alone(
    shared_api: httpx.AsyncClient, name: str
) -> None:
    wrong = UNREADABLE_ORDERS[name]
    good = [json.dumps(order(order_unique_key=f"{new_key()}\U0001f600")).encode() for _ in range(3)]
    results = await results_of(shared_api, [good[0], wrong, good[1], wrong, good[2]])
    assert [result["status"] for result in results] == [201, 400, 201, 400, 201]
    single = await post(shared_api, wrong)
    assert single.status_code == 400
    assert single.json() == results[1]["body"] == results[3]["body"]
    again = await results_of(shared_api, good)
    assert [result["status"] for result in again] == [200, 200, 200]


@pytest.mark.parametrize(
    "content",
    [
        *(b'["\\ud800"', b'["\\ud800"] x', b'["\\ud800",]', b'["\\ud800" 1]'),
        *(b'{"a":"\\ud800"}', b"[" * 9000),
    ],
)
async def test_a_body_that_is_not_an_array_is_refused(
    shared_api: httpx.AsyncClient, content: bytes
) -> None:
    fault(await post(shared_api, content, BATCH), 400, "INVALID_REQUEST")


async def test_within_a_batch_the_first_order_with_a_key_wins(
    shared_api: httpx.AsyncClient,
) -> None:
    key = json.dumps(new_key())
    orders = [body(order_unique_key=key, total_quantity=str(100 + n)) for n in range(50)]
    results = await results_of(shared_api, [*orders, orders[0]])
    assert [result["status"] for result in results] == [201, *[409] * 49, 200]
    order_id = results[0]["body"]["order_id"]
    assert results[-1]["body"]["order_id"] == order_id
    answered = await shared_api.get(f"{ORDERS}/{order_id}")
    assert answered.json()["total_quantity"] == 100


async def test_a_thousand_orders_are_accepted_and_recognised_when_sent_again(
    shared_api: httpx.AsyncClient,
) -> None:
    requests = [order() for _ in range(1000)]
    orders = [json.dumps(request).encode() for request in requests]
    first = await results_of(shared_api, orders)
    assert Counter(result["status"] for result in first) == {201: 1000}
    asked = [request["order_unique_key"] for request in requests]
    assert [result["body"]["order_unique_key"] for result in first] == asked
    again = await results_of(shared_api, orders)
    assert Counter(result["status"] for result in again) == {200: 1000}
    assert [r["body"] for r in again] == [r["body"] for r in first]


@pytest.mark.parametrize("size", [0, 1001])
async def test_an_empty_or_too_large_batch_is_refused(
    shared_api: httpx.AsyncClient, size: int
) -> None:
    request = order()
    orders = [json.dumps(request).encode()] * size
    response = await post(shared_api, b"[" + b",".join(orders) + b"]", BATCH)
    assert "1 to 1000" in fault(response, 400, "INVALID_REQUEST")["expected"]
    assert (await post(shared_api, request)).status_code == 201


async def test_a_batch_with_invalid_json_accepts_nothing(shared_api: httpx.AsyncClient) -> None:
    request = order()
    fault(
        await post(shared_api, f"[{json.dumps(request)},".encode(), BATCH), 400, "INVALID_REQUEST"
    )
    assert (await post(shared_api, request)).status_code == 201
