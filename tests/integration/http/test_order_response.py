"""An order in responses: every field, in the documented order, in each state."""

import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import msgspec
import psycopg
import pytest

from pulse.domain import Slice, SplitTerms
from pulse.testing import check_schedule
from tests.support.orders import ORDERS, order, placed, post
from tests.support.projection import projection_blocked
from tests.support.waiting import until

FIELDS = [
    "order_id",
    "order_unique_key",
    "instrument",
    "side",
    "total_quantity",
    "split_config",
    "window",
    "release",
    "order_queue_status",
    "failure_reason",
    "failure_message",
    "version",
    "position",
    "placed_by",
    "created_at",
    "updated_at",
    "split_completed_at",
    "claimed_by",
    "claimed_at",
    "quantities",
    "slices",
]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z")


def later(time: str, *, minutes: int) -> str:
    answered: str = msgspec.to_builtins(datetime.fromisoformat(time) + timedelta(minutes=minutes))
    return answered


async def read(client: httpx.AsyncClient, order_id: str, rest: str = "") -> Any:
    response = await client.get(f"{ORDERS}/{order_id}{rest}")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


async def completed(client: httpx.AsyncClient, order_id: str) -> dict[str, Any]:
    async def is_completed() -> bool:
        return bool((await read(client, order_id))["order_queue_status"] == "COMPLETED")

    await until(is_completed, f"order {order_id} is COMPLETED")
    answered: dict[str, Any] = await read(client, order_id)
    return answered


@pytest.fixture
async def held_back(api: httpx.AsyncClient, conninfo: str) -> AsyncIterator[httpx.AsyncClient]:
    async with projection_blocked(conninfo):
        yield api


@pytest.mark.parametrize("randomize", [True, False])
async def test_an_accepted_order_is_found_at_once_though_nothing_is_projected(
    held_back: httpx.AsyncClient, conninfo: str, *, randomize: bool
) -> None:
    config = {"num_splits": 7, "duration_minutes": 90, "randomize": randomize}
    request = order(instrument="BSE:M&M", side="SELL", total_quantity=1234, split_config=config)
    order_id = await placed(held_back, request)
    answered = await read(held_back, order_id)
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "SELECT notification_id, to_char((convert_from(state, 'utf8')::json->>'timestamp')"
            "::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US') FROM stored_events"
        ).fetchone()
        queued = connection.execute("SELECT count(*) FROM order_queue").fetchone()
    assert queued == (0,)
    assert row is not None
    created_at = row[1].removesuffix(".000000") + "Z"
    assert list(answered) == FIELDS
    assert answered == {
        "order_id": order_id,
        **request,
        "split_config": {**config, "start_at": None, "session_policy": None},
        "window": {"starts_at": created_at, "ends_at": later(created_at, minutes=90)},
        "release": False,
        "order_queue_status": "PENDING",
        "failure_reason": None,
        "failure_message": None,
        "version": 1,
        "position": row[0],
        "placed_by": "anonymous",
        "created_at": created_at,
        "updated_at": created_at,
        "split_completed_at": None,
        "claimed_by": None,
        "claimed_at": None,
        "quantities": {"remaining": 1234, "released": 0, "cancelled": 0, "expired": 0},
        "slices": [],
    }
    assert list(answered["split_config"]) == [*config, "start_at", "session_policy"]


async def test_every_accepted_order_is_found_though_nothing_is_projected(
    held_back: httpx.AsyncClient,
) -> None:
    for order_id in [await placed(held_back) for _ in range(50)]:
        assert (await read(held_back, order_id))["order_queue_status"] == "PENDING"


@pytest.mark.parametrize("randomize", [True, False])
async def test_a_completed_order_has_slices_that_keep_every_rule(
    shared_api: httpx.AsyncClient, *, randomize: bool
) -> None:
    config = {"num_splits": 10, "duration_minutes": 30, "randomize": randomize}
    request = order(total_quantity=1003, split_config=config)
    order_id = await placed(shared_api, request)
    answered = await completed(shared_api, order_id)
    assert list(answered) == FIELDS
    assert answered["version"] == 2
    assert answered["updated_at"] == answered["split_completed_at"] >= answered["created_at"]
    assert (answered["failure_reason"], answered["failure_message"]) == (None, None)
    assert (answered["claimed_by"], answered["claimed_at"]) == (None, None)
    shown = {**config, "start_at": None, "session_policy": None}
    assert {name: answered[name] for name in request} == {**request, "split_config": shown}
    part_fields = ["sequence_number", "quantity", "scheduled_at", "state"]
    assert all(list(part) == part_fields for part in answered["slices"])
    assert {part["state"] for part in answered["slices"]} == {"SCHEDULED"}
    assert answered["quantities"] == {
        "remaining": 1003,
        "released": 0,
        "cancelled": 0,
        "expired": 0,
    }
    times = [answered["created_at"], *(part["scheduled_at"] for part in answered["slices"])]
    assert all(TIME.fullmatch(time) and not time.endswith(".000000Z") for time in times)
    terms = SplitTerms(
        total_quantity=1003,
        num_splits=10,
        duration_minutes=30,
        randomize=randomize,
        seed=0,
        starts_at=datetime.fromisoformat(answered["created_at"]),
    )
    slices = [
        Slice(
            sequence_number=part["sequence_number"],
            quantity=part["quantity"],
            scheduled_at=datetime.fromisoformat(part["scheduled_at"]),
        )
        for part in answered["slices"]
    ]
    check_schedule(terms, slices)


async def test_a_completed_order_asked_for_again_is_the_same_order(
    shared_api: httpx.AsyncClient,
) -> None:
    request = order()
    order_id = await placed(shared_api, request)
    before = await completed(shared_api, order_id)
    assert (await post(shared_api, request)).status_code == 200
    assert await read(shared_api, order_id) == before


async def test_the_history_has_every_event_oldest_first(shared_api: httpx.AsyncClient) -> None:
    request = order()
    order_id = await placed(shared_api, request)
    answered = await completed(shared_api, order_id)
    history = await read(shared_api, order_id, "/events")
    assert list(history) == ["order_id", "events"]
    assert history["order_id"] == order_id
    created, scheduled = events = history["events"]
    own = ["position", "order_id", "version", "type", "occurred_at", "recorded_at", "data"]
    assert [list(event) for event in events] == [own, own]
    assert [event["type"] for event in events] == ["OrderCreated", "SlicesScheduled"]
    assert [event["version"] for event in events] == [1, 2]
    assert [event["order_id"] for event in events] == [order_id, order_id]
    assert created["position"] < scheduled["position"] == answered["position"]
    assert [event["occurred_at"] for event in events] == [
        answered["created_at"],
        answered["updated_at"],
    ]
    assert all(TIME.fullmatch(event["recorded_at"]) for event in events)
    repeated = {"originator_id", "originator_version", "timestamp", "topic", *own}
    for event in events:
        assert repeated.isdisjoint(event["data"])
    assert created["data"]["order_unique_key"] == request["order_unique_key"]
    assert re.fullmatch("[0-9a-f]{16}", created["data"]["split_seed"])
    assert (created["data"]["release"], created["data"]["class_version"]) == (False, 3)
    parts = [{**part, "state": "SCHEDULED"} for part in scheduled["data"]["slices"]]
    assert parts == answered["slices"]


async def test_a_whole_second_has_no_fraction(held_back: httpx.AsyncClient, conninfo: str) -> None:
    order_id = await placed(held_back)
    state = (
        "convert_to(regexp_replace(convert_from(state, 'utf8'),"
        ' \'"timestamp":"[^"]*"\', \'"timestamp":"2030-01-02T03:04:05Z"\'), \'utf8\')'
    )
    with psycopg.connect(conninfo) as connection:  # only the owner can
        connection.execute("ALTER TABLE stored_events DISABLE TRIGGER USER")
        connection.execute(f"UPDATE stored_events SET state = {state}")
    answered = await read(held_back, order_id)
    assert answered["created_at"] == answered["updated_at"] == "2030-01-02T03:04:05Z"
    history = await read(held_back, order_id, "/events")
    assert history["events"][0]["occurred_at"] == "2030-01-02T03:04:05Z"
