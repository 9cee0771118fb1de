"""Lists on a replica that is 300 ms late: never older than the caller asked for, never failing."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest

from tests.support.api import serving
from tests.support.orders import ORDERS, order, post
from tests.support.replicas import (
    Pair,
    counted,
    on_replica,
    place,
    replicated,
    served,
    settings_of,
    until_used,
)
from tests.support.waiting import until

SLICES = "/pulse/internal/slices"
PAIRS = 1_000
AT_ONCE = 16
DELAY_MILLISECONDS = 300


@pytest.fixture(scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    home = tmp_path_factory.mktemp("pair")
    async with replicated(home, delay_milliseconds=DELAY_MILLISECONDS) as pair:
        yield pair


@pytest.fixture(scope="module")
async def api(pair: Pair) -> AsyncIterator[httpx.AsyncClient]:
    """The API with the replica in use."""
    async with serving(settings_of(pair)) as client:
        await until_used(client)
        yield client


async def listed(client: httpx.AsyncClient, **parameters: Any) -> dict[str, Any]:
    answer = await served(lambda: client.get(ORDERS, params=parameters))
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


def keys(page: dict[str, Any]) -> list[str]:
    return [found["order_unique_key"] for found in page["orders"]]


@pytest.mark.timeout(300)
async def test_of_1000_writes_and_reads_none_is_stale_and_none_is_404(
    api: httpx.AsyncClient,
) -> None:
    slots = asyncio.Semaphore(AT_ONCE)
    before = on_replica()

    async def write_and_read() -> None:
        async with slots:
            key, order_id, position = await place(api)
            page, one = await asyncio.gather(
                listed(api, order_unique_key=key, min_position=position),
                served(lambda: api.get(f"{ORDERS}/{order_id}")),
            )
        assert keys(page) == [key]
        assert page["as_of_position"] >= position
        assert (one.status_code, one.json()["order_unique_key"]) == (200, key)

    async with asyncio.TaskGroup() as group:
        for _ in range(PAIRS):
            group.create_task(write_and_read())
    assert on_replica() - before > 0


async def test_without_a_position_a_list_shows_how_late_the_replica_is(
    api: httpx.AsyncClient,
) -> None:
    late = 0
    for _ in range(10):
        key, _, position = await place(api)
        page = await listed(api, limit=1)
        late += page["as_of_position"] < position and key not in keys(page)
    assert late > 0, "the replica is not late, so this file tests nothing"


async def test_slices_are_never_older_than_the_requested_position(api: httpx.AsyncClient) -> None:
    _, order_id, _ = await place(api)

    async def completed() -> bool:
        answer = (await api.get(f"{ORDERS}/{order_id}")).json()
        return bool(answer["order_queue_status"] == "COMPLETED")

    await until(completed, "the order is split")
    read = (await api.get(f"{ORDERS}/{order_id}")).json()
    first = read["slices"][0]["scheduled_at"]
    bounds = {"scheduled_from": first, "limit": 1000, "min_position": read["position"]}
    answer = await api.get(SLICES, params=bounds)
    assert order_id in {found["order_id"] for found in answer.json()["slices"]}


async def test_every_answer_to_a_write_has_a_position(api: httpx.AsyncClient) -> None:
    request = order()
    first = await post(api, request)
    again = await post(api, request)
    assert (first.status_code, again.status_code) == (201, 200)
    position = int(first.headers["x-pulse-position"])
    assert int(again.headers["x-pulse-position"]) == position
    batch = await post(api, [request, order(), order(side="HOLD")], f"{ORDERS}/batch")  # type: ignore[arg-type]
    assert [one["status"] for one in batch.json()["results"]] == [200, 201, 400]
    assert int(batch.headers["x-pulse-position"]) > position
    refused = await post(api, [order(side="HOLD")], f"{ORDERS}/batch")  # type: ignore[arg-type]
    assert "x-pulse-position" not in refused.headers
    order_id = first.json()["order_id"]
    cancelled = await api.post(f"{ORDERS}/{order_id}/cancel")
    assert int(cancelled.headers["x-pulse-position"]) == cancelled.json()["position"]
    halt = {"scope": "INSTRUMENT", "instrument": "NSE:TCS", "reason": "test"}
    halted = await api.post("/pulse/internal/halts", json=halt)
    same = await api.post("/pulse/internal/halts", json=halt)
    assert (halted.status_code, same.status_code) == (201, 200)
    assert halted.headers["x-pulse-position"] == same.headers["x-pulse-position"]
    lifted = await api.delete(f"/pulse/internal/halts/{halted.json()['halt_id']}")
    assert int(lifted.headers["x-pulse-position"]) > int(halted.headers["x-pulse-position"])
    assert "x-pulse-position" not in (await api.get(ORDERS)).headers


@pytest.mark.parametrize("path", [ORDERS, SLICES])
async def test_a_position_that_is_invalid_or_beyond_the_log_is_refused(
    api: httpx.AsyncClient, path: str
) -> None:
    for text in ("-1", "x", "1.0", "9223372036854775808"):
        answer = await api.get(path, params={"min_position": text})
        assert answer.status_code == 400, text
        error = answer.json()["error"]
        assert (error["code"], error["details"]["field"]) == ("INVALID_REQUEST", "min_position")
    answer = await api.get(path, params={"min_position": 10**15})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "POSITION_BEYOND_LOG")
    assert error["details"]["field"] == "min_position"
    assert error["details"]["end"] < 10**15


async def test_a_list_is_503_with_its_position_if_the_requested_one_is_not_projected(
    api: httpx.AsyncClient, pair: Pair
) -> None:
    async with hold_projection(pair):
        _, _, position = await place(api)
        answer = await api.get(ORDERS, params={"min_position": position})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (503, "UNAVAILABLE")
    assert answer.headers["retry-after"] == "1"
    assert error["details"]["min_position"] == position
    assert error["details"]["position"] < position
    assert (await listed(api, min_position=position))["as_of_position"] >= position


async def test_a_paused_replica_is_not_waited_for_forever(
    api: httpx.AsyncClient, pair: Pair
) -> None:
    behind = counted("pulse_list_fallbacks_total", reason="behind")
    async with paused(pair):
        key, _, position = await place(api)
        page = await listed(api, order_unique_key=key, min_position=position)
    assert keys(page) == [key]
    assert counted("pulse_list_fallbacks_total", reason="behind") > behind


async def test_no_page_is_older_than_the_page_before_it(api: httpx.AsyncClient, pair: Pair) -> None:
    async with paused(pair):
        instrument = "BSE:PAGES"
        wanted = [await place(api, instrument=instrument) for _ in range(6)]
        page = await listed(api, instrument=instrument, limit=2, min_position=wanted[-1][2])
        found = keys(page)
        for _ in range(10):
            if page["next_cursor"] is None:
                break
            cursor = page["next_cursor"]
            page = await listed(api, instrument=instrument, limit=2, cursor=cursor)
            found += keys(page)
    assert found == [key for key, _, _ in reversed(wanted)]


async def test_the_console_shows_what_was_just_cancelled(api: httpx.AsyncClient) -> None:
    _, order_id, _ = await place(api)
    form = await api.get(f"/console/orders/{order_id}/cancel")
    token = form.text.split('name="csrf_token" value="', 1)[1].split('"', 1)[0]
    headers = {"sec-fetch-site": "same-origin"}
    answer = await api.post(
        f"/console/orders/{order_id}/cancel", data={"csrf_token": token}, headers=headers
    )
    assert answer.status_code == 303, answer.text
    assert "HttpOnly; SameSite=Strict" in answer.headers["set-cookie"]
    written = (await api.get(f"{ORDERS}/{order_id}")).json()["position"]
    for path in ("orders", "due"):
        shown = (await api.get(f"/console/{path}")).text
        assert shown_position(shown) >= written, path
    api.cookies.set("pulse_position", "9" * 18, domain="localhost.local", path="/console")
    assert (await api.get("/console/orders")).status_code == 200
    api.cookies.clear()


def shown_position(page: str) -> int:
    """The position of the log that a page of the console reflects."""
    found = re.search(r"As of position ([0-9,]+)", page)
    assert found, page
    return int(found[1].replace(",", ""))


@contextlib.asynccontextmanager
async def hold_projection(pair: Pair) -> AsyncIterator[None]:
    """Nothing is projected."""
    async with await psycopg.AsyncConnection.connect(pair.primary.conninfo) as connection:
        await connection.execute("SELECT FROM notification_tracking FOR UPDATE")
        yield
        await connection.rollback()


@contextlib.asynccontextmanager
async def paused(pair: Pair) -> AsyncIterator[None]:
    """The replica applies nothing."""
    await pair.replica.fetch("SELECT pg_wal_replay_pause()")
    try:
        yield
    finally:
        await pair.replica.fetch("SELECT pg_wal_replay_resume()")
