"""Cancelling at the internal API: the body, the answers, the errors."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from eventsourcing.persistence import StoredEvent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pulse.domain import SlicesScheduled
from pulse.process.apps import api_app
from tests.support.api import api_settings, client_of, lifespan_of
from tests.support.events import order_created, slices_scheduled, splitting_failed, stored
from tests.support.log import write
from tests.support.orders import JSON, fault, order

ORDERS = "/internal/orders"
EXPECTED_REASON = "a string of at most 255 characters"
TRACE = {
    "X-Trace-Id": "t-of-the-caller",
    "X-Request-Id": "r-of-the-caller",
    "X-Trace-Source": "DESK:start",
    "X-Request-Source": "DESK:click",
}


@pytest.fixture(scope="module")
async def api(shared_conninfo: str) -> AsyncIterator[httpx.AsyncClient]:
    """The API without workers, so that orders stay as they are."""
    app = api_app(api_settings(shared_conninfo))
    async with lifespan_of(app), client_of(app) as client:
        yield client


@pytest.fixture
async def own_api(conninfo: str) -> AsyncIterator[httpx.AsyncClient]:
    """The same on a separate database, for events that other tests must not see."""
    app = api_app(api_settings(conninfo))
    async with lifespan_of(app), client_of(app) as client:
        yield client


async def placed(api: httpx.AsyncClient) -> str:
    response = await api.post(ORDERS, json=order())
    assert response.status_code == 201
    order_id: str = response.json()["order_id"]
    return order_id


async def cancel(
    api: httpx.AsyncClient, order_id: object, content: bytes | None = None, **headers: str
) -> httpx.Response:
    sent = {**({} if content is None else JSON), **headers}
    return await api.post(f"{ORDERS}/{order_id}/cancel", content=content, headers=sent)


async def events_of(api: httpx.AsyncClient, order_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.get(f"{ORDERS}/{order_id}/events")).json()["events"]
    return found


async def test_the_answer_is_the_cancelled_order(api: httpx.AsyncClient) -> None:
    order_id = await placed(api)
    response = await cancel(api, order_id, b'{"reason":"the fund is closed"}', **TRACE)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert {name: response.headers[name] for name in TRACE} == TRACE
    cancelled = response.json()
    assert cancelled["order_queue_status"] == "CANCELLED"
    assert cancelled["quantities"] == {
        "remaining": 0,
        "released": 0,
        "cancelled": 100,
        "expired": 0,
    }
    assert response.content == (await api.get(f"{ORDERS}/{order_id}")).content
    _, event = await events_of(api, order_id)
    assert (event["type"], event["version"]) == ("OrderCancelled", 2)
    data = event["data"]
    assert data.pop("recorded_by")["component"] == "api"
    assert data == {
        "trace": {
            name.lower().removeprefix("x-").replace("-", "_"): value
            for name, value in TRACE.items()
        },
        "sequence_numbers": [],
        "quantity": 100,
        "reason": "the fund is closed",
        "cancelled_by": "anonymous",
    }


@pytest.mark.parametrize(
    ("content", "headers", "reason"),
    [
        (None, {}, None),
        (b"", {}, None),
        (b"", JSON, None),
        (b"", {"Content-Type": "text/plain"}, None),
        (b" \r\n\t", {}, None),
        (b"{}", JSON, None),
        (b'{"reason":null}', JSON, None),
        (b'{"reason":""}', JSON, ""),
        (json.dumps({"reason": "x" * 255}).encode(), JSON, "x" * 255),
        (json.dumps({"reason": "é日\U0001f600\n\u0000"}).encode(), JSON, "é日\U0001f600\n\u0000"),
        (b'{"reason":"\xe6\x97\xa5"}', {"Content-Type": "Application/JSON; charset=utf-8"}, "日"),
    ],
    ids=repr,
)
async def test_the_body_is_optional(
    api: httpx.AsyncClient, content: bytes | None, headers: dict[str, str], reason: str | None
) -> None:
    order_id = await placed(api)
    response = await api.post(f"{ORDERS}/{order_id}/cancel", content=content, headers=headers)
    assert response.status_code == 200, response.text
    assert (await events_of(api, order_id))[-1]["data"]["reason"] == reason


@pytest.mark.parametrize(
    ("content", "field", "expected"),
    [
        (b"{", None, "JSON in UTF-8"),
        (b"reason", None, "JSON in UTF-8"),
        (b'{"reason":"a"}x', None, "JSON in UTF-8"),
        (b'{"reason":NaN}', None, "JSON in UTF-8"),
        (b'{"reason":"\xff"}', None, "JSON in UTF-8"),
        (b'\xef\xbb\xbf{"reason":"a"}', None, "JSON in UTF-8 without a byte order mark"),
        (b'{"reason":"\\ud800 or more"}', None, "JSON in UTF-8 without lone surrogates"),
        (b'{"a":' * 5000, "a", "only reason"),
        (b"[]", None, "a JSON object"),
        (b"null", None, "a JSON object"),
        (b'"reason"', None, "a JSON object"),
        (b"7", None, "a JSON object"),
        (b'{"price":1}', "price", "only reason"),
        (b'{"reason":"a","Reason":"a"}', "Reason", "only reason"),
        (b'{"reason":"a","reason":"a"}', "reason", "the field once"),
        (b'{"reason":1,"\\u0072eason":"a"}', "reason", "the field once"),
        (b'{"price":1,"price":2}', "price", "the field once"),
        (b'{"reason":1}', "reason", EXPECTED_REASON),
        (b'{"reason":true}', "reason", EXPECTED_REASON),
        (b'{"reason":["a"]}', "reason", EXPECTED_REASON),
        (b'{"reason":{}}', "reason", EXPECTED_REASON),
        (json.dumps({"reason": "x" * 256}).encode(), "reason", EXPECTED_REASON),
        (json.dumps({"reason": "日" * 256}).encode(), "reason", EXPECTED_REASON),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_a_wrong_body_is_refused_and_nothing_is_cancelled(
    api: httpx.AsyncClient, content: bytes, field: str | None, expected: str
) -> None:
    order_id = await placed(api)
    details = fault(await cancel(api, order_id, content), 400, "INVALID_REQUEST")
    assert details.get("field") == field
    assert details["expected"] == expected
    assert len(await events_of(api, order_id)) == 1


async def test_a_body_needs_to_be_declared_as_json_and_to_be_small(api: httpx.AsyncClient) -> None:
    order_id, content = await placed(api), b'{"reason":"a"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        response = await cancel(api, order_id, content, **{"content-type": kind})
        fault(response, 415, "UNSUPPORTED_MEDIA_TYPE")
    encoded = await cancel(api, order_id, content, **{"Content-Encoding": "gzip"})
    fault(encoded, 415, "UNSUPPORTED_MEDIA_TYPE")
    fault(await cancel(api, order_id, b" " * 70_000), 413, "PAYLOAD_TOO_LARGE")
    assert len(await events_of(api, order_id)) == 1


async def test_every_query_parameter_is_refused(api: httpx.AsyncClient) -> None:
    order_id = await placed(api)
    response = await api.post(f"{ORDERS}/{order_id}/cancel?dry_run=true")
    assert fault(response, 400, "INVALID_REQUEST")["field"] == "dry_run"
    assert len(await events_of(api, order_id)) == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_only_post_cancels(api: httpx.AsyncClient, method: str) -> None:
    order_id = await placed(api)
    response = await api.request(method, f"{ORDERS}/{order_id}/cancel")
    fault(response, 405, "METHOD_NOT_ALLOWED")
    assert "POST" in response.headers["allow"]
    assert len(await events_of(api, order_id)) == 1


@pytest.mark.parametrize(
    "order_id", ["0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77", "1", "batch", "%00", "a%2Fb", "x" * 900]
)
async def test_an_unknown_and_a_malformed_id_are_not_found(
    api: httpx.AsyncClient, order_id: str
) -> None:
    fault(await cancel(api, order_id), 404, "ORDER_NOT_FOUND")


async def test_an_order_cancelled_again_is_unchanged(api: httpx.AsyncClient) -> None:
    order_id = await placed(api)
    first = await cancel(api, order_id, b'{"reason":"first"}')
    again = await cancel(api, order_id.upper(), b'{"reason":"again"}')
    assert (again.status_code, again.content) == (200, first.content)
    assert len(await events_of(api, order_id)) == 2


async def test_the_same_request_after_the_cancellation_is_the_cancelled_order(
    api: httpx.AsyncClient,
) -> None:
    request = order()
    first = await api.post(ORDERS, json=request)
    await cancel(api, first.json()["order_id"])
    again = await api.post(ORDERS, json=request)
    assert (again.status_code, again.content) == (200, first.content)


async def test_thirty_two_callers_at_once_cancel_once(api: httpx.AsyncClient) -> None:
    order_id = await placed(api)
    responses = await asyncio.gather(*(cancel(api, order_id) for _ in range(32)))
    assert {response.status_code for response in responses} == {200}
    assert len({response.content for response in responses}) == 1
    assert len(await events_of(api, order_id)) == 2


async def test_a_failed_order_is_refused_with_its_quantities(
    own_api: httpx.AsyncClient, conninfo: str
) -> None:
    created = order_created()
    write(conninfo, *stored([created, splitting_failed(created)]))
    response = await cancel(own_api, created.originator_id)
    assert fault(response, 409, "NOTHING_TO_CANCEL") == {
        "quantities": {"remaining": 0, "released": 0, "cancelled": 0, "expired": 100}
    }
    assert response.json()["error"]["message"] == (
        "this order cannot be cancelled: it failed, so none of its shares will be released; "
        "no action is needed"
    )


async def test_an_order_that_cannot_be_read_is_refused_without_quantities(
    own_api: httpx.AsyncClient, conninfo: str
) -> None:
    created = order_created()
    broken = StoredEvent(created.originator_id, 2, SlicesScheduled.TOPIC, b"broken")
    write(conninfo, *stored([created]), broken)
    response = await cancel(own_api, created.originator_id)
    assert fault(response, 409, "NOTHING_TO_CANCEL") == {"quantities": None}
    assert "report it to the operator" in response.text


async def test_an_order_of_newer_code_is_503(own_api: httpx.AsyncClient, conninfo: str) -> None:
    created = order_created()
    newer = stored([slices_scheduled(created)])[0].state[:-1] + b',"class_version":9}'
    event = StoredEvent(created.originator_id, 2, SlicesScheduled.TOPIC, newer)
    write(conninfo, *stored([created]), event)
    fault(await cancel(own_api, created.originator_id), 503, "UNAVAILABLE")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["reason", "Reason", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=60),
        anything.map(lambda value: json.dumps(value).encode()),
        anything.map(lambda value: json.dumps({"reason": value}).encode()),
    )
)
async def test_any_body_is_a_cancellation_or_a_refusal(
    api: httpx.AsyncClient, content: bytes
) -> None:
    order_id = await placed(api)
    response = await cancel(api, order_id, content)
    if response.status_code == 200:
        reason = json.loads(content).get("reason") if content.strip() else None
        assert (await events_of(api, order_id))[-1]["data"]["reason"] == reason
        return
    fault(response, 400, "INVALID_REQUEST")
    assert len(await events_of(api, order_id)) == 1
