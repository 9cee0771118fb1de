"""The tracing headers: accepted if valid, echoed and stored.

The four of Pulse are generated if they are missing or invalid; `traceparent` is not, since this
process exports no spans.
"""

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


TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"
PARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
MALFORMED = {
    "empty": "",
    "blank": " ",
    "no flags": PARENT[:-3],
    "too long": f"{PARENT}-more",
    "longer flags": f"{PARENT}0",
    "very long": PARENT + "-" + "a" * 8000,
    "upper case": PARENT.upper(),
    "not hexadecimal": PARENT.replace("4bf9", "4bfg"),
    "zero trace id": PARENT.replace(TRACE_ID, "0" * 32),
    "zero span id": PARENT.replace(SPAN_ID, "0" * 16),
    "version ff": f"ff{PARENT[2:]}",
    "short version": PARENT[1:],
    "blanks inside": PARENT.replace("-", " "),
    "Arabic digits": PARENT.replace("0", "\u0660"),
}
STATES = {
    "vendor=opaque, congo=t61rcWkgMzE": "vendor=opaque,congo=t61rcWkgMzE",
    "a=1,,b=2 ,\t": "a=1,b=2",
    "tenant@system=a b": "tenant@system=a b",
    "a=1,B=2": None,
    "a": None,
    "a=": None,
    "a=b=c": None,
    ",".join(f"k{number}=v" for number in range(32)): ",".join(f"k{n}=v" for n in range(32)),
    ",".join(f"k{number}=v" for number in range(33)): None,
    "a=" + "x" * 250 + ",b=" + "x" * 250: "a=" + "x" * 250 + ",b=" + "x" * 250,
    "a=" + "x" * 254 + ",b=" + "x" * 254: None,
    "a=" + "x" * 257: None,
}


async def traced(client: httpx.AsyncClient, *headers: tuple[str, str]) -> dict[str, Any]:
    """The stored trace of an order that was posted with these headers."""
    raw = [(name.encode(), value.encode()) for name, value in (*JSON.items(), *headers)]
    response = await client.post(ORDERS, json=order(), headers=raw)
    assert response.status_code == 201
    created = (await history(client, response.json()["order_id"]))[0]["data"]
    assert response.headers.get("traceparent") == created["trace"].get("traceparent")
    trace: dict[str, Any] = created["trace"]
    return trace


@pytest.mark.parametrize(("method", "path", "content", "status"), ANSWERS)
async def test_a_traceparent_is_echoed_on_every_answer_and_none_is_made(
    shared_api: httpx.AsyncClient, method: str, path: str, content: bytes, status: int
) -> None:
    for given in ({"traceparent": PARENT}, {}):
        headers = {**JSON, **given}
        response = await shared_api.request(method, path, content=content, headers=headers)
        assert response.status_code == status
        assert response.headers.get_list("traceparent") == list(given.values())
        assert "tracestate" not in response.headers


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_traceparent_is_ignored_with_its_tracestate(
    shared_api: httpx.AsyncClient, malformed: str
) -> None:
    trace = await traced(shared_api, ("traceparent", malformed), ("tracestate", "a=1"))
    assert not trace.keys() & {"traceparent", "tracestate"}


async def test_a_repeated_traceparent_is_ignored(shared_api: httpx.AsyncClient) -> None:
    trace = await traced(shared_api, ("traceparent", PARENT), ("traceparent", PARENT))
    assert "traceparent" not in trace


@pytest.mark.parametrize(
    ("later", "stored"),
    [("01-{}-03", "00-{}-01"), ("cc-{}-02-what-the-future-may-bring", "00-{}-00")],
    ids=["version 1", "a longer one"],
)
async def test_a_later_version_is_converted(
    shared_api: httpx.AsyncClient, later: str, stored: str
) -> None:
    ids = f"{TRACE_ID}-{SPAN_ID}"
    trace = await traced(shared_api, ("traceparent", later.format(ids)))
    assert trace["traceparent"] == stored.format(ids)


@pytest.mark.parametrize(("state", "stored"), STATES.items(), ids=lambda text: str(text)[:20])
async def test_a_tracestate_is_stored_if_it_is_valid(
    shared_api: httpx.AsyncClient, state: str, stored: str | None
) -> None:
    trace = await traced(shared_api, ("traceparent", PARENT), ("tracestate", state))
    assert (trace["traceparent"], trace.get("tracestate")) == (PARENT, stored)


async def test_several_headers_are_one_tracestate(shared_api: httpx.AsyncClient) -> None:
    states = (("tracestate", "a=1"), ("tracestate", "b=2"))
    trace = await traced(shared_api, states[0], ("traceparent", PARENT), states[1])
    assert trace["tracestate"] == "a=1,b=2"


async def test_the_worker_continues_the_trace_context(shared_api: httpx.AsyncClient) -> None:
    response = await post(shared_api, order(), traceparent=PARENT, tracestate="a=1")
    order_id = response.json()["order_id"]

    async def is_split() -> bool:
        return len(await history(shared_api, order_id)) >= 2

    await until(is_split, "the order is split")
    for event in (await history(shared_api, order_id))[:2]:
        trace = event["data"]["trace"]
        assert (trace["traceparent"], trace["tracestate"]) == (PARENT, "a=1")
