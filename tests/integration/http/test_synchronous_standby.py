"""PULSE_REQUIRE_SYNCHRONOUS_STANDBY: an order is accepted only if a standby has to confirm it."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.api import serving
from tests.support.orders import ORDERS, order, post
from tests.support.replicas import Pair, place, replicated, settings_of
from tests.support.waiting import until

NAMES = "synchronous_standby_names"


@pytest.fixture(scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    async with replicated(tmp_path_factory.mktemp("pair")) as pair:
        yield pair


@pytest.fixture
async def api(pair: Pair) -> AsyncIterator[httpx.AsyncClient]:
    settings = settings_of(pair, read_database_url=None, require_synchronous_standby=True)
    async with serving(settings) as client:
        yield client


async def stored_keys(pair: Pair) -> set[str]:
    rows = await pair.primary.fetch(
        "SELECT convert_from(state, 'UTF8')::json ->> 'order_unique_key' FROM stored_events"
    )
    return {key for (key,) in rows}


async def until_accepted(client: httpx.AsyncClient, request: dict[str, object]) -> httpx.Response:
    answers: list[httpx.Response] = []

    async def accepted() -> bool:
        answers.append(await post(client, request))
        return answers[-1].status_code in {200, 201}

    await until(accepted, "an order is accepted")
    return answers[-1]


async def test_a_process_starts_and_refuses_orders_until_a_standby_is_required(
    pair: Pair, api: httpx.AsyncClient
) -> None:
    await pair.configure(NAMES, "")
    request = order()
    refused = await post(api, request)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "UNAVAILABLE")
    ready = await api.get("/pulse/health/ready")
    assert ready.status_code == 503
    assert NAMES in ready.json()["error"]["details"]["checks"]["append"]
    assert (await api.get(ORDERS)).status_code == 200
    await pair.configure(NAMES, "*")
    assert (await until_accepted(api, request)).status_code == 201


async def test_after_the_standby_names_are_emptied_the_next_order_is_refused_and_not_stored(
    pair: Pair, api: httpx.AsyncClient
) -> None:
    await pair.configure(NAMES, "*")
    await until_accepted(api, order())
    for _ in range(3):
        await place(api)
    await pair.configure(NAMES, "")
    requests = [order() for _ in range(5)]
    for request in requests:
        assert (await post(api, request)).status_code == 503
    batch = await post(api, requests, f"{ORDERS}/batch")  # type: ignore[arg-type]
    assert {one["status"] for one in batch.json()["results"]} == {503}
    assert not await stored_keys(pair) & {str(one["order_unique_key"]) for one in requests}
    await pair.configure(NAMES, "*")
    for request in requests:
        assert (await until_accepted(api, request)).status_code == 201


async def test_an_order_whose_commit_was_released_without_a_standby_is_not_acknowledged(
    pair: Pair, api: httpx.AsyncClient
) -> None:
    """Postgres answers the commits that wait for a standby once none is required any more."""
    await pair.configure(NAMES, "*")
    placed = await until_accepted(api, order())

    async def is_split() -> bool:  # so that no other event waits for the standby
        found = (await api.get(f"{ORDERS}/{placed.json()['order_id']}")).json()
        return bool(found["order_queue_status"] == "COMPLETED")

    await until(is_split, "the order is split")
    await asyncio.to_thread(pair.replica.stop_immediately)
    request = order()
    key = str(request["order_unique_key"])
    posting = asyncio.create_task(post(api, request))

    async def waits() -> bool:
        rows = await pair.primary.fetch(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            " AND starts_with(application_name, 'pulse:appender')"  # background jobs wait, too
        )
        return bool(rows[0][0])

    await until(waits, "the commit waits for the standby")
    await pair.configure(NAMES, "")
    assert (await posting).status_code == 503
    assert key in await stored_keys(pair), "the commit was not released, so this tests nothing"
    assert (await post(api, request)).status_code == 503
    await asyncio.to_thread(pair.replica.start)
    await pair.until_streaming()
    await pair.configure(NAMES, "*")
    assert (await until_accepted(api, request)).status_code in {200, 201}
    rows = await pair.replica.fetch(
        "SELECT count(*) FROM stored_events"
        " WHERE convert_from(state, 'UTF8')::json ->> 'order_unique_key' = %s",
        key,
    )
    assert rows == [(1,)]


async def test_without_the_setting_orders_are_accepted_without_a_standby(pair: Pair) -> None:
    await pair.configure(NAMES, "")
    async with serving(settings_of(pair, read_database_url=None)) as client:
        await place(client)
