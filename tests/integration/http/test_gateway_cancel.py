"""Cancelling at the gateway, in one process with the API and as a separate app."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest
from eventsourcing.persistence import StoredEvent

from pulse.application.callers import Caller
from pulse.domain import OrderCreated, SlicesScheduled, order_id_for
from tests.support.events import order_created, slices_scheduled, splitting_failed, stored
from tests.support.gateway import (
    TRACE,
    WAYS,
    FakePulse,
    Served,
    gateway_in_front_of,
    refusal,
    served,
)
from tests.support.log import write
from tests.support.orders import JSON, fault, order
from tests.support.tokens import ISSUER, bearer, signer_of

SIGNER = signer_of("HS256")
ALICE = Caller.of_token(ISSUER, "alice")


@pytest.fixture(params=WAYS)
async def own_apps(request: pytest.FixtureRequest, conninfo: str) -> AsyncIterator[Served]:
    """The same on a separate database, for events that other tests must not see."""
    async with served(request.param, conninfo, SIGNER) as found:
        yield found


async def placed(apps: Served) -> str:
    response = await apps.place(order())
    assert response.status_code == 202
    order_id: str = response.json()["order_id"]
    return order_id


async def test_a_caller_cancels_its_own_order(apps: Served) -> None:
    order_id = await placed(apps)
    headers = {**bearer(apps.signer.token()), **TRACE}
    response = await apps.gateway.post(
        f"/api/orders/{order_id}/cancel", json={"reason": "no longer wanted"}, headers=headers
    )
    assert response.status_code == 200, response.text
    assert {name: response.headers[name] for name in TRACE} == TRACE
    quantities = response.json()["quantities"]
    assert quantities["remaining"] == 0
    assert sum(quantities.values()) == 100
    assert response.content == (await apps.read(order_id)).content
    *_, event = await apps.events(order_id)
    assert event["type"] == "OrderCancelled"
    assert event["data"]["cancelled_by"] == ALICE.placed_by
    assert event["data"]["reason"] == "no longer wanted"
    assert event["data"]["trace"]["trace_id"] == TRACE["X-Trace-Id"]
    assert event["data"]["trace"]["request_source"] == TRACE["X-Request-Source"]


async def test_without_a_body_no_reason_is_recorded(apps: Served) -> None:
    order_id = await placed(apps)
    assert (await apps.cancel(order_id)).status_code == 200
    assert (await apps.events(order_id))[-1]["data"]["reason"] is None


async def test_an_order_cancelled_again_is_unchanged(apps: Served) -> None:
    order_id = await placed(apps)
    responses = await asyncio.gather(*(apps.cancel(order_id) for _ in range(32)))
    responses.append(await apps.cancel(order_id, {"reason": "again"}))
    assert {response.status_code for response in responses} == {200}
    assert len({response.content for response in responses}) == 1
    events = await apps.events(order_id)
    assert [event["type"] for event in events].count("OrderCancelled") == 1


async def test_another_callers_order_is_answered_like_a_missing_one(apps: Served) -> None:
    request = order()
    alices = (await apps.place(request)).json()["order_id"]
    internal = (await apps.api.post("/internal/orders", json=request)).json()["order_id"]
    for subject in ("bob", "Alice", "alice|", "internal", "desk"):
        for order_id in (alices, internal):
            answers = []
            for asked in (order_id, str(uuid4())):
                headers = {**bearer(apps.signer.token(sub=subject)), **TRACE}
                path = f"/api/orders/{asked}/cancel"
                response = await apps.gateway.post(path, headers=headers)
                fault(response, 404, "ORDER_NOT_FOUND")
                content = response.content.replace(asked.encode(), b"ID")
                answers.append((content, sorted(response.headers.multi_items())))
            assert answers[0] == answers[1]
    for order_id in (alices, internal):
        assert "OrderCancelled" not in [event["type"] for event in await apps.events(order_id)]


async def test_the_token_must_grant_orders_write(apps: Served) -> None:
    order_id = await placed(apps)
    response = await apps.cancel(order_id, scope="orders:read")
    assert fault(response, 403, "FORBIDDEN") == {"required_scope": "orders:write"}
    fault(await apps.gateway.post(f"/api/orders/{order_id}/cancel"), 401, "UNAUTHORIZED")
    assert (await apps.cancel(order_id, scope="orders:write")).status_code == 200


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"price":1}', b'{"reason":"a","reason":"b"}', b'{"reason":7}']
)
async def test_a_wrong_body_is_refused_exactly_as_by_the_internal_api(
    apps: Served, content: bytes
) -> None:
    order_id = await placed(apps)
    headers = {**JSON, **bearer(apps.signer.token())}
    path = f"orders/{order_id}/cancel"
    outside = await apps.gateway.post(f"/api/{path}", content=content, headers=headers)
    inside = await apps.api.post(f"/internal/{path}", content=content, headers=JSON)
    fault(outside, 400, "INVALID_REQUEST")
    assert outside.content == inside.content


async def test_a_refusal_is_exactly_that_of_the_internal_api(
    own_apps: Served, conninfo: str
) -> None:
    failed, broken = (order_of_alice() for _ in range(2))
    unreadable = StoredEvent(broken.originator_id, 2, SlicesScheduled.TOPIC, b"broken")
    write(conninfo, *stored([failed, splitting_failed(failed), broken]), unreadable)
    for created in (failed, broken):
        outside = await own_apps.cancel(str(created.originator_id))
        inside = await own_apps.api.post(f"/internal/orders/{created.originator_id}/cancel")
        fault(outside, 409, "NOTHING_TO_CANCEL")
        assert outside.content == inside.content


async def test_an_order_of_newer_code_is_503(own_apps: Served, conninfo: str) -> None:
    created = order_of_alice()
    newer = stored([slices_scheduled(created)])[0].state[:-1] + b',"class_version":9}'
    event = StoredEvent(created.originator_id, 2, SlicesScheduled.TOPIC, newer)
    write(conninfo, *stored([created]), event)
    fault(await own_apps.cancel(str(created.originator_id)), 503, "UNAVAILABLE")


def order_of_alice() -> OrderCreated:
    key = uuid4().hex
    return order_created(
        key,
        originator_id=order_id_for(ALICE.key_scope, key),
        key_scope=ALICE.key_scope,
        placed_by=ALICE.placed_by,
    )


def cancelled_order(key: str = "k", **changes: object) -> dict[str, object]:
    return {
        "order_id": str(order_id_for(ALICE.key_scope, key)), "order_unique_key": "k",
        "instrument": "NSE:X", "side": "BUY", "total_quantity": 10, "release": True,
        "split_config": {
            "num_splits": 2, "duration_minutes": 1, "randomize": True, "start_at": None,
            "session_policy": None,
        },
        "window": {"starts_at": "2026-01-01T00:00:00Z", "ends_at": "2026-01-01T00:01:00Z"},
        "order_queue_status": "CANCELLED", "failure_reason": None, "failure_message": None,
        "version": 2, "position": 2, "placed_by": ALICE.placed_by,
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
        "split_completed_at": None, "claimed_by": None, "claimed_at": None, "slices": [],
        "quantities": {"remaining": 0, "released": 0, "cancelled": 10, "expired": 0},
        **changes,
    }  # fmt: skip


def nothing_to_cancel(details: object) -> httpx.Response:
    error = {"code": "NOTHING_TO_CANCEL", "message": "m: why", "details": details}
    return httpx.Response(409, json={"error": error})


UNEXPECTED_ANSWERS = {
    "another order": httpx.Response(200, json=cancelled_order("other")),
    "another caller's order": httpx.Response(200, json=cancelled_order(order_unique_key="other")),
    "an order with something left": httpx.Response(
        200,
        json=cancelled_order(
            quantities={"remaining": 1, "released": 0, "cancelled": 9, "expired": 0}
        ),
    ),
    "quantities that do not sum to the order's": httpx.Response(
        200,
        json=cancelled_order(
            quantities={"remaining": 0, "released": 0, "cancelled": 9, "expired": 0}
        ),
    ),
    "an order without a cancelled share": httpx.Response(
        200,
        json=cancelled_order(
            quantities={"remaining": 0, "released": 10, "cancelled": 0, "expired": 0}
        ),
    ),
    "an order without quantities": httpx.Response(200, json={"order_id": "x"}),
    "a refusal without quantities": nothing_to_cancel({}),
    "a refusal with other quantities": nothing_to_cancel({"quantities": {"remaining": "1"}}),
    "another conflict": refusal(409, "DUPLICATE_ORDER_UNIQUE_KEY"),
    "no such path": refusal(404, "NOT_FOUND"),
    "a strange 409": httpx.Response(409, text="<html>no"),
}


async def answer_to(*given: httpx.Response | Exception) -> tuple[httpx.Response, FakePulse]:
    """What the gateway makes of Pulse's answers to a cancellation."""
    pulse = FakePulse()
    pulse.answers = list(given)
    async with gateway_in_front_of(httpx.MockTransport(pulse), SIGNER.settings) as client:
        path = f"/api/orders/{order_id_for(ALICE.key_scope, 'k')}/cancel"
        response = await client.post(
            path, json={"reason": "why"}, headers=bearer(SIGNER.token(sub="alice"))
        )
    return response, pulse


@pytest.mark.parametrize("answer", UNEXPECTED_ANSWERS)
async def test_an_unexpected_answer_is_a_plain_500(answer: str) -> None:
    fault((await answer_to(UNEXPECTED_ANSWERS[answer]))[0], 500, "INTERNAL_ERROR")


async def test_the_cancelled_order_of_the_caller_is_passed_on() -> None:
    response, pulse = await answer_to(httpx.Response(200, json=cancelled_order()))
    shown = cancelled_order()
    for withheld in ("position", "claimed_by", "claimed_at"):
        del shown[withheld]
    assert (response.status_code, response.json()) == (200, shown)
    (request,) = pulse.requests
    assert request.headers["X-Pulse-On-Behalf-Of"] == ALICE.key_scope
    assert request.content == b'{"reason":"why"}'


async def test_a_pulse_that_does_not_answer_is_503_and_a_failed_connection_is_tried_again() -> None:
    response, pulse = await answer_to(httpx.ReadTimeout("x"))
    fault(response, 503, "UNAVAILABLE")
    assert len(pulse.requests) == 1
    answered = httpx.Response(200, json=cancelled_order())
    response, pulse = await answer_to(httpx.ConnectError("x"), answered)
    assert (response.status_code, len(pulse.requests)) == (200, 2)
