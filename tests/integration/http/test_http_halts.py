"""Halts at the internal API: the bodies, the answers, the errors, the events in the log."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from pulse.domain import HALTS_STREAM_ID
from pulse.process.apps import api_app
from tests.support.api import api_settings, client_of, lifespan_of
from tests.support.orders import JSON, fault

HALTS: Final = "/internal/halts"
ALL: Final = {"scope": "ALL", "reason": "exchange outage"}
TCS: Final = {"scope": "INSTRUMENT", "instrument": "NSE:TCS", "reason": "wrong price"}
NO_HALT: Final = "3f2a8c1e-0000-4000-8000-000000000001"
TRACE: Final = {
    "X-Trace-Id": "t-of-the-caller",
    "X-Request-Id": "r-of-the-caller",
    "X-Trace-Source": "DESK:start",
    "X-Request-Source": "DESK:click",
}


@pytest.fixture
async def api(conninfo: str) -> AsyncIterator[httpx.AsyncClient]:
    app = api_app(api_settings(conninfo))
    async with lifespan_of(app), client_of(app) as client:
        yield client


@pytest.fixture(scope="module")
async def shared_api(shared_conninfo: str) -> AsyncIterator[httpx.AsyncClient]:
    """For requests that set no halt."""
    app = api_app(api_settings(shared_conninfo))
    async with lifespan_of(app), client_of(app) as client:
        yield client


async def halted(api: httpx.AsyncClient, body: dict[str, str]) -> dict[str, Any]:
    response = await api.post(HALTS, json=body)
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def in_force(api: httpx.AsyncClient, query: str = "") -> list[dict[str, Any]]:
    response = await api.get(HALTS + query)
    assert response.status_code == 200
    halts: list[dict[str, Any]] = response.json()["halts"]
    return halts


async def test_a_halt_is_set_listed_and_lifted(api: httpx.AsyncClient) -> None:
    assert await in_force(api) == []
    response = await api.post(HALTS, json=TCS, headers=TRACE)
    assert response.status_code == 201
    assert {name: response.headers[name] for name in TRACE} == TRACE
    halt = response.json()
    assert {name: halt[name] for name in TCS} == TCS
    assert halt["halted_by"] == "anonymous"
    assert [halt[f"lifted_{what}"] for what in ("by", "at", "reason")] == [None, None, None]
    assert await in_force(api) == [halt]
    path = f"{HALTS}/{halt['halt_id']}"
    lifting = await api.delete(path, params={"reason": "price corrected"})
    assert lifting.status_code == 200
    lifted = lifting.json()
    assert lifted == halt | {
        "lifted_by": "anonymous",
        "lifted_at": lifted["lifted_at"],
        "lifted_reason": "price corrected",
    }
    assert await in_force(api) == []
    assert await in_force(api, "?include_lifted=true") == [lifted]
    again = await api.delete(path.upper().replace("/INTERNAL/HALTS", HALTS))
    assert (again.status_code, again.json()) == (200, lifted)


async def test_the_same_scope_again_is_the_halt_in_force(api: httpx.AsyncClient) -> None:
    halt = await halted(api, TCS)
    again = await api.post(HALTS, json=TCS | {"reason": "another"})
    assert (again.status_code, again.json()) == (200, halt)
    other = await halted(api, TCS | {"instrument": "NSE:INFY"})
    everything = await halted(api, ALL)
    assert await in_force(api) == [halt, other, everything]


async def test_the_log_has_the_events_of_halts_without_an_order_id(api: httpx.AsyncClient) -> None:
    halt = await halted(api, {"scope": "CALLER", "placed_by": "algo", "reason": "twice"})
    await api.delete(f"{HALTS}/{halt['halt_id']}")
    page = (await api.get("/internal/events")).json()
    halting, resuming = page["events"]
    assert (halting["type"], halting["order_id"], halting["version"]) == ("ReleasesHalted", None, 1)
    data = {
        name: halting["data"][name]
        for name in halting["data"]
        if name not in {"trace", "recorded_by"}
    }
    assert data == {
        "halt_id": halt["halt_id"],
        "scope": "CALLER",
        "instrument": None,
        "placed_by": "algo",
        "reason": "twice",
        "halted_by": "anonymous",
    }
    assert (resuming["type"], resuming["order_id"]) == ("ReleasesResumed", None)
    assert resuming["data"]["halt_id"] == halt["halt_id"]
    assert (resuming["data"]["resumed_by"], resuming["data"]["reason"]) == ("anonymous", None)
    only = (await api.get("/internal/events?type=ReleasesResumed")).json()["events"]
    assert only == [resuming]


async def test_the_stream_of_halts_is_not_an_order(api: httpx.AsyncClient) -> None:
    await halted(api, ALL)
    path = f"/internal/orders/{HALTS_STREAM_ID}"
    for response in (
        await api.get(path),
        await api.get(f"{path}/events"),
        await api.post(f"{path}/cancel"),
    ):
        fault(response, 404, "ORDER_NOT_FOUND")


async def test_readiness_shows_the_halts_in_force(api: httpx.AsyncClient) -> None:
    halt = await halted(api, TCS)
    notices = (await api.get("/health/ready")).json()["notices"]
    (notice,) = [one for one in notices if one["code"] == "releases_halted"]
    assert "halted by 1 halt: " in notice["message"]
    assert "price" not in notice["message"], "readiness needs no token"
    assert not notice["needs_person"]
    await api.delete(f"{HALTS}/{halt['halt_id']}")
    notices = (await api.get("/health/ready")).json()["notices"]
    assert "releases_halted" not in {one["code"] for one in notices}


REASON: Final = "a string of 1 to 255 characters"
PLACED_BY: Final = "a caller's name as in an order's placed_by, without control characters"


@pytest.mark.parametrize(
    ("content", "field", "expected"),
    [
        (b"", None, "an object"),
        (b"[]", None, "a JSON object"),
        (b"{", None, "JSON in UTF-8"),
        (b"{}", "scope", "this required field"),
        (b'{"scope":"ALL"}', "reason", "this required field"),
        (b'{"scope":"BSE","reason":"x"}', "scope", "ALL or CALLER or INSTRUMENT"),
        (b'{"scope":"ALL","reason":""}', "reason", REASON),
        (json.dumps(ALL | {"reason": "x" * 256}).encode(), "reason", REASON),
        (b'{"scope":"ALL","reason":null}', "reason", REASON),
        (
            b'{"scope":"ALL","reason":"x","until":1}',
            "until",
            "only scope, reason, instrument, placed_by",
        ),
        (b'{"scope":"ALL","reason":"x","reason":"y"}', "reason", "the field once"),
        (
            b'{"scope":"INSTRUMENT","reason":"x"}',
            "instrument",
            "this field with scope INSTRUMENT",
        ),
        (
            b'{"scope":"CALLER","reason":"x","instrument":"NSE:TCS"}',
            "instrument",
            "no instrument with scope CALLER",
        ),
        (b'{"scope":"CALLER","reason":"x"}', "placed_by", "this field with scope CALLER"),
        (
            b'{"scope":"ALL","reason":"x","placed_by":"desk"}',
            "placed_by",
            "no placed_by with scope ALL",
        ),
        (b'{"scope":"CALLER","reason":"x","placed_by":""}', "placed_by", PLACED_BY),
        (b'{"scope":"CALLER","reason":"x","placed_by":"a\\nb"}', "placed_by", PLACED_BY),
    ],
)
async def test_an_invalid_halt_is_refused(
    shared_api: httpx.AsyncClient, content: bytes, field: str | None, expected: str
) -> None:
    response = await shared_api.post(HALTS, content=content, headers=JSON)
    details = fault(response, 400, "INVALID_REQUEST")
    assert (details.get("field"), details["expected"]) == (field, expected)
    assert await in_force(shared_api) == []


@pytest.mark.parametrize("instrument", ["TCS", "NYSE:TCS", "NSE:tcs", ""])
async def test_an_invalid_instrument_is_refused(
    shared_api: httpx.AsyncClient, instrument: str
) -> None:
    response = await shared_api.post(HALTS, json=TCS | {"instrument": instrument})
    assert fault(response, 400, "INVALID_INSTRUMENT")["field"] == "instrument"
    assert await in_force(shared_api) == []


async def test_an_unknown_halt_is_404(shared_api: httpx.AsyncClient) -> None:
    for halt_id in (str(uuid4()), "x", str(HALTS_STREAM_ID), "{" + str(uuid4()) + "}"):
        response = await shared_api.delete(f"{HALTS}/{halt_id}")
        assert fault(response, 404, "HALT_NOT_FOUND") == {"halt_id": halt_id}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{HALTS}?include_lifted=1"),
        ("GET", f"{HALTS}?include_lifted=True"),
        ("GET", f"{HALTS}?include_lifted=true&include_lifted=true"),
        ("GET", f"{HALTS}?lifted=true"),
        ("POST", f"{HALTS}?dry_run=true"),
        ("DELETE", f"{HALTS}/{NO_HALT}?reason="),
        ("DELETE", f"{HALTS}/{NO_HALT}?reason={'x' * 256}"),
    ],
)
async def test_an_invalid_parameter_is_refused(
    shared_api: httpx.AsyncClient, method: str, path: str
) -> None:
    fault(await shared_api.request(method, path, json=ALL), 400, "INVALID_REQUEST")
    assert await in_force(shared_api) == []


async def test_a_wrong_media_type_is_415_and_a_wrong_method_405(
    shared_api: httpx.AsyncClient,
) -> None:
    response = await shared_api.post(HALTS, content=b"{}", headers={"Content-Type": "text/plain"})
    fault(response, 415, "UNSUPPORTED_MEDIA_TYPE")
    response = await shared_api.put(HALTS, json=ALL)
    fault(response, 405, "METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_thirty_two_calls_at_once_set_one_halt(api: httpx.AsyncClient) -> None:
    responses = await asyncio.gather(*(api.post(HALTS, json=ALL) for _ in range(32)))
    assert sorted(response.status_code for response in responses) == [200] * 31 + [201]
    assert len({response.content for response in responses}) == 1
