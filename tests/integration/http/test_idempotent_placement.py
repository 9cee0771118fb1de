"""Idempotent placement: repeated, different and concurrent requests with one key."""

import asyncio
import json
from collections import Counter
from uuid import UUID

import httpx
import pytest

from pulse.domain import INTERNAL_SCOPE, order_id_for
from tests.support.orders import ORDERS, fault, order, placed, post

AT_ONCE = 64


async def test_an_accepted_order_is_answered_with_id_and_key(
    shared_api: httpx.AsyncClient,
) -> None:
    request = order()
    response = await post(shared_api, request)
    assert response.status_code == 201
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["order_id", "order_unique_key"]
    key = request["order_unique_key"]
    order_id = str(order_id_for(INTERNAL_SCOPE, key))
    assert response.json() == {"order_id": order_id, "order_unique_key": key}
    assert response.json()["order_id"] == str(UUID(order_id))


async def test_the_same_request_again_is_the_same_order(shared_api: httpx.AsyncClient) -> None:
    request = order()
    first = await post(shared_api, request)
    for again in [await post(shared_api, request) for _ in range(3)]:
        assert again.status_code == 200
        assert again.content == first.content


async def test_the_order_of_fields_makes_no_difference(shared_api: httpx.AsyncClient) -> None:
    request = order()
    await placed(shared_api, request)
    turned = dict(reversed(request.items()))
    turned["split_config"] = dict(reversed(request["split_config"].items()))
    assert (await post(shared_api, turned)).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"instrument": "BSE:RELIANCE"},
        {"side": "SELL"},
        {"total_quantity": 101},
        {"split_config": {"num_splits": 6, "duration_minutes": 60, "randomize": True}},
        {"split_config": {"num_splits": 5, "duration_minutes": 61, "randomize": True}},
        {"split_config": {"num_splits": 5, "duration_minutes": 60, "randomize": False}},
    ],
    ids=str,
)
async def test_the_key_with_other_data_is_refused(
    shared_api: httpx.AsyncClient, change: dict[str, object]
) -> None:
    request = order()
    order_id = await placed(shared_api, request)
    response = await post(shared_api, {**request, **change})
    details = fault(response, 409, "DUPLICATE_ORDER_UNIQUE_KEY")
    assert details == {
        "order_unique_key": request["order_unique_key"],
        "existing_order_id": order_id,
    }
    assert (await post(shared_api, request)).status_code == 200


async def test_an_invalid_request_does_not_use_its_key(shared_api: httpx.AsyncClient) -> None:
    request = order()
    fault(await post(shared_api, {**request, "total_quantity": 0}), 400, "INVALID_QUANTITY")
    assert (await post(shared_api, request)).status_code == 201


@pytest.mark.parametrize(("randomize", "again"), [(True, 200), (False, 409)])
async def test_randomize_is_true_by_default_over_http(
    shared_api: httpx.AsyncClient, again: int, *, randomize: bool
) -> None:
    without = order(split_config={"num_splits": 5, "duration_minutes": 60})
    order_id = await placed(shared_api, without)
    answered = await shared_api.get(f"{ORDERS}/{order_id}")
    assert answered.json()["split_config"]["randomize"] is True
    said = {**without, "split_config": {**without["split_config"], "randomize": randomize}}
    assert (await post(shared_api, said)).status_code == again


async def test_many_concurrent_identical_requests_are_one_order(
    shared_api: httpx.AsyncClient,
) -> None:
    request = order()
    responses = await asyncio.gather(*(post(shared_api, request) for _ in range(AT_ONCE)))
    assert Counter(r.status_code for r in responses) == {201: 1, 200: AT_ONCE - 1}
    assert len({r.content for r in responses}) == 1


async def test_of_many_different_requests_with_one_key_one_is_accepted(
    shared_api: httpx.AsyncClient,
) -> None:
    request = order()
    requests = [{**request, "total_quantity": 100 + n} for n in range(AT_ONCE)]
    responses = await asyncio.gather(*(post(shared_api, r) for r in requests))
    assert Counter(r.status_code for r in responses) == {201: 1, 409: AT_ONCE - 1}
    winner = next(r for r in responses if r.status_code == 201)
    order_id = winner.json()["order_id"]
    for response in responses:
        if response is not winner:
            details = fault(response, 409, "DUPLICATE_ORDER_UNIQUE_KEY")
            assert details["existing_order_id"] == order_id
    answered = await shared_api.get(f"{ORDERS}/{order_id}")
    assert answered.json()["total_quantity"] == requests[responses.index(winner)]["total_quantity"]


async def test_a_thousand_repeated_requests_at_once_are_recognised(
    shared_api: httpx.AsyncClient,
) -> None:
    """More than may wait for the pool: a repeated request must not be 503."""
    requests = [json.dumps(order()).encode() for _ in range(1000)]
    for status in (201, 200):
        responses = await asyncio.gather(*(post(shared_api, r) for r in requests))
        assert Counter(r.status_code for r in responses) == {status: 1000}
