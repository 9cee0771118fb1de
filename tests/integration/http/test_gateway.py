"""The gateway in one process with the API and as a separate app: the same responses."""

import asyncio
from collections import Counter
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from pulse.domain import INTERNAL_SCOPE, order_id_for
from tests.support.gateway import DESK_TOKEN, TRACE, Served
from tests.support.orders import JSON, body, fault, order, split_config
from tests.support.tokens import ISSUER, bearer
from tests.support.waiting import until

AT_ONCE = 32
UNKNOWN_ORDER_ID = "0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77"


async def test_health_and_hello_need_no_token(apps: Served) -> None:
    health = await apps.gateway.get("/health")
    hello = await apps.gateway.get("/api/hello")
    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    assert (hello.status_code, hello.json()) == (200, {"message": "Hello from GAPI"})


async def test_an_order_is_placed_and_read_by_its_caller(apps: Served) -> None:
    request = order()
    response = await apps.place(request)
    assert response.status_code == 202
    order_id = str(order_id_for(f"{ISSUER}|alice", request["order_unique_key"]))
    key = request["order_unique_key"]
    assert response.json() == {"order_id": order_id, "order_unique_key": key}
    assert response.headers["content-type"] == "application/json"
    shown = await apps.read(order_id)
    assert shown.status_code == 200
    assert shown.json()["placed_by"] == f"{ISSUER}|alice"
    (created, *_) = await apps.events(order_id)
    assert created["data"]["key_scope"] == created["data"]["placed_by"] == f"{ISSUER}|alice"


async def test_the_order_is_answered_as_by_the_internal_api_without_fields_about_others(
    apps: Served,
) -> None:
    order_id = (await apps.place(order())).json()["order_id"]

    async def is_settled() -> bool:
        return len(await apps.events(order_id)) == 2

    if apps.api.base_url.path == "/pulse/":  # there are workers
        await until(is_settled, "the order is split")
    inside = await apps.api.get(f"/internal/orders/{order_id}")
    shown = inside.json()
    for withheld in ("position", "claimed_by", "claimed_at"):
        del shown[withheld]
    assert (await apps.read(order_id)).json() == shown


async def test_no_answer_to_a_caller_has_a_position_of_the_log(apps: Served) -> None:
    request = order()
    placed = await apps.place(request)
    cancelled = await apps.cancel(placed.json()["order_id"])
    assert (placed.status_code, cancelled.status_code) == (202, 200)
    for answer in (placed, cancelled):
        assert "x-pulse-position" not in answer.headers


async def test_the_same_order_again_is_the_same_answer(apps: Served) -> None:
    request = order()
    first = await apps.place(request)
    for again in [await apps.place(request) for _ in range(3)]:
        assert (again.status_code, again.content) == (202, first.content)


async def test_the_key_with_other_data_is_refused(apps: Served) -> None:
    request = order()
    first = await apps.place(request)
    refused = await apps.place({**request, "side": "SELL"})
    assert fault(refused, 409, "DUPLICATE_ORDER_UNIQUE_KEY") == {
        "order_unique_key": request["order_unique_key"],
        "existing_order_id": first.json()["order_id"],
    }


async def test_many_concurrent_identical_requests_are_one_order(apps: Served) -> None:
    request = order()
    responses = await asyncio.gather(*(apps.place(request) for _ in range(AT_ONCE)))
    assert Counter(r.status_code for r in responses) == {202: AT_ONCE}
    assert len({r.content for r in responses}) == 1
    assert (await apps.events(responses[0].json()["order_id"]))[0]["version"] == 1


async def test_two_callers_can_use_the_same_key_independently(apps: Served) -> None:
    request = order()
    callers = [
        "alice",
        "bob",
        "alice|",
        "|alice",
        "%7Calice",
        "alice ",
        "ALICE",
        "\u00e5",
        "a\u030a",
    ]
    placed = {}
    for number, subject in enumerate(callers):
        theirs = {**request, "total_quantity": 100 + number}
        response = await apps.place(theirs, subject)
        assert response.status_code == 202
        placed[subject] = response.json()["order_id"]
    internal = await apps.api.post("/internal/orders", json={**request, "side": "SELL"})
    assert internal.status_code == 201
    assert len({*placed.values(), internal.json()["order_id"]}) == len(callers) + 1
    for number, (subject, order_id) in enumerate(placed.items()):
        assert (await apps.read(order_id, subject)).json()["total_quantity"] == 100 + number
        conflict = await apps.place({**request, "total_quantity": 7}, subject)
        details = fault(conflict, 409, "DUPLICATE_ORDER_UNIQUE_KEY")
        assert details["existing_order_id"] == order_id


def all_but_length(response: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    return response.status_code, response.content, sorted(response.headers.multi_items())


async def test_another_callers_order_is_answered_like_a_missing_one(apps: Served) -> None:
    request = order()
    alices = (await apps.place(request)).json()["order_id"]
    internal = (await apps.api.post("/internal/orders", json=request)).json()["order_id"]
    strangers = ["bob", "alice|", "%61lice", "Alice", "alice ", "internal", "desk", "anonymous"]
    for subject in strangers:
        for order_id in (alices, internal, alices.upper()):
            missing = order_id[:-1] + ("0" if order_id[-1] != "0" else "1")
            answers = []
            for asked in (order_id, missing):
                headers = {**bearer(apps.signer.token(sub=subject)), **TRACE}
                response = await apps.gateway.get(f"/api/orders/{asked}", headers=headers)
                fault(response, 404, "ORDER_NOT_FOUND")
                status, content, raw = all_but_length(response)
                id_said = asked.lower().encode()
                assert content.count(id_said) == 1
                answers.append((status, content.replace(id_said, b"ID"), raw))
            assert answers[0] == answers[1]
    fault(await apps.read(internal, "alice"), 404, "ORDER_NOT_FOUND")


@pytest.mark.parametrize(
    "order_id", [UNKNOWN_ORDER_ID, "1", "batch", "%00", "a%2Fb", "..%2f", "x" * 900]
)
async def test_a_malformed_order_id_is_not_found(apps: Served, order_id: str) -> None:
    fault(await apps.read(order_id), 404, "ORDER_NOT_FOUND")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (body(order_unique_key='""'), "INVALID_REQUEST"),
        (body(order_unique_key=None), "INVALID_REQUEST"),
        (body(instrument='"NYSE:IBM"'), "INVALID_INSTRUMENT"),
        (body(side='"HOLD"'), "INVALID_REQUEST"),
        (body(total_quantity="1e2"), "INVALID_QUANTITY"),
        (body(total_quantity="4"), "INVALID_QUANTITY"),
        (body(split_config=split_config(num_splits="1")), "INVALID_SPLIT_CONFIG"),
        (body(price="1"), "INVALID_REQUEST"),
        (b"{", "INVALID_REQUEST"),
        (b"", "INVALID_REQUEST"),
        (b"[]", "INVALID_REQUEST"),
    ],
    ids=lambda value: "body" if isinstance(value, bytes) else value,  # keys are new every time
)
async def test_a_wrong_order_is_refused_exactly_as_by_the_internal_api(
    apps: Served, content: bytes, code: str
) -> None:
    headers = {**JSON, **bearer(apps.signer.token())}
    outside = await apps.gateway.post("/api/orders", content=content, headers=headers)
    inside = await apps.api.post("/internal/orders", content=content, headers=JSON)
    assert fault(outside, 400, code) == fault(inside, 400, code)
    assert outside.content == inside.content


async def test_invalid_json_and_large_bodies_are_refused(apps: Served) -> None:
    token = bearer(apps.signer.token())
    plain = await apps.gateway.post(
        "/api/orders", content=body(), headers={**token, "Content-Type": "text/plain"}
    )
    fault(plain, 415, "UNSUPPORTED_MEDIA_TYPE")
    large = await apps.gateway.post("/api/orders", content=b" " * 70_000, headers={**token, **JSON})
    fault(large, 413, "PAYLOAD_TOO_LARGE")


async def test_the_gateway_takes_no_batch_and_has_no_list_of_all_orders(apps: Served) -> None:
    token = bearer(apps.signer.token())
    batch = await apps.gateway.post("/api/orders/batch", content=b"[]", headers={**token, **JSON})
    fault(batch, 405, "METHOD_NOT_ALLOWED")
    for path in ("/api/events", "/internal/orders", "/api/slices", "/api"):
        fault(await apps.gateway.get(path, headers=token), 404, "NOT_FOUND")


async def test_the_trace_of_the_caller_is_stored_and_echoed(apps: Served) -> None:
    headers = {**bearer(apps.signer.token()), **TRACE}
    response = await apps.gateway.post("/api/orders", json=order(), headers=headers)
    assert {name: response.headers[name] for name in TRACE} == TRACE
    (created, *_) = await apps.events(response.json()["order_id"])
    assert created["data"]["trace"] == {
        name.lower().removeprefix("x-").replace("-", "_"): value for name, value in TRACE.items()
    }


async def test_the_trace_context_of_the_caller_is_stored(apps: Served) -> None:
    context = {
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "tracestate": "vendor=opaque,congo=t61rcWkgMzE",
    }
    headers = {**bearer(apps.signer.token()), **context}
    response = await apps.gateway.post("/api/orders", json=order(), headers=headers)
    assert response.headers["traceparent"] == context["traceparent"]
    (created, *_) = await apps.events(response.json()["order_id"])
    assert created["data"]["trace"].items() >= context.items()


async def test_a_generated_trace_is_stored_and_echoed(apps: Served) -> None:
    response = await apps.place(order())
    (created, *_) = await apps.events(response.json()["order_id"])
    assert created["data"]["trace"] == {
        "trace_id": response.headers["X-Trace-Id"],
        "trace_source": "PULSE:POST/api/orders",
        "request_id": response.headers["X-Request-Id"],
        "request_source": "PULSE:POST/api/orders",
    }


@pytest.mark.parametrize("name", ["X-Pulse-On-Behalf-Of", "x-pulse-on-behalf-of"])
async def test_a_caller_cannot_act_on_behalf_of_another(apps: Served, name: str) -> None:
    headers = {**bearer(apps.signer.token()), name: f"{ISSUER}|bob"}
    response = await apps.gateway.post("/api/orders", json=order(), headers=headers)
    (created, *_) = await apps.events(response.json()["order_id"])
    assert created["data"]["key_scope"] == f"{ISSUER}|alice"


async def test_a_service_token_does_not_authenticate_a_caller(apps: Served) -> None:
    response = await apps.gateway.post("/api/orders", json=order(), headers=bearer(DESK_TOKEN))
    fault(response, 401, "UNAUTHORIZED")


@pytest.mark.parametrize("subject", ["alice@example.com", "a b/c?d#e", "日本", "%", "|", "a|b|c"])
async def test_each_subject_has_its_own_key_scope(apps: Served, subject: str) -> None:
    order_id = (await apps.place(order(), subject)).json()["order_id"]
    data: dict[str, Any] = (await apps.events(order_id))[0]["data"]
    kept = "!\"#$&'()*+,-./:;<=>?@[\\]^_`{}~"
    assert data["key_scope"] == f"{ISSUER}|{quote(subject, safe=kept)}"
    assert data["key_scope"] != INTERNAL_SCOPE
    assert (await apps.read(order_id, subject)).status_code == 200
