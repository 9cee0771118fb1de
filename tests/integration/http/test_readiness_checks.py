"""A process that cannot do its own work is not ready; faults of others are notices with 200."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pulse import loop
from pulse.postgres import DatabaseUnavailable
from pulse.process.apps import api_app
from pulse.projections import claims
from pulse.projections.claims import PRESENCE_CLASS, Claims
from pulse.projections.projector import Projector
from pulse.settings import Settings
from pulse.workers.timeouts import TimeoutMonitor
from tests.support.api import api_settings, client_of, lifespan_of, serving
from tests.support.events import order_created, orders_created, slices_scheduled, stored
from tests.support.log import write
from tests.support.orders import ORDERS, fault, order, placed, post
from tests.support.waiting import until

READY = "/pulse/health/ready"


async def until_not_ready(client: httpx.AsyncClient, check: str, words: str) -> None:
    async def named() -> bool:
        response = await client.get(READY)
        if response.status_code == 200:
            return False
        checks = fault(response, 503, "UNAVAILABLE")["checks"]
        return re.search(words, checks[check] or "") is not None

    await until(named, f"readiness names {check}: {words}")


async def until_ready(client: httpx.AsyncClient, path: str = READY) -> None:
    async def ready() -> bool:
        return (await client.get(path)).status_code == 200

    await until(ready, "the process is ready")


@asynccontextmanager
async def api_without_workers(conninfo: str) -> AsyncIterator[httpx.AsyncClient]:
    app = api_app(api_settings(conninfo))
    async with lifespan_of(app), client_of(app) as client:
        yield client


async def execute(conninfo: str, *statements: str) -> None:
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        for statement in ("SET default_transaction_read_only = off", *statements):
            await connection.execute(statement.encode())


async def end_sessions(conninfo: str, role: str) -> None:
    await execute(
        conninfo,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        f" AND application_name LIKE 'pulse:{role}@%'",
    )


def noticed_in(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The notices besides `not_sealed`: no test here seals its database."""
    return [notice for notice in answer["notices"] if notice["code"] != "not_sealed"]


async def test_every_check_is_listed_even_if_all_pass(
    api: httpx.AsyncClient, conninfo: str
) -> None:
    await until_ready(api)
    answer = (await api.get(READY)).json()
    checks = ["database", "schema", "append", "projection", "clock", "workers"]
    assert list(answer["checks"]) == checks
    assert noticed_in(answer) == []
    async with api_without_workers(conninfo) as alone:
        await until_ready(alone, "/health/ready")
        assert list((await alone.get("/health/ready")).json()["checks"]) == checks[:-1]


async def test_a_read_only_database_is_not_ready_before_the_first_order(
    api: httpx.AsyncClient, conninfo: str
) -> None:
    name = conninfo_to_dict(conninfo)["dbname"]
    change = f'ALTER DATABASE "{name}" SET default_transaction_read_only = '
    await execute(conninfo, change + "on")
    await end_sessions(conninfo, "appender")
    await until_not_ready(api, "append", "read-only")
    fault(await post(api, order()), 503, "UNAVAILABLE")
    await execute(conninfo, change + "off")
    await end_sessions(conninfo, "%")
    await until_ready(api)
    assert (await post(api, order())).status_code == 201


async def test_an_appender_that_cannot_connect_is_not_ready_while_the_pool_serves_reads(
    conninfo: str,
) -> None:
    """A role at its connection limit."""
    role = f"pulse_{uuid4().hex[:12]}"
    await execute(
        conninfo,
        f"CREATE ROLE {role} LOGIN",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
        f"GRANT ALL ON ALL FUNCTIONS IN SCHEMA public TO {role}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
    )
    try:
        settings = Settings(database_url=make_conninfo(conninfo, user=role), pool_size=2)
        async with serving(settings) as api:
            order_id = await placed(api)
            await until_ready(api)
            await execute(conninfo, f"ALTER ROLE {role} CONNECTION LIMIT 0")
            await end_sessions(conninfo, "appender")
            await until_not_ready(api, "append", "too many connections")
            assert (await api.get(f"{ORDERS}/{order_id}")).status_code == 200
            fault(await post(api, order()), 503, "UNAVAILABLE")
            await execute(conninfo, f"ALTER ROLE {role} CONNECTION LIMIT -1")
            await until_ready(api)
    finally:
        await execute(conninfo, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_an_insert_that_the_role_may_not_do_is_not_ready(
    conninfo: str,
) -> None:
    role = f"pulse_{uuid4().hex[:12]}"
    await execute(
        conninfo,
        f"CREATE ROLE {role} LOGIN",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
        f"GRANT ALL ON ALL FUNCTIONS IN SCHEMA public TO {role}",
        f"REVOKE INSERT ON stored_events FROM {role}",
    )
    try:
        async with serving(Settings(database_url=make_conninfo(conninfo, user=role))) as api:

            async def refused() -> bool:
                details = (await api.get(READY)).json()["error"]["details"]
                found = {notice["code"] for notice in details["notices"]}
                named = "permission denied" in (details["checks"]["append"] or "")
                return named and "rights_missing" in found

            await until(refused, "readiness names the right")
    finally:
        await execute(conninfo, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def codes(api: httpx.AsyncClient) -> list[str]:
    answer = await api.get(READY)
    assert answer.status_code == 200
    return [notice["code"] for notice in noticed_in(answer.json())]


async def test_a_process_that_runs_as_the_superuser_works_with_a_notice(conninfo: str) -> None:
    async with serving(Settings(database_url=conninfo)) as api:
        await until_ready(api)
        (notice,) = noticed_in((await api.get(READY)).json())
    assert notice["code"] == "log_not_protected"
    assert not notice["needs_person"]
    assert "is a superuser, so it could change the log" in notice["message"]


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ("GRANT pulse_owner TO {}", "owns the table stored_events"),
        ("GRANT DELETE ON stored_events TO {}", "has UPDATE, DELETE, TRUNCATE or TRIGGER"),
        ("GRANT UPDATE (state) ON stored_events TO {}", "has UPDATE, DELETE, TRUNCATE or TRIG"),
        ("GRANT INSERT ON stored_events TO {}", "may choose the id or the recorded time"),
        ("ALTER SCHEMA public OWNER TO {}", "owns the schema"),
        ("ALTER ROLE {} SUPERUSER", "is a superuser"),
    ],
)
async def test_a_role_with_more_rights_than_the_runtime_is_a_notice(
    conninfo: str, extra: str, reason: str
) -> None:
    role = f"pulse_{uuid4().hex[:12]}"
    await execute(conninfo, f"CREATE ROLE {role} LOGIN IN ROLE pulse_runtime")
    try:
        async with serving(Settings(database_url=make_conninfo(conninfo, user=role))) as api:
            await until_ready(api)
            assert await codes(api) == []
            await execute(conninfo, extra.format(role))
            assert await codes(api) == ["log_not_protected"]
            assert reason in noticed_in((await api.get(READY)).json())[0]["message"]
    finally:
        await execute(
            conninfo,
            f"REASSIGN OWNED BY {role} TO CURRENT_USER",
            f"DROP OWNED BY {role}",
            f"DROP ROLE {role}",
        )


async def test_a_right_that_is_missing_is_a_notice_until_it_is_granted(conninfo: str) -> None:
    async with serving(api_settings(conninfo)) as api:
        await until_ready(api)
        await execute(conninfo, "REVOKE DELETE ON queue_audit_findings FROM pulse_runtime")
        (notice,) = noticed_in((await api.get(READY)).json())
        assert notice["code"] == "rights_missing"
        assert notice["needs_person"]
        assert "need: DELETE ON queue_audit_findings." in notice["message"]
        await execute(conninfo, "GRANT DELETE ON queue_audit_findings TO pulse_runtime")
        assert await codes(api) == []


async def test_a_sequence_below_the_log_is_not_ready_and_the_printed_statement_repairs_it(
    conninfo: str,
) -> None:
    write(conninfo, *stored(orders_created(3)))
    sequence = "public.stored_events_notification_id_seq"
    async with api_without_workers(conninfo) as api:

        async def projected() -> bool:
            return len((await api.get("/internal/orders")).json().get("orders", [])) == 3

        await until(projected, "the orders are in the queue")
        await execute(conninfo, f"SELECT setval('{sequence}', 1)")
        remedy = f"call setval('{sequence}', 3) in SQL"
        checks: dict[str, Any] = {}

        async def found() -> bool:
            checks.update(fault(await api.get("/health/ready"), 503, "UNAVAILABLE")["checks"])
            return all(remedy in (checks[name] or "") for name in ("append", "projection"))

        async def refused() -> bool:
            return (
                await api.get("/internal/orders")
            ).status_code == httpx.codes.SERVICE_UNAVAILABLE

        await until(found, "both checks find the sequence")
        await until(refused, "the process refuses its work")
        assert await found(), checks
        assert "new events get ids that are taken" in checks["append"]
        assert "below the projected position 3" in checks["projection"]
        await execute(conninfo, f"SELECT setval('{sequence}', 3)")
        await until_ready(api, "/health/ready")


async def test_a_row_far_ahead_of_the_sequence_is_a_notice_and_orders_are_accepted(
    api: httpx.AsyncClient, conninfo: str
) -> None:
    (event,) = stored([order_created()])
    async with await psycopg.AsyncConnection.connect(conninfo) as connection:
        await connection.execute(
            "INSERT INTO stored_events"
            " (originator_id, originator_version, topic, state, notification_id)"
            " VALUES (%s, 1, %s, %s, 1000000)",
            (event.originator_id, event.topic, event.state),
        )
    order_id = await placed(api)

    async def completed() -> bool:
        answer = (await api.get(f"{ORDERS}/{order_id}")).json()
        return bool(answer["order_queue_status"] == "COMPLETED")

    await until(completed, "the order is split")
    answer = await api.get(READY)
    assert answer.status_code == 200
    (notice,) = noticed_in(answer.json())
    assert (notice["code"], notice["needs_person"]) == ("id_beyond_sequence", True)
    listed = (await api.get(ORDERS)).json()["orders"]
    assert [one["order_id"] for one in listed] == [order_id]


async def test_no_worker_anywhere_is_a_notice_of_an_api_host_that_stays_ready(
    conninfo: str,
) -> None:
    write(conninfo, *stored(orders_created(3)))
    async with api_without_workers(conninfo) as api:

        async def noticed() -> bool:
            response = await api.get("/health/ready")
            assert response.status_code == 200, response.text
            return [notice["code"] for notice in noticed_in(response.json())] == ["no_worker"]

        await until(noticed, "readiness reports that no worker splits")


async def too_new(self: Projector) -> Any:
    self.fault = "newer code must project on"
    raise DatabaseUnavailable("left to others")


async def denied(_: Projector) -> Any:
    raise DatabaseUnavailable("permission denied for table notification_tracking")


@pytest.mark.parametrize(
    ("step", "words"),
    [(too_new, "newer code must project on"), (denied, "permission denied for table notification")],
)
async def test_a_projection_that_other_processes_must_do_is_a_notice(
    api: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    step: Callable[[Projector], Any],
    words: str,
) -> None:
    monkeypatch.setattr(loop, "MAX_FAILING_SECONDS", 0.05)
    monkeypatch.setattr(Projector, "run_once", step)
    await placed(api)

    async def noticed() -> bool:
        response = await api.get(READY)
        assert response.status_code == 200, response.text
        notices = {notice["code"]: notice for notice in response.json()["notices"]}
        notice = notices.get("projection_left_to_others")
        return notice is not None and words in notice["message"] and not notice["needs_person"]

    await until(noticed, "readiness notices it")


async def crash(*_: object) -> Any:
    raise ZeroDivisionError("a bug")


async def refused(*_: object) -> Any:
    raise DatabaseUnavailable("permission denied for table order_claims")


@pytest.mark.parametrize(
    ("method", "broken", "words"),
    [
        ((Claims, "claim"), crash, r"the splitting loop has failed for \d+ s: crashed with Zero"),
        ((Claims, "claim"), refused, r"the splitting loop has failed for \d+ s: permission denied"),
        ((TimeoutMonitor, "run_once"), crash, "the timeouts loop has failed"),
    ],
)
async def test_workers_that_do_no_work_are_not_ready(
    conninfo: str,
    monkeypatch: pytest.MonkeyPatch,
    method: tuple[type, str],
    broken: Callable[..., Any],
    words: str,
) -> None:
    monkeypatch.setattr(loop, "MAX_FAILING_SECONDS", 0.05)
    monkeypatch.setattr(*method, broken)
    async with serving(api_settings(conninfo)) as api:
        await until_not_ready(api, "workers", words)
        monkeypatch.undo()
        await until_ready(api)


async def test_a_worker_whose_presence_cannot_be_held_is_not_ready(
    api: httpx.AsyncClient, conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await until_ready(api)
    monkeypatch.setattr(claims, "MAX_ABSENT_SECONDS", 0.05)
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as other:
        worker = await (await other.execute("SELECT name_hash FROM present_workers()")).fetchone()
        assert worker is not None

        async def held_by_other() -> bool:
            await end_sessions(conninfo, "presence")
            cursor = await other.execute(
                "SELECT pg_try_advisory_lock(%s::integer, %s::integer)", (PRESENCE_CLASS, worker[0])
            )
            return await cursor.fetchone() == (True,)

        await until(held_by_other, "another session holds the lock of the worker's presence")
        await until_not_ready(api, "workers", "the worker has not held its presence lock")
    await until_ready(api)


async def test_an_order_that_the_projection_missed_is_a_notice(
    api: httpx.AsyncClient, conninfo: str
) -> None:
    created = order_created()
    (late,) = stored([created])
    async with await psycopg.AsyncConnection.connect(conninfo) as connection:
        await connection.execute(
            "INSERT INTO stored_events (originator_id, originator_version, topic, state)"
            " VALUES (%s, 1, %s, %s)",
            (late.originator_id, late.topic, late.state),
        )
        other = order_created()
        write(conninfo, *stored([other, slices_scheduled(other)]))

        async def projected() -> bool:
            return bool((await api.get(ORDERS)).json()["orders"])

        await until(projected, "the later order is projected")

    await execute(conninfo, "UPDATE queue_audit SET due_at = clock_timestamp()")

    async def noticed() -> bool:
        response = await api.get(READY)
        assert response.status_code == 200
        return [n["code"] for n in noticed_in(response.json())] == ["orders_missing"]

    await until(noticed, "the audit has found it")


async def test_locked_audit_tables_are_a_notice(conninfo: str) -> None:
    async with (
        api_without_workers(conninfo) as client,
        await psycopg.AsyncConnection.connect(conninfo) as other,
    ):
        await other.execute("LOCK TABLE queue_audit IN ACCESS EXCLUSIVE MODE")
        answer = await client.get("/health/ready")
        assert answer.status_code == 200
        codes = [notice["code"] for notice in answer.json()["notices"]]
        assert "audit_unreadable" in codes
