"""A replica that is stopped, promoted, or of another log: lists are then read on the primary."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import psycopg
import pytest

from tests.faults.node import Node
from tests.support.api import serving
from tests.support.database import as_runtime, cloned_database
from tests.support.orders import ORDERS
from tests.support.processes import url_of
from tests.support.replicas import (
    FAST,
    Pair,
    counted,
    on_replica,
    place,
    replicated,
    runtime_url,
    settings_of,
    until_noticed,
    until_used,
)


@pytest.fixture(scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    async with replicated(tmp_path_factory.mktemp("pair")) as pair:
        yield pair


async def assert_lists_on_primary(client: httpx.AsyncClient) -> None:
    """The list has what was just written, and the replica has not answered it."""
    key, _, position = await place(client)
    before = on_replica()
    parameters: dict[str, str | int] = {"order_unique_key": key, "min_position": position}
    answer = await client.get(ORDERS, params=parameters)
    assert answer.status_code == 200, answer.text
    assert [one["order_unique_key"] for one in answer.json()["orders"]] == [key]
    assert on_replica() == before


async def test_a_stopped_replica_makes_no_list_fail_and_is_used_again_after_a_start(
    pair: Pair,
) -> None:
    async with serving(settings_of(pair)) as client:
        await until_used(client)
        unavailable = counted("pulse_list_fallbacks_total", reason="unavailable")
        await asyncio.to_thread(pair.replica.stop_immediately)
        answers = await asyncio.gather(*(client.get(ORDERS) for _ in range(8)))
        assert {answer.status_code for answer in answers} == {200}
        assert counted("pulse_list_fallbacks_total", reason="unavailable") > unavailable
        await until_noticed(client, "the replica cannot be used")
        await assert_lists_on_primary(client)
        await asyncio.to_thread(pair.replica.start)
        await until_used(client)


async def test_a_process_starts_without_its_replica(pair: Pair) -> None:
    unreachable = "postgresql://pulse@127.0.0.1:1/pulse"
    async with serving(settings_of(pair, read_database_url=unreachable)) as client:
        await until_noticed(client, "the replica cannot be used")
        await assert_lists_on_primary(client)


async def test_another_database_is_not_read(
    pair: Pair, postgres: str, template_database: str
) -> None:
    with cloned_database(postgres, template_database) as conninfo:
        other = url_of(as_runtime(conninfo))
        async with serving(settings_of(pair, read_database_url=other)) as client:
            await until_noticed(client, "another database, not a copy")
            await assert_lists_on_primary(client)


async def test_the_primary_itself_may_be_named(pair: Pair) -> None:
    async with serving(settings_of(pair, read_database_url=pair.url)) as client:
        await until_used(client)


async def test_a_copy_that_is_an_independent_server_is_not_read(pair: Pair) -> None:
    """It has the cluster's identity and the log_id, and accepts writes of its own."""
    copy = Node(pair.primary.paths.home.parent / "copy", FAST)
    try:
        await asyncio.to_thread(copy.copy_of, pair.primary, follow=False)
        await asyncio.to_thread(copy.start)
        async with serving(settings_of(pair, read_database_url=runtime_url(copy))) as client:
            await until_noticed(client, "it was promoted, and is not the primary")
            await assert_lists_on_primary(client)
    finally:
        await asyncio.to_thread(copy.stop_immediately)


async def test_a_log_that_is_renamed_is_compared_again(pair: Pair) -> None:
    async with serving(settings_of(pair)) as client:
        await until_used(client)
        with psycopg.connect(pair.primary.conninfo, autocommit=True) as connection:
            connection.execute("UPDATE log_identity SET log_id = gen_random_uuid()")
        await until_used(client)


async def test_without_the_primary_the_replica_has_every_page_of_a_list(pair: Pair) -> None:
    async with serving(settings_of(pair)) as client:
        await until_used(client)
        placed = [await place(client) for _ in range(3)]
        await client.get(ORDERS, params={"min_position": placed[-1][2]})
        before = on_replica()
        await asyncio.to_thread(pair.primary.stop_immediately)
        keys: list[str] = []
        parameters: dict[str, str | int] = {"limit": 1}
        try:
            for _ in placed:
                answer = await client.get(ORDERS, params=parameters)
                assert answer.status_code == 200, answer.text
                page = answer.json()
                keys += [one["order_unique_key"] for one in page["orders"]]
                parameters["cursor"] = page["next_cursor"]
        finally:
            await asyncio.to_thread(pair.primary.start)
            await pair.until_streaming()
        assert keys == [key for key, _, _ in reversed(placed)]
        assert on_replica() - before == len(placed)


async def test_a_promoted_replica_is_not_read(pair: Pair) -> None:
    async with serving(settings_of(pair)) as client:
        await until_used(client)
        await asyncio.to_thread(pair.replica.promote)
        await until_noticed(client, "it was promoted, and is not the primary")
        await assert_lists_on_primary(client)
