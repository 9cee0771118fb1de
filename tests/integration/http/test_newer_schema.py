"""A process on a schema of newer code serves only if the schema admits it.

`pulse_schema` decides both at the start and while the process runs.
"""

import httpx
import psycopg
import pytest

from pulse.process.apps import all_in_one_app
from pulse.process.revisions import REVISIONS
from pulse.settings import Settings
from tests.support.api import api_settings, lifespan_of, serving
from tests.support.orders import ORDERS, fault, order, placed, post
from tests.support.waiting import until

READY = "/pulse/health/ready"
HEAD = REVISIONS[-1].number
NEXT = HEAD + 1


def add_revision(conninfo: str, *, oldest_code: int) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            "INSERT INTO pulse_schema VALUES (%s, 'halts', %s)"
            " ON CONFLICT (revision) DO UPDATE SET oldest_code = excluded.oldest_code",
            (NEXT, oldest_code),
        )


async def status_of(api: httpx.AsyncClient, path: str) -> int:
    return (await api.get(path)).status_code


async def test_a_running_process_keeps_serving_on_a_revision_that_admits_it(
    api: httpx.AsyncClient, conninfo: str
) -> None:
    add_revision(conninfo, oldest_code=HEAD)
    assert await status_of(api, READY) == 200
    order_id = await placed(api)

    async def is_split() -> bool:
        answer = await api.get(f"{ORDERS}/{order_id}")
        return bool(answer.json()["order_queue_status"] == "COMPLETED")

    await until(is_split, "the order is split")


async def test_a_running_process_stops_serving_on_a_revision_that_does_not_admit_it(
    api: httpx.AsyncClient, conninfo: str
) -> None:
    order_id = await placed(api)
    add_revision(conninfo, oldest_code=NEXT)
    checks = fault(await api.get(READY), 503, "UNAVAILABLE")["checks"]
    assert f"revision {NEXT} (halts)" in checks["schema"]

    async def serves_nothing() -> bool:
        return (await post(api, order())).status_code == 503

    await until(serves_nothing, "orders are refused")
    fault(await post(api, order()), 503, "UNAVAILABLE")
    answer = await post(api, [order()], f"{ORDERS}/batch")  # type: ignore[arg-type]
    assert [result["status"] for result in answer.json()["results"]] == [503]
    for path in (f"{ORDERS}/{order_id}", f"{ORDERS}/{order_id}/events", ORDERS):
        assert await status_of(api, path) == 503
    for path in ("/pulse/internal/events", "/pulse/internal/slices"):
        assert await status_of(api, path) == 503
    assert await status_of(api, "/pulse/health") == 200

    add_revision(conninfo, oldest_code=HEAD)

    async def serves_again() -> bool:
        return (await post(api, order())).status_code == 201

    await until(serves_again, "orders are accepted again")


async def test_a_process_that_may_migrate_does_not_start_on_a_schema_that_does_not_admit_it(
    conninfo: str,
) -> None:
    add_revision(conninfo, oldest_code=NEXT)
    with pytest.raises(AssertionError, match=rf"revision {NEXT} \(halts\)"):
        async with lifespan_of(all_in_one_app(api_settings(conninfo))):
            pass


async def test_a_process_that_does_not_migrate_serves_nothing_until_the_schema_admits_it(
    conninfo: str,
) -> None:
    add_revision(conninfo, oldest_code=NEXT)
    async with serving(api_settings(conninfo, migrate=False)) as api:
        fault(await post(api, order()), 503, "UNAVAILABLE")
        checks = fault(await api.get(READY), 503, "UNAVAILABLE")["checks"]
        assert f"revision {NEXT} (halts)" in checks["schema"]
        add_revision(conninfo, oldest_code=HEAD)

        async def serves() -> bool:
            return (await post(api, order())).status_code == 201

        await until(serves, "orders are accepted")


@pytest.mark.parametrize("migrate", [True, False])
async def test_a_database_with_a_table_of_another_alembic_application_is_served(
    empty_conninfo: str,
    migrate: bool,  # noqa: FBT001
) -> None:
    with psycopg.connect(empty_conninfo) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num varchar(32))")
        connection.execute("INSERT INTO alembic_version VALUES ('a1b2c3d4')")
    async with serving(Settings(database_url=empty_conninfo, migrate=migrate)) as api:
        if migrate:
            assert await status_of(api, READY) == 200
            assert await placed(api)
        else:
            checks = fault(await api.get(READY), 503, "UNAVAILABLE")["checks"]
            assert "pulse migrate" in checks["schema"]


async def test_a_running_process_refuses_orders_that_would_never_be_projected(
    api: httpx.AsyncClient, conninfo: str
) -> None:
    sequence = "SELECT setval('stored_events_notification_id_seq', %s)"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(sequence, (10_000,))
        order_id = await placed(api)

        async def is_split() -> bool:
            answer = await api.get(f"{ORDERS}/{order_id}")
            return bool(answer.json()["order_queue_status"] == "COMPLETED")

        await until(is_split, "the order is split and projected")
        connection.execute(sequence, (5_000,))

        async def is_refused() -> bool:
            return (await post(api, order())).status_code == 503

        await until(is_refused, "orders are refused")
        connection.execute(sequence, (20_000,))

        async def is_accepted() -> bool:
            return (await post(api, order())).status_code == 201

        await until(is_accepted, "orders are accepted again")
