"""PgBouncer: Pulse works in session mode, and refuses shared sessions."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pulse.postgres import Connection, Connector, PostgresLimits, SessionUnfit
from pulse.postgres.limits import session_settings
from pulse.postgres.migrations import Migrations
from pulse.process.revisions import REVISIONS
from pulse.settings import Settings
from tests.support.api import serving
from tests.support.cli import run_pulse
from tests.support.orders import ORDERS, order, post
from tests.support.pgbouncer import PASSWORD, PGBOUNCER, pgbouncer
from tests.support.processes import UP, free_port, run_to_end, url_of
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="no PgBouncer on this machine")

SHARED = "transaction or statement mode"


async def connect(address: str, limits: PostgresLimits | None = None) -> Connection:
    return await Connector(address, limits or PostgresLimits()).connect("test")


async def rows_of(address: str, statement: LiteralString) -> list[tuple[Any, ...]]:
    async with await connect(address) as connection:
        return await (await connection.execute(statement)).fetchall()


@pytest.mark.parametrize("size", [1, 2, 20])
@pytest.mark.parametrize("round_robin", [0, 1])
@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_a_pooler_that_shares_sessions_is_refused_at_the_first_connection(
    conninfo: str, mode: str, round_robin: int, size: int
) -> None:
    settings = {"default_pool_size": size, "server_round_robin": round_robin}
    with pgbouncer(conninfo, pool_mode=mode, **settings) as address:
        for _ in range(3):
            with pytest.raises(SessionUnfit, match=SHARED) as unfit:
                await Migrations(REVISIONS).migrate(address, PostgresLimits())
            assert unfit.value.is_permanent


@contextmanager
def busy(address: str) -> Iterator[None]:
    """Other clients of the pooler, each of which runs one statement after the other."""
    stopped = threading.Event()

    def ask() -> None:
        with psycopg.connect(address, autocommit=True, prepare_threshold=None) as connection:
            while not stopped.is_set():
                connection.execute("SELECT 1")

    clients = [threading.Thread(target=ask) for _ in range(6)]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        stopped.set()
        for client in clients:
            client.join()


@pytest.mark.parametrize("round_robin", [0, 1])
async def test_shared_sessions_are_found_while_other_clients_are_busy(
    conninfo: str, round_robin: int
) -> None:
    with (
        pgbouncer(conninfo, pool_mode="transaction", server_round_robin=round_robin) as address,
        busy(address),
    ):
        for _ in range(10):
            with pytest.raises(SessionUnfit, match=SHARED):
                await connect(address)


async def test_in_a_shared_session_no_settings_of_pulse_remain(conninfo: str) -> None:
    with pgbouncer(conninfo, pool_mode="transaction", default_pool_size=1) as address:
        with pytest.raises(SessionUnfit):
            await connect(address)
        with psycopg.connect(address, autocommit=True) as other:
            assert other.execute("SHOW statement_timeout").fetchone() == ("0",)


async def test_orders_work_through_pgbouncer_with_its_default_configuration(conninfo: str) -> None:
    with pgbouncer(conninfo) as address:
        async with serving(Settings(database_url=address)) as api:
            order_id = (await post(api, order())).json()["order_id"]

            async def completed() -> bool:
                answered = (await api.get(f"{ORDERS}/{order_id}")).json()
                return bool(answered.get("order_queue_status") == "COMPLETED")

            await until(completed, "the order is COMPLETED")

            async def ready() -> bool:
                return (await api.get("/pulse/health/ready")).status_code == 200

            await until(ready, "it is ready")
            placed = [(await post(api, order())).status_code for _ in range(100)]
            assert set(placed) == {201}


async def test_a_pooler_that_starts_to_share_sessions_is_reported_until_it_stops(
    conninfo: str,
) -> None:
    port = free_port()
    with ExitStack() as stack:
        address = stack.enter_context(pgbouncer(conninfo, port=port))
        async with serving(Settings(database_url=address)) as api:
            assert (await post(api, order())).status_code == 201
            stack.close()

            async def named() -> bool:
                return SHARED in (await api.get("/pulse/health/ready")).text

            with pgbouncer(conninfo, port=port, pool_mode="transaction"):
                await until(named, "readiness says why")
                assert (await post(api, order())).status_code == 503

            async def accepted() -> bool:
                return (await post(api, order())).status_code == 201

            async def ready() -> bool:
                return (await api.get("/pulse/health/ready")).status_code == 200

            with pgbouncer(conninfo, port=port):
                await until(accepted, "orders are accepted again")
                await until(ready, "it is ready again")


async def test_behind_a_pooler_every_setting_is_in_force(conninfo: str) -> None:
    needed = session_settings(PostgresLimits())
    with pgbouncer(conninfo) as address:
        rows = await rows_of(address, "SELECT lower(name), setting, source FROM pg_settings")
    found = {name: (value, source) for name, value, source in rows if name in needed}
    assert needed.keys() - found.keys() <= {"transaction_timeout"}  # new in Postgres 17
    assert {source for _, source in found.values()} == {"session"}
    values = {name: value for name, (value, _) in found.items() if not name.startswith("tcp_")}
    assert values == {name: needed[name] for name in values}  # on a Unix socket, tcp_* show 0


async def test_with_a_single_server_connection_only_the_first_client_is_served(
    conninfo: str,
) -> None:
    limits = PostgresLimits(connect_seconds=2)
    with pgbouncer(conninfo, default_pool_size=1) as address:
        async with await connect(address, limits) as first:
            with pytest.raises(psycopg.OperationalError, match="default_pool_size"):
                await connect(address, limits)
            assert await (await first.execute("SELECT 1")).fetchone() == (1,)


async def test_state_that_an_earlier_client_left_in_the_session_is_discarded(conninfo: str) -> None:
    with pgbouncer(
        conninfo, default_pool_size=1, server_reset_query="", server_reset_query_always=0
    ) as address:
        with psycopg.connect(address, autocommit=True) as earlier:
            earlier.execute("CREATE TEMP TABLE stored_events (n int)")
            psycopg.ClientCursor(earlier).execute("PREPARE _pg3_0 AS SELECT 1")
        async with await connect(address) as connection:
            for n in range(3):
                await connection.execute("SELECT %s::int", (n,))
            cursor = await connection.execute("SELECT count(topic) FROM stored_events")
            assert await cursor.fetchone() == (0,)


async def test_the_urls_options_hold_behind_a_pooler_that_drops_them(conninfo: str) -> None:
    with pgbouncer(conninfo, ignore_startup_parameters="options") as address:
        given = make_conninfo(address, options="-c work_mem=7MB -c statement_timeout=77s")
        found = await rows_of(
            given, "SELECT current_setting('work_mem'), current_setting('statement_timeout')"
        )
    assert found == [("7MB", "10s")]


async def test_options_that_postgres_refuses_behind_a_pooler_are_not_repeated(
    conninfo: str,
) -> None:
    with pgbouncer(conninfo, ignore_startup_parameters="options") as address:
        given = make_conninfo(address, options="-c work_mem=s3cret")
        with pytest.raises(SessionUnfit, match="options of PULSE_DATABASE_URL") as unfit:
            await connect(given)
    assert "s3cret" not in str(unfit.value)


@pytest.mark.parametrize(
    "command", [UP, ("-m", "pulse.background")], ids=["pulse up", "pulse.background"]
)
def test_a_pooler_that_shares_sessions_ends_the_start(
    conninfo: str, tmp_path: Path, command: tuple[str, ...]
) -> None:
    with pgbouncer(conninfo, pool_mode="transaction") as address:
        url = url_of(make_conninfo(address, password=PASSWORD))
        ended = run_to_end(command, database_url=url, data_dir=tmp_path, log_level="error")
    assert ended.returncode == 3
    assert ended.stderr.count("pooler in transaction or statement mode") == 1, ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("pool_mode", "check", "state"),
    [("session", "pooler", "ok"), ("transaction", "connection", "fail")],
)
def test_pulse_doctor_checks_the_mode_of_a_pooler(
    conninfo: str, pool_mode: str, check: str, state: str
) -> None:
    with pgbouncer(conninfo, pool_mode=pool_mode) as address:
        checks = json.loads(run_pulse("doctor", "--json", conninfo=address).out)["checks"]
    (found,) = [found for found in checks if found["name"] == check]
    assert found["state"] == state
    assert "session mode" in found["message"]
