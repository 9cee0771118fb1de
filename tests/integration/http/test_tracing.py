"""The four tracing headers: accepted if valid, otherwise generated; echoed and stored."""

import re
import time
from typing import Any

import httpx
import pytest

from tests.support.orders import BATCH, JSON, ORDERS, body, order, placed, post
from tests.support.waiting import until

HEADERS = ["X-Trace-Id", "X-Request-Id", "X-Trace-Source", "X-Request-Source"]
GIVEN = {
    "X-Trace-Id": "trace/1~!",
    "X-Request-Id": "r" * 128,
    "X-Trace-Source": "DESK:alpha",
    "X-Request-Source": "{}\"'<>",
}
INVALID = ["", "a" * 129, "a b", " ", "a\tb", "caf\u00e9", "a\x7fb"]
ANSWERS = [
    ("GET", "/pulse/health", b"", 200),
    ("POST", ORDERS, b"{}", 400),
    ("POST", ORDERS, b"x" * 1_000_000, 413),
    ("POST", BATCH, b"null", 400),
    ("PUT", ORDERS, b"", 405),
    ("OPTIONS", ORDERS, b"", 204),
    ("GET", f"{ORDERS}/none", b"", 404),
    ("GET", "/pulse/nowhere", b"", 404),
    ("GET", "/elsewhere", b"", 404),
]


async def history(client: httpx.AsyncClient, order_id: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = (await client.get(f"{ORDERS}/{order_id}/events")).json()[
        "events"
    ]
    return events


@pytest.mark.parametrize(("method", "path", "content", "status"), ANSWERS)
async def test_valid_headers_are_echoed_on_every_answer(
    shared_api: httpx.AsyncClient, method: str, path: str, content: bytes, status: int
) -> None:
    response = await shared_api.request(method, path, content=content, headers={**JSON, **GIVEN})
    assert response.status_code == status
    for name, value in GIVEN.items():
        assert response.headers.get_list(name) == [value]


@pytest.mark.parametrize(("method", "path", "content", "status"), ANSWERS)
async def test_missing_headers_are_generated(
    shared_api: httpx.AsyncClient, method: str, path: str, content: bytes, status: int
) -> None:
    before = int(time.time())
    response = await shared_api.request(method, path, content=content, headers=JSON)
    after = int(time.time())
    assert response.status_code == status
    for name, letter in (("X-Trace-Id", "t"), ("X-Request-Id", "r")):
        made = re.fullmatch(rf"{letter}(\d{{10}})[0-9a-f]{{12}}", response.headers[name])
        assert made is not None
        assert before <= int(made[1]) <= after
    source = f"PULSE:{method}{path.removeprefix('/pulse')}"
    assert response.headers["X-Trace-Source"] == response.headers["X-Request-Source"] == source


async def test_generated_ids_are_unique(shared_api: httpx.AsyncClient) -> None:
    answers = [(await shared_api.get("/pulse/health")).headers for _ in range(50)]
    for name in ("X-Trace-Id", "X-Request-Id"):
        assert len({headers[name] for headers in answers}) == 50


@pytest.mark.parametrize("invalid", INVALID, ids=ascii)
@pytest.mark.parametrize("name", HEADERS)
async def test_an_invalid_header_counts_as_missing_and_affects_no_other(
    shared_api: httpx.AsyncClient, name: str, invalid: str
) -> None:
    headers = {**GIVEN, name: invalid}
    raw = [(key.encode(), value.encode("latin-1")) for key, value in headers.items()]
    response = await shared_api.get("/pulse/health", headers=raw)
    for other in HEADERS:
        expected = GIVEN[other] if other != name else None
        assert (response.headers[other] == expected) is (other != name)
        assert re.fullmatch("[!-~]{1,128}", response.headers[other])


@pytest.mark.parametrize("path", ["/" + "a" * 5000, "/a%20b%0Ac", "/caf%C3%A9", "/%70ulse/%00"])
async def test_a_generated_source_is_valid(shared_api: httpx.AsyncClient, path: str) -> None:
    response = await shared_api.get(path)
    assert response.headers["X-Trace-Source"].startswith(f"PULSE:GET{path[:100]}")
    assert re.fullmatch("[!-~]{1,128}", response.headers["X-Trace-Source"])


async def test_the_requested_path_is_the_source(shared_api: httpx.AsyncClient) -> None:
    response = await shared_api.get("/pulse/internal/hello?name=x")
    assert response.headers["X-Trace-Source"] == "PULSE:GET/internal/hello"
    odd = await shared_api.get("/%70ulse/health")
    assert odd.headers["X-Trace-Source"] == "PULSE:GET/%70ulse/health"


async def test_the_trace_is_stored_and_the_worker_continues_it(
    shared_api: httpx.AsyncClient,
) -> None:
    response = await post(shared_api, order(), **GIVEN)
    order_id = response.json()["order_id"]

    async def is_split() -> bool:
        return len(await history(shared_api, order_id)) == 2

    await until(is_split, "the order is split")
    created, scheduled = (event["data"] for event in await history(shared_api, order_id))
    assert created["trace"] == {
        "trace_id": GIVEN["X-Trace-Id"],
        "trace_source": GIVEN["X-Trace-Source"],
        "request_id": GIVEN["X-Request-Id"],
        "request_source": GIVEN["X-Request-Source"],
    }
    background = f"PULSE_BACKGROUND:{scheduled['worker']}"
    assert scheduled["trace"]["trace_id"] == GIVEN["X-Trace-Id"]
    assert scheduled["trace"]["request_source"] == background
    assert scheduled["trace"]["trace_source"] == background
    assert re.fullmatch(r"r\d{10}[0-9a-f]{12}", scheduled["trace"]["request_id"])


async def test_a_generated_trace_is_stored_and_echoed(shared_api: httpx.AsyncClient) -> None:
    response = await post(shared_api, order())
    created = (await history(shared_api, response.json()["order_id"]))[0]["data"]
    assert created["trace"] == {
        "trace_id": response.headers["X-Trace-Id"],
        "trace_source": f"PULSE:POST{ORDERS.removeprefix('/pulse')}",
        "request_id": response.headers["X-Request-Id"],
        "request_source": f"PULSE:POST{ORDERS.removeprefix('/pulse')}",
    }


async def test_every_order_of_a_batch_has_the_batchs_trace(shared_api: httpx.AsyncClient) -> None:
    response = await post(shared_api, b"[" + body() + b"," + body() + b"]", BATCH, **GIVEN)
    for result in response.json()["results"]:
        created = (await history(shared_api, result["body"]["order_id"]))[0]["data"]
        assert created["trace"]["trace_id"] == GIVEN["X-Trace-Id"]
        assert created["trace"]["request_id"] == GIVEN["X-Request-Id"]


async def test_a_repeated_request_keeps_the_trace_of_the_first(
    shared_api: httpx.AsyncClient,
) -> None:
    request = order()
    order_id = await placed(shared_api, request)
    first = (await history(shared_api, order_id))[0]
    await post(shared_api, request, **GIVEN)
    assert (await history(shared_api, order_id))[0] == first
