"""Accepted orders stay valid if their keys are no longer allowed for new orders."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from tests.support.api import api_settings, serving
from tests.support.cli import run_pulse, write
from tests.support.events import order_created, stored
from tests.support.orders import BATCH, ORDERS, fault, fault_in, order, placed, post
from tests.support.waiting import until

KEYS = ["ouk_1 ", "\u00a0ouk_1", "ouk_1\ufeff", "Zoe\u0308", "\u212b"]


async def split_by_the_workers(conninfo: str, order_id: UUID) -> dict[str, Any]:
    async with serving(api_settings(conninfo)) as api:

        async def is_completed() -> bool:
            answer = await api.get(f"{ORDERS}/{order_id}")
            return bool(answer.json()["order_queue_status"] == "COMPLETED")

        await until(is_completed, "the order is COMPLETED")
        listed = await api.get(ORDERS)
        (answered,) = listed.json()["orders"]
        return dict(answered)


@pytest.mark.parametrize("key", KEYS, ids=ascii)
def test_a_stored_order_of_such_a_key_is_projected_split_verified_and_rebuilt(
    conninfo: str, key: str
) -> None:
    created = order_created(key)
    write(conninfo, *stored([created]))

    answered = asyncio.run(split_by_the_workers(conninfo, created.originator_id))
    assert answered["order_unique_key"] == key

    verified = run_pulse("verify", conninfo=conninfo)
    assert verified.out.endswith("1 schedule of 5 slices derived again: nothing was found\n")
    assert run_pulse("rebuild", conninfo=conninfo).exit_code == 0
    status = run_pulse("projections", "status", conninfo=conninfo)
    assert (status.exit_code, "0 orders parked" in status.out) == (0, True), status.out


@pytest.mark.parametrize("key", KEYS, ids=ascii)
async def test_a_new_order_of_such_a_key_is_refused_alone_and_in_a_batch(
    conninfo: str, key: str
) -> None:
    async with serving(api_settings(conninfo)) as api:
        details = fault(await post(api, order(order_unique_key=key)), 400, "INVALID_REQUEST")
        assert details["field"] == "order_unique_key"
        assert "NFC" in details["expected"]
        assert "neither white space" in details["expected"]

        results = (await api.post(BATCH, json=[order(), order(order_unique_key=key)])).json()
        first, second = results["results"]
        assert (first["status"], second["status"]) == (201, 400)
        assert fault_in(second["body"], "INVALID_REQUEST") == details
        await placed(api)
