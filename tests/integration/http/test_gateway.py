"""The gateway, in one process with the API and alone before it: the same answers both ways."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from pulse.domain import INTERNAL_SCOPE, order_id_for
from tests.support.gateway import DESK_TOKEN, WAYS, Served, served
from tests.support.orders import JSON, body, fault, order, split_config
from tests.support.tokens import ISSUER, bearer, signer_of
from tests.support.waiting import until

AT_ONCE = 32
NOBODYS_ID = "0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77"
TRACE = {
    "X-Trace-Id": "t-of-the-caller",
    "X-Request-Id": "r-of-the-caller",
    "X-Trace-Source": "DESK:start",
    "X-Request-Source": "DESK:click",
}


@pytest.fixture(scope="module", params=WAYS)
async def both(request: pytest.FixtureRequest, shared_conninfo: str) -> AsyncIterator[Served]:
    async with served(request.param, shared_conninfo, signer_of("HS256")) as found:
        yield found


async def test_health_and_hello_need_no_token(both: Served) -> None:
    health = await both.gateway.get("/health")
    hello = await both.gateway.get("/api/hello")
    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    assert (hello.status_code, hello.json()) == (200, {"message": "Hello from GAPI"})


async def test_an_order_is_taken_and_read_by_its_caller(both: Served) -> None:
    request = order()
    response = await both.place(request)
    assert response.status_code == 202
    order_id = str(order_id_for(f"{ISSUER}|alice", request["order_unique_key"]))
    key = request["order_unique_key"]
    assert response.json() == {"order_id": order_id, "order_unique_key": key}
    assert response.headers["content-type"] == "application/json"
    shown = await both.read(order_id)
    assert shown.status_code == 200
    assert shown.json()["placed_by"] == f"{ISSUER}|alice"
    (created, *_) = await both.events(order_id)
    assert created["data"]["key_scope"] == created["data"]["placed_by"] == f"{ISSUER}|alice"


async def test_the_order_is_answered_as_by_the_internal_api_without_what_tells_about_others(
    both: Served,
) -> None:
    order_id = (await both.place(order())).json()["order_id"]

    async def is_settled() -> bool:
        return len(await both.events(order_id)) == 2

    if both.api.base_url.path == "/pulse/":  # there are workers
        await until(is_settled, "the order is split")
    inside = await both.api.get(f"/internal/orders/{order_id}")
    shown = inside.json()
    for withheld in ("position", "claimed_by", "claimed_at"):
        del shown[withheld]
    assert (await both.read(order_id)).json() == shown


async def test_the_same_order_again_is_the_same_answer(both: Served) -> None:
    request = order()
    first = await both.place(request)
    for again in [await both.place(request) for _ in range(3)]:
        assert (again.status_code, again.content) == (202, first.content)


async def test_the_key_with_other_data_is_refused(both: Served) -> None:
    request = order()
    first = await both.place(request)
    refused = await both.place({**request, "side": "SELL"})
    assert fault(refused, 409, "DUPLICATE_ORDER_UNIQUE_KEY") == {
        "order_unique_key": request["order_unique_key"],
        "existing_order_id": first.json()["order_id"],
    }


async def test_many_of_the_same_at_once_are_one_order(both: Served) -> None:
    request = order()
    responses = await asyncio.gather(*(both.place(request) for _ in range(AT_ONCE)))
    assert Counter(r.status_code for r in responses) == {202: AT_ONCE}
    assert len({r.content for r in responses}) == 1
    assert (await both.events(responses[0].json()["order_id"]))[0]["version"] == 1


async def test_two_callers_may_use_one_key_and_neither_learns_of_the_other(both: Served) -> None:
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
        response = await both.place(theirs, subject)
        assert response.status_code == 202
        placed[subject] = response.json()["order_id"]
    internal = await both.api.post("/internal/orders", json={**request, "side": "SELL"})
    assert internal.status_code == 201
    assert len({*placed.values(), internal.json()["order_id"]}) == len(callers) + 1
    for number, (subject, order_id) in enumerate(placed.items()):
        assert (await both.read(order_id, subject)).json()["total_quantity"] == 100 + number
        conflict = await both.place({**request, "total_quantity": 7}, subject)
        details = fault(conflict, 409, "DUPLICATE_ORDER_UNIQUE_KEY")
        assert details["existing_order_id"] == order_id


def all_but_length(response: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    return response.status_code, response.content, sorted(response.headers.multi_items())


async def test_anothers_order_is_like_one_that_is_missing_to_the_byte(both: Served) -> None:
    request = order()
    alices = (await both.place(request)).json()["order_id"]
    internal = (await both.api.post("/internal/orders", json=request)).json()["order_id"]
    strangers = ["bob", "alice|", "%61lice", "Alice", "alice ", "internal", "desk", "anonymous"]
    for subject in strangers:
        for order_id in (alices, internal, alices.upper()):
            missing = order_id[:-1] + ("0" if order_id[-1] != "0" else "1")
            answers = []
            for asked in (order_id, missing):
                headers = {**bearer(both.signer.token(sub=subject)), **TRACE}
                response = await both.gateway.get(f"/api/orders/{asked}", headers=headers)
                fault(response, 404, "ORDER_NOT_FOUND")
                status, content, raw = all_but_length(response)
                id_said = asked.lower().encode()
                assert content.count(id_said) == 1
                answers.append((status, content.replace(id_said, b"ID"), raw))
            assert answers[0] == answers[1]
    fault(await both.read(internal, "alice"), 404, "ORDER_NOT_FOUND")


@pytest.mark.parametrize("order_id", [NOBODYS_ID, "1", "batch", "%00", "a%2Fb", "..%2f", "x" * 900])
async def test_what_is_no_id_of_an_order_is_not_found(both: Served, order_id: str) -> None:
    fault(await both.read(order_id), 404, "ORDER_NOT_FOUND")


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
    both: Served, content: bytes, code: str
) -> None:
    headers = {**JSON, **bearer(both.signer.token())}
    outside = await both.gateway.post("/api/orders", content=content, headers=headers)
    inside = await both.api.post("/internal/orders", content=content, headers=JSON)
    assert fault(outside, 400, code) == fault(inside, 400, code)
    assert outside.content == inside.content


async def test_what_is_no_json_or_too_large_is_refused(both: Served) -> None:
    token = bearer(both.signer.token())
    plain = await both.gateway.post(
        "/api/orders", content=body(), headers={**token, "Content-Type": "text/plain"}
    )
    fault(plain, 415, "UNSUPPORTED_MEDIA_TYPE")
    large = await both.gateway.post("/api/orders", content=b" " * 70_000, headers={**token, **JSON})
    fault(large, 413, "PAYLOAD_TOO_LARGE")


async def test_a_batch_is_no_order_and_no_list_of_all_is_public(both: Served) -> None:
    token = bearer(both.signer.token())
    batch = await both.gateway.post("/api/orders/batch", content=b"[]", headers={**token, **JSON})
    fault(batch, 405, "METHOD_NOT_ALLOWED")
    for path in ("/api/events", "/internal/orders", "/api/slices", "/api"):
        fault(await both.gateway.get(path, headers=token), 404, "NOT_FOUND")


async def test_the_trace_of_the_caller_is_stored_and_echoed(both: Served) -> None:
    headers = {**bearer(both.signer.token()), **TRACE}
    response = await both.gateway.post("/api/orders", json=order(), headers=headers)
    assert {name: response.headers[name] for name in TRACE} == TRACE
    (created, *_) = await both.events(response.json()["order_id"])
    assert created["data"]["trace"] == {
        name.lower().removeprefix("x-").replace("-", "_"): value for name, value in TRACE.items()
    }


async def test_a_made_trace_is_stored_as_it_is_echoed(both: Served) -> None:
    response = await both.place(order())
    (created, *_) = await both.events(response.json()["order_id"])
    assert created["data"]["trace"] == {
        "trace_id": response.headers["X-Trace-Id"],
        "trace_source": "PULSE:POST/api/orders",
        "request_id": response.headers["X-Request-Id"],
        "request_source": "PULSE:POST/api/orders",
    }


@pytest.mark.parametrize("name", ["X-Pulse-On-Behalf-Of", "x-pulse-on-behalf-of"])
async def test_a_caller_cannot_name_another(both: Served, name: str) -> None:
    headers = {**bearer(both.signer.token()), name: f"{ISSUER}|bob"}
    response = await both.gateway.post("/api/orders", json=order(), headers=headers)
    (created, *_) = await both.events(response.json()["order_id"])
    assert created["data"]["key_scope"] == f"{ISSUER}|alice"


async def test_a_service_token_is_no_token_of_a_caller(both: Served) -> None:
    response = await both.gateway.post("/api/orders", json=order(), headers=bearer(DESK_TOKEN))
    fault(response, 401, "UNAUTHORIZED")


@pytest.mark.parametrize("subject", ["alice@example.com", "a b/c?d#e", "日本", "%", "|", "a|b|c"])
async def test_any_subject_has_a_scope_of_its_own(both: Served, subject: str) -> None:
    order_id = (await both.place(order(), subject)).json()["order_id"]
    data: dict[str, Any] = (await both.events(order_id))[0]["data"]
    kept = "!\"#$&'()*+,-./:;<=>?@[\\]^_`{}~"
    assert data["key_scope"] == f"{ISSUER}|{quote(subject, safe=kept)}"
    assert data["key_scope"] != INTERNAL_SCOPE
    assert (await both.read(order_id, subject)).status_code == 200
