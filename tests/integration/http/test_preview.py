"""Previewing an order at the internal API: the schedule of a stored order, and nothing stored."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings

from pulse.application.callers import Caller
from pulse.application.clock_watch import ClockOff
from pulse.application.in_process import InProcessOrders
from pulse.application.orders import PreviewFailed
from pulse.application.origin import Clock, Origin
from pulse.domain import Slice, SplitTerms, parse_order_request, splitting
from pulse.eventstore import EventStore
from pulse.http.errors import answer_for
from pulse.postgres import Database, DatabaseUnavailable
from pulse.process.apps import api_app
from pulse.projections.order_view import OrderReader
from pulse.settings import Settings
from pulse.testing import order_request_bodies
from tests.support.api import client_of, lifespan_of
from tests.support.events import MAPPER, TRACE
from tests.support.orders import JSON, ORDERS, body, fault, order, post
from tests.support.waiting import until

PREVIEW = f"{ORDERS}/preview"
SEED = "28ce6f2410645d51"
EXPECTED_SEED = "16 hex digits in lower case, as in OrderCreated"


def offsets(answer: dict[str, Any]) -> list[tuple[int, int, timedelta]]:
    """Number, quantity and time after the first slice of each slice."""
    times = [datetime.fromisoformat(s["scheduled_at"]) for s in answer["slices"]]
    return [
        (s["sequence_number"], s["quantity"], time - times[0])
        for s, time in zip(answer["slices"], times, strict=True)
    ]


def fixed(at: datetime) -> InProcessOrders:
    """The use cases at this moment, on a database that cannot be reached."""
    return without_database(lambda: at)


def without_database(clock: Clock) -> InProcessOrders:
    database = Database("postgresql://nobody@127.0.0.1:1/nowhere", pool_size=2)
    store = EventStore(database, on_commit=lambda: None)
    return InProcessOrders(store, OrderReader(database, MAPPER), clock, Origin("host:1:abc"))


async def completed(api: httpx.AsyncClient, request: dict[str, Any]) -> tuple[Any, Any]:
    """Place an order: the data and time of its OrderCreated, and the slices of its worker."""
    order_id = (await post(api, request)).json()["order_id"]
    events: list[Any] = []

    async def is_split() -> bool:
        nonlocal events
        events = (await api.get(f"{ORDERS}/{order_id}/events")).json()["events"]
        return len(events) > 1

    await until(is_split, "the order is split")
    created, scheduled = events[:2]
    return {**created["data"], "at": created["occurred_at"]}, scheduled["data"]["slices"]


REQUESTS = [
    order(),
    order(split_config={"num_splits": 7, "duration_minutes": 90}, total_quantity=1_000_000_000),
    order(split_config={"num_splits": 100, "duration_minutes": 1, "randomize": True}),
    order(split_config={"num_splits": 2, "duration_minutes": 1440, "randomize": False}),
    order(split_config={"num_splits": 3, "duration_minutes": 60}, total_quantity=3, side="SELL"),
]


@pytest.mark.parametrize("request_body", REQUESTS, ids=range(len(REQUESTS)))
async def test_with_seed_and_time_of_a_stored_order_a_preview_is_what_its_worker_made(
    shared_api: httpx.AsyncClient, request_body: dict[str, Any]
) -> None:
    created, slices = await completed(shared_api, request_body)
    spec = parse_order_request(json.dumps(request_body).encode())
    at = datetime.fromisoformat(created["at"])
    preview = fixed(at).preview(spec, int(created["split_seed"], 16), Caller(), TRACE)
    assert json.loads(msgspec.json.encode(preview)) == {
        "slices": slices,
        "split_seed": created["split_seed"],
        "window": {
            "starts_at": slices[0]["scheduled_at"],
            "ends_at": slices[-1]["scheduled_at"],
        },
    }
    asked = {**request_body, "split_seed": created["split_seed"]}
    now = (await post(shared_api, asked, PREVIEW)).json()
    assert offsets(now) == offsets({"slices": slices})


async def test_the_same_seed_gives_the_same_quantities_and_offsets(
    shared_api: httpx.AsyncClient,
) -> None:
    first = await post(shared_api, order(), PREVIEW)
    assert first.status_code == 200
    assert first.headers["content-type"] == "application/json"
    answer = first.json()
    assert list(answer) == ["slices", "split_seed", "window"]
    again = (await post(shared_api, order(split_seed=answer["split_seed"]), PREVIEW)).json()
    assert again["split_seed"] == answer["split_seed"]
    assert offsets(again) == offsets(answer)
    assert again["window"]["starts_at"] > answer["window"]["starts_at"]
    others = [(await post(shared_api, order(), PREVIEW)).json() for _ in range(5)]
    assert len({other["split_seed"] for other in (answer, *others)}) == 6
    assert any(offsets(other) != offsets(answer) for other in others)


async def test_without_randomisation_the_seed_has_no_effect(shared_api: httpx.AsyncClient) -> None:
    config = {"num_splits": 4, "duration_minutes": 3, "randomize": False}
    answers = [
        (await post(shared_api, order(split_config=config, **seed), PREVIEW)).json()
        for seed in ({}, {"split_seed": SEED})
    ]
    assert offsets(answers[0]) == offsets(answers[1])
    assert [quantity for _, quantity, _ in offsets(answers[0])] == [25] * 4


async def test_nothing_is_stored_and_the_key_is_not_looked_up(
    api: httpx.AsyncClient, conninfo: str
) -> None:
    request = order()
    assert (await post(api, request)).status_code == 201
    changed = {**request, "total_quantity": 500}
    for _ in range(3):
        assert (await post(api, changed, PREVIEW)).status_code == 200
    assert (await post(api, order(order_unique_key="new"), PREVIEW)).status_code == 200
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "SELECT count(*) FROM stored_events WHERE originator_version = 1"
        ).fetchone()
    assert row == (1,)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('"28ce6f2410645d5"', "has the wrong format"),
        ('"28ce6f2410645d510"', "has the wrong format"),
        ('"28CE6F2410645D51"', "has the wrong format"),
        ('"28ce6f2410645d5g"', "has the wrong format"),
        ('"0x8ce6f2410645d5"', "has the wrong format"),
        ('" 28ce6f2410645d5"', "has the wrong format"),
        ('"28ce6f2410645d51\\n"', "has the wrong format"),
        ('"\\uff12\\uff18ce6f2410645d51"', "has the wrong format"),
        ('""', "has the wrong format"),
        ("7", "is a whole number"),
        ("2864462104106455", "is a whole number"),
        ("1e15", "is a number with a fraction or exponent"),
        ("null", "is null"),
        ("true", "is true or false"),
        ('["28ce6f2410645d51"]', "is an array"),
        ("{}", "is an object"),
    ],
)
async def test_a_wrong_seed_is_refused(
    shared_api: httpx.AsyncClient, text: str, problem: str
) -> None:
    response = await post(shared_api, body(split_seed=text), PREVIEW)
    details = fault(response, 400, "INVALID_REQUEST")
    assert details == {"field": "split_seed", "expected": EXPECTED_SEED}
    assert response.json()["error"]["message"] == f"split_seed {problem}: expected {EXPECTED_SEED}"


@pytest.mark.parametrize("name", ["split_seed", "\\u0073plit_seed"])
async def test_a_repeated_seed_is_refused(shared_api: httpx.AsyncClient, name: str) -> None:
    content = body(split_seed=f'"{SEED}"')[:-1] + f',"{name}":"{SEED}"}}'.encode()
    details = fault(await post(shared_api, content, PREVIEW), 400, "INVALID_REQUEST")
    assert details == {"field": "split_seed", "expected": "the field once"}


async def test_only_a_preview_takes_a_seed(shared_api: httpx.AsyncClient) -> None:
    request = order(split_seed=SEED)
    for path in (ORDERS, f"{ORDERS}/"):
        response = await post(shared_api, request, path)
        assert fault(response, 400, "INVALID_REQUEST")["field"] == "split_seed"
    batch = await post(shared_api, json.dumps([request]).encode(), f"{ORDERS}/batch")
    assert batch.json()["results"][0]["status"] == 400
    inside = order(split_config={"num_splits": 5, "duration_minutes": 60, "split_seed": SEED})
    details = fault(await post(shared_api, inside, PREVIEW), 400, "INVALID_REQUEST")
    assert details["field"] == "split_config.split_seed"


WRONG = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"{}",
    b"\xef\xbb\xbf{}",
    b'{"order_unique_key":"\\ud800"}',
    b'{"a":' * 5000,
    b" " * 70_000,
    body(order_unique_key=None),
    body(order_unique_key='"ends with a space "'),
    body(instrument='"NSE:reliance"'),
    body(side='"HOLD"'),
    body(total_quantity="4"),
    body(total_quantity="100.0"),
    body(split_config='{"num_splits":101,"duration_minutes":60}'),
    body(price="1"),
    body()[:-1] + b',"side":"BUY"}',
]


def alike(response: httpx.Response) -> tuple[int, Any]:
    """Status and error, but for the list of the fields that exist."""
    error = response.json()["error"]
    return response.status_code, json.loads(json.dumps(error).replace(", split_seed", ""))


@pytest.mark.parametrize("content", WRONG, ids=range(len(WRONG)))
async def test_a_wrong_order_is_refused_as_if_it_were_placed(
    shared_api: httpx.AsyncClient, content: bytes
) -> None:
    placed = await post(shared_api, content)
    previewed = await post(shared_api, content, PREVIEW)
    assert placed.status_code in {400, 413}
    assert alike(previewed) == alike(placed)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=order_request_bodies())
async def test_every_valid_order_has_a_preview(
    shared_api: httpx.AsyncClient, request: dict[str, Any]
) -> None:
    answer = (await post(shared_api, request, PREVIEW)).json()
    numbers, quantities, times = zip(*offsets(answer), strict=True)
    config = request["split_config"]
    assert numbers == tuple(range(1, config["num_splits"] + 1))
    assert sum(quantities) == request["total_quantity"]
    assert times[-1] == timedelta(minutes=config["duration_minutes"])


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_only_post_previews(shared_api: httpx.AsyncClient, method: str) -> None:
    response = await shared_api.request(method, PREVIEW)
    fault(response, 405, "METHOD_NOT_ALLOWED")
    assert "POST" in response.headers["allow"]


async def test_the_body_must_be_json_and_no_parameter_is_taken(
    shared_api: httpx.AsyncClient,
) -> None:
    for headers in ({"content-type": "text/plain"}, {**JSON, "content-encoding": "gzip"}):
        response = await shared_api.post(PREVIEW, content=body(), headers=headers)
        fault(response, 415, "UNSUPPORTED_MEDIA_TYPE")
    response = await post(shared_api, order(), f"{PREVIEW}?split_seed={SEED}")
    assert fault(response, 400, "INVALID_REQUEST")["field"] == "split_seed"


async def test_previews_do_not_disturb_each_other(shared_api: httpx.AsyncClient) -> None:
    seeds = [f"{n:016x}" for n in range(32)]
    requests = [post(shared_api, order(split_seed=seed), PREVIEW) for seed in seeds]
    answers = [response.json() for response in await asyncio.gather(*requests)]
    assert [answer["split_seed"] for answer in answers] == seeds


# When orders are refused


@pytest.fixture
async def api_without_database() -> AsyncIterator[httpx.AsyncClient]:
    """The API without a database."""
    app = api_app(Settings(database_url="postgresql://nobody@127.0.0.1:1/nowhere"))
    async with lifespan_of(app), client_of(app) as client:
        yield client


async def test_previews_are_503_until_the_process_has_had_a_database(
    api_without_database: httpx.AsyncClient,
) -> None:
    for path in ("/internal/orders", "/internal/orders/preview"):
        fault(await post(api_without_database, order(), path), 503, "UNAVAILABLE")
        fault(await post(api_without_database, b"{}", path), 400, "INVALID_REQUEST")


def refusing(error: Exception) -> InProcessOrders:
    def clock() -> datetime:
        raise error

    return without_database(clock)


@pytest.mark.parametrize("error", [ClockOff("off"), DatabaseUnavailable("no connection")])
def test_a_process_that_refuses_orders_refuses_previews(error: Exception) -> None:
    spec = parse_order_request(body())
    with pytest.raises(type(error)) as caught:
        refusing(error).preview(spec, None, Caller(), TRACE)
    status, answer = answer_for(caught.value)
    assert (status, answer.code) == (503, "UNAVAILABLE")


def test_a_schedule_that_breaks_a_rule_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def loses_a_share(terms: SplitTerms) -> tuple[Slice, ...]:
        first, *rest = splitting.split_v1(terms)
        return msgspec.structs.replace(first, quantity=first.quantity - 1), *rest

    monkeypatch.setattr(splitting, "SPLITTERS", {1: loses_a_share})
    at = datetime.fromisoformat("2026-03-02T03:45:00Z")
    with pytest.raises(PreviewFailed, match="quantities_sum_to_total") as caught:
        fixed(at).preview(parse_order_request(body()), None, Caller(), TRACE)
    status, answer = answer_for(caught.value)
    assert (status, answer.code) == (500, "INTERNAL_ERROR")
    assert "quantities" not in answer.message
