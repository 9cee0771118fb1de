"""A start refuses a database on which the projection could miss an accepted order."""

from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

import psycopg
import pytest

from pulse.application import notices
from pulse.application.known_halts import NO_HALTS
from pulse.application.notices import read_health_snapshot, sequence_below_position
from pulse.postgres import Connection, Database
from pulse.process import schema
from pulse.process.node import Node, WorkerLocation
from pulse.process.schema import LogUnfit
from pulse.process.server import Server
from pulse.settings import Settings
from tests.integration.http.test_database_outage import database_down
from tests.support.api import serving
from tests.support.cli import projected, run_pulse
from tests.support.database import as_runtime
from tests.support.events import orders_created, stored
from tests.support.log import write
from tests.support.orders import fault, order, post
from tests.support.processes import run_to_end, url_of
from tests.support.waiting import until

SEQUENCE = "public.stored_events_notification_id_seq"
DIVERT = """
    CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
    CREATE TRIGGER divert BEFORE INSERT ON stored_events FOR EACH ROW EXECUTE FUNCTION f()
"""


def execute(conninfo: str, *statements: str) -> None:
    with psycopg.connect(conninfo) as connection:
        for statement in statements:
            connection.execute(statement.encode())


async def start(conninfo: str) -> None:
    async with Node(
        Settings(), Server(as_runtime(conninfo)), workers=WorkerLocation.HERE
    ).running():
        pass


async def test_a_log_that_is_not_on_one_server_is_refused(conninfo: str) -> None:
    execute(conninfo, DIVERT)
    with pytest.raises(LogUnfit, match="changes inserts into stored_events: divert"):
        await start(conninfo)


@pytest.mark.parametrize("position", [1, 3])
def test_a_sequence_below_the_position_is_refused_with_the_repair(
    conninfo: str, position: int
) -> None:
    write(conninfo, *stored(orders_created(4)))
    projected(conninfo)
    execute(conninfo, f"SELECT setval('{SEQUENCE}', {position})")
    ended = run_to_end(("-m", "pulse.background"), database_url=url_of(conninfo))
    assert ended.returncode == 3
    assert "below the projected position 4" in ended.stderr
    assert f"call setval('{SEQUENCE}', 4) in SQL" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert run_pulse("status", conninfo=conninfo).exit_code == 1, (
        "status works on the refused database"
    )


async def test_a_sequence_below_the_end_of_the_log_is_refused(conninfo: str) -> None:
    write(conninfo, *stored(orders_created(4)))
    execute(conninfo, f"SELECT setval('{SEQUENCE}', 2)")
    with pytest.raises(LogUnfit, match="new events get ids that are taken"):
        await start(conninfo)


async def test_a_row_far_ahead_does_not_prevent_a_start(conninfo: str) -> None:
    write(conninfo, *stored(orders_created(1)))
    execute(
        conninfo,
        "INSERT INTO stored_events (originator_id, originator_version, topic, state,"
        " notification_id) VALUES (gen_random_uuid(), 1, 'a:B', '', 1000000)",
    )
    await start(conninfo)


async def test_an_unfit_log_found_after_an_outage_takes_no_orders_until_it_is_repaired(
    postgres: str, conninfo: str
) -> None:
    execute(conninfo, DIVERT)
    with database_down(postgres, conninfo):
        serving_it = serving(Settings(database_url=as_runtime(conninfo)))
        api = await serving_it.__aenter__()

    async def named() -> bool:
        response = await api.get("/pulse/health/ready")
        checks = fault(response, 503, "UNAVAILABLE")["checks"]
        return "changes inserts" in (checks["schema"] or "")

    try:
        await until(named, "readiness names the log's fault")
        fault(await post(api, order()), 503, "UNAVAILABLE")
        execute(conninfo, "DROP TRIGGER divert ON stored_events")

        async def accepted() -> bool:
            return (await post(api, order())).status_code == 201

        await until(accepted, "orders are accepted")
    finally:
        await serving_it.__aexit__(None, None, None)


def advance_after_each_read(
    monkeypatch: pytest.MonkeyPatch, conninfo: str, module: ModuleType, *names: str
) -> None:
    """After each of these reads another process appends an event and projects it."""

    def advancing(read: Callable[[Connection], Awaitable[Any]]) -> Callable[[Connection], Any]:
        async def read_and_advance(connection: Connection) -> Any:
            found = await read(connection)
            write(conninfo, *stored(orders_created(1)))
            async with await Database(as_runtime(conninfo), pool_size=1).connect("test") as other:
                await other.execute(
                    "UPDATE notification_tracking SET notification_id ="
                    " (SELECT max(notification_id) FROM stored_events)"
                )
            return found

        return read_and_advance

    for name in names:
        monkeypatch.setattr(module, name, advancing(getattr(module, name)))


async def test_a_projection_between_the_reads_of_a_start_does_not_end_the_start(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(conninfo, *stored(orders_created(2)))
    advance_after_each_read(monkeypatch, conninfo, schema, "read_log_state", "read_position")
    await start(conninfo)


async def test_a_projection_between_the_reads_of_readiness_is_not_a_fault(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(database.conninfo, *stored(orders_created(2)))
    advance_after_each_read(monkeypatch, database.conninfo, notices, "read_log_state", "read_lag")
    snapshot = await database.read(
        lambda connection: read_health_snapshot(connection, 300, NO_HALTS)
    )
    assert sequence_below_position(snapshot.log, snapshot.lag.position) is None
