"""The states of an order's slices in responses: released, cancelled, expired."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.support.api import api_settings, serving
from tests.support.events import order_cancelled, order_created, slices_scheduled, stored
from tests.support.log import write
from tests.support.orders import ORDERS, order, placed
from tests.support.waiting import until

SLICES = "/pulse/internal/slices"


@pytest.fixture
async def api(conninfo: str) -> AsyncIterator[httpx.AsyncClient]:
    """The API with its workers, which release slices: the default."""
    async with serving(api_settings(conninfo)) as client:
        yield client


async def read(api: httpx.AsyncClient, order_id: object) -> dict[str, Any]:
    response = await api.get(f"{ORDERS}/{order_id}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    assert sum(found["quantities"].values()) == found["total_quantity"]
    return found


async def until_settled(api: httpx.AsyncClient, order_id: object, count: int) -> dict[str, Any]:
    async def is_settled() -> bool:
        slices = (await read(api, order_id))["slices"]
        return len([s for s in slices if s["state"] != "SCHEDULED"]) == count

    await until(is_settled, f"{count} slices of {order_id} are settled")
    return await read(api, order_id)


async def events_of(api: httpx.AsyncClient, order_id: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.get(f"{ORDERS}/{order_id}/events")).json()["events"]
    return found


async def test_the_first_slice_is_released_at_once_and_the_rest_can_be_cancelled(
    api: httpx.AsyncClient,
) -> None:
    request = order()
    order_id = await placed(api, request)
    found = await until_settled(api, order_id, 1)
    first, *rest = found["slices"]
    assert (found["release"], found["order_queue_status"]) == (True, "COMPLETED")
    assert [first["state"], *(s["state"] for s in rest)] == ["RELEASED", *["SCHEDULED"] * 4]
    assert found["quantities"]["released"] == first["quantity"]
    *_, event = await events_of(api, order_id)
    assert (event["type"], event["version"], found["version"]) == ("SlicesReleased", 3, 3)
    assert event["occurred_at"] >= first["scheduled_at"]
    assert event["data"]["recorded_by"]["component"] == "releaser"
    assert {name: event["data"][name] for name in ("order_unique_key", "instrument", "side")} == {
        name: request[name] for name in ("order_unique_key", "instrument", "side")
    }
    assert [{**s, "state": "RELEASED"} for s in event["data"]["slices"]] == [first]

    cancelled = (await api.post(f"{ORDERS}/{order_id}/cancel")).json()
    assert [s["state"] for s in cancelled["slices"]] == ["RELEASED", *["CANCELLED"] * 4]
    assert cancelled["quantities"] == {
        "remaining": 0,
        "released": first["quantity"],
        "cancelled": 100 - first["quantity"],
        "expired": 0,
    }
    assert (cancelled["order_queue_status"], cancelled["version"]) == ("COMPLETED", 4)


async def test_lists_show_the_states_as_projected(api: httpx.AsyncClient) -> None:
    order_id = await placed(api)
    await until_settled(api, order_id, 1)
    await api.post(f"{ORDERS}/{order_id}/cancel")
    found = await read(api, order_id)

    async def is_projected() -> bool:
        page = (await api.get(ORDERS)).json()
        return bool(page["orders"][0]["version"] == found["version"])

    await until(is_projected, "the cancellation is projected")
    assert (await api.get(ORDERS)).json()["orders"] == [found]
    listed = (await api.get(SLICES)).json()["slices"]
    assert [s["state"] for s in listed] == [s["state"] for s in found["slices"]]


async def test_orders_that_were_cancelled_before_they_were_split_can_be_listed(
    api: httpx.AsyncClient, conninfo: str
) -> None:
    cancelled, split = order_created(), order_created()
    scheduled = slices_scheduled(split)
    write(conninfo, *stored([cancelled, order_cancelled(cancelled), split, scheduled]))
    write(conninfo, *stored([order_cancelled(split, scheduled)]))

    async def listed(status: str) -> list[str]:
        page = (await api.get(f"{ORDERS}?order_queue_status={status}")).json()
        return [found["order_id"] for found in page["orders"]]

    async def are_projected() -> bool:
        return await listed("COMPLETED") == [str(split.originator_id)]

    await until(are_projected, "both are projected")
    assert await listed("CANCELLED") == [str(cancelled.originator_id)]
    assert await listed("FAILED") == []
    of_instrument = await api.get(f"{ORDERS}?order_queue_status=CANCELLED&instrument=NSE:TCS")
    assert of_instrument.json()["orders"] == []


async def test_slices_that_are_too_late_expire(api: httpx.AsyncClient, conninfo: str) -> None:
    created = order_created(timestamp=datetime.now(UTC) - timedelta(hours=2))
    write(conninfo, *stored([created, slices_scheduled(created)]))
    found = await until_settled(api, created.originator_id, 5)
    assert {s["state"] for s in found["slices"]} == {"EXPIRED"}
    assert found["quantities"]["expired"] == 100
    *_, event = await events_of(api, created.originator_id)
    assert (event["type"], event["data"]["reason"]) == ("SlicesExpired", "RELEASE_TOO_LATE")
    assert event["data"]["sequence_numbers"] == [1, 2, 3, 4, 5]
    refused = await api.post(f"{ORDERS}/{created.originator_id}/cancel")
    assert refused.status_code == 409
    assert refused.json()["error"]["details"] == {"quantities": found["quantities"]}


async def test_with_releases_switched_off_slices_stay_scheduled(conninfo: str) -> None:
    """What counts is the setting at acceptance, not that of the process with the releaser."""
    settings = api_settings(conninfo, release_slices=False)
    async with serving(settings) as api:
        order_id = await placed(api)
    async with serving(api_settings(conninfo)) as api:
        released = await placed(api)
        await until_settled(api, released, 1)
        found = await read(api, order_id)
        assert found["release"] is False
        assert {s["state"] for s in found["slices"]} == {"SCHEDULED"}
        cancelled = (await api.post(f"{ORDERS}/{order_id}/cancel")).json()
        assert cancelled["quantities"]["cancelled"] == 100
