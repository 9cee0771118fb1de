"""An append is answered only once a replica has it, whatever ends the wait for the replica."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pulse.application.callers import Caller
from pulse.application.halts import HaltRequest, ReleaseHalts
from pulse.application.in_process import InProcessOrders
from pulse.application.origin import Origin
from pulse.eventstore import (
    AppendLimits,
    AppendOutcomeUnknown,
    AppendRefused,
    EventStore,
    VersionTaken,
)
from pulse.metrics import REGISTRY
from pulse.postgres import Database, PostgresLimits
from pulse.postgres.embedded import EmbeddedServer
from pulse.projections.order_view import OrderReader
from tests.support.commands import T0, place_order
from tests.support.events import MAPPER, TRACE, foreign_event
from tests.support.log import running_appender, running_store
from tests.support.waiting import until

CALLER = Caller("oms")
LIMITS = AppendLimits(answer_seconds=2.0, statement_seconds=0.5)
IMPATIENT = PostgresLimits(lock_seconds=0.1)
NOT_CONFIRMED = (AppendRefused, AppendOutcomeUnknown)


@pytest.fixture
def conninfo(data_dir: Path) -> Iterator[str]:
    """A server of the test's own, as its superuser."""
    server = EmbeddedServer.acquire(data_dir, {"fsync": "off"})
    yield server.conninfo
    server.release()


@pytest.fixture
async def database(conninfo: str) -> AsyncIterator[Database]:
    database = Database(conninfo, pool_size=2)
    yield database
    await database.close()


async def on_server(conninfo: str, statement: LiteralString) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        await connection.execute("SET synchronous_commit = local")
        cursor = await connection.execute(statement)
        return await cursor.fetchall() if cursor.description else []


async def until_rows(conninfo: str, statement: LiteralString) -> None:
    async def found() -> bool:
        return bool(await on_server(conninfo, statement))

    await until(found, statement)


async def require_none(conninfo: str) -> None:
    """No commit waits for a replica any more; those that wait are answered."""
    await on_server(conninfo, "ALTER SYSTEM RESET synchronous_standby_names")
    await on_server(conninfo, "SELECT pg_reload_conf()")


WAITING: LiteralString = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
END_WAITING: LiteralString = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
)
CANCEL_WAITING: LiteralString = (
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
)


async def require_replica(conninfo: str) -> None:
    """From now on each commit waits for a replica, and there is none.

    Sessions see the setting at once, but their commits wait only when the checkpointer has read it.
    """
    await on_server(conninfo, "ALTER SYSTEM SET synchronous_standby_names = 'missing'")
    await on_server(conninfo, "SELECT pg_reload_conf()")

    async def commits_wait() -> bool:
        async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
            commit = "SELECT pg_logical_emit_message(true, 'test', '')"
            commits = asyncio.ensure_future(connection.execute(commit))
            cancelled = False
            while not commits.done():
                cancelled = cancelled or bool(await on_server(conninfo, CANCEL_WAITING))
                await asyncio.sleep(0.01)
            await commits
            return cancelled

    await until(commits_wait, "commits wait for a replica")


async def test_after_the_time_limit_of_the_statement_the_commit_still_waits_for_its_replica(
    conninfo: str, database: Database
) -> None:
    async with running_appender(database, limits=LIMITS) as appender:
        await appender.append([foreign_event()])
        await require_replica(conninfo)
        event = foreign_event(uuid4())
        for _ in range(3):  # a caller that retries
            with pytest.raises(NOT_CONFIRMED):
                await appender.append([event])
        assert await on_server(conninfo, "SELECT count(*) FROM stored_events") == [(1,)]
        await require_none(conninfo)
        await _until_stored(appender, event)
    assert await on_server(conninfo, "SELECT count(*) FROM stored_events") == [(2,)]


async def test_a_commit_that_no_replica_has_is_not_confirmed_to_a_retry(
    conninfo: str, database: Database
) -> None:
    """A terminated backend leaves its commit visible; so does a server that crashed."""
    async with running_appender(database, limits=LIMITS) as appender:
        await appender.append([foreign_event()])
        await require_replica(conninfo)
        event = foreign_event(uuid4())
        first = asyncio.ensure_future(appender.append([event]))
        await until_rows(conninfo, WAITING)
        await on_server(conninfo, END_WAITING)
        with pytest.raises(NOT_CONFIRMED):
            await first
        await until_rows(conninfo, "SELECT 1 FROM stored_events OFFSET 1")
        with pytest.raises(NOT_CONFIRMED):
            await appender.append([event])
        await require_none(conninfo)
        await _until_stored(appender, event)
    assert await on_server(conninfo, "SELECT count(*) FROM stored_events") == [(2,)]


async def test_a_commit_whose_wait_is_cancelled_is_not_confirmed(
    conninfo: str, database: Database
) -> None:
    """Postgres then reports success, with a warning. The commit that confirms may be cancelled."""
    patient = AppendLimits(answer_seconds=2.0, statement_seconds=10.0)
    async with running_appender(database, limits=patient) as appender:
        await appender.append([foreign_event()])
        await require_replica(conninfo)
        event = foreign_event(uuid4())
        first = asyncio.ensure_future(appender.append([event]))
        cancelled = 0
        while not first.done():
            cancelled += len(await on_server(conninfo, CANCEL_WAITING))
            await asyncio.sleep(0.05)
        assert cancelled > 1
        with pytest.raises(AppendOutcomeUnknown):
            await first
        await require_none(conninfo)
        await _until_stored(appender, event)
    assert await on_server(conninfo, "SELECT count(*) FROM stored_events") == [(2,)]


async def test_without_a_replica_a_repeated_append_and_probes_leave_one_session_that_waits(
    conninfo: str,
) -> None:
    """A server's session waits without limit, even after its client has disconnected."""
    database = Database(conninfo, pool_size=1, limits=IMPATIENT)
    async with running_appender(database, limits=LIMITS) as appender:
        event = foreign_event(uuid4())
        await appender.append([event])
        await require_replica(conninfo)
        for _ in range(4):
            with pytest.raises(NOT_CONFIRMED):
                await appender.append([event])
            assert await appender.fault() is not None
        assert len(await on_server(conninfo, WAITING)) == 1
        await require_none(conninfo)
        await _until_stored(appender, event)


async def test_without_the_right_to_confirm_retries_are_spaced_and_the_right_is_named(
    conninfo: str, database: Database
) -> None:
    role = "pulse_without_messages"
    await on_server(conninfo, "CREATE ROLE pulse_without_messages LOGIN")
    await on_server(conninfo, "GRANT SELECT, INSERT ON stored_events TO pulse_without_messages")
    await on_server(conninfo, "GRANT EXECUTE ON FUNCTION lock_log TO pulse_without_messages")
    await on_server(
        conninfo,
        "GRANT USAGE ON SEQUENCE stored_events_notification_id_seq TO pulse_without_messages",
    )
    await on_server(
        conninfo,
        "DO $$ BEGIN EXECUTE (SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC',"
        " string_agg(oid::regprocedure::text, ',')) FROM pg_proc"
        " WHERE proname = 'pg_logical_emit_message'); END $$",
    )
    async with running_appender(database) as appender:
        event = foreign_event(uuid4())
        await appender.append([event])
    limited = Database(make_conninfo(conninfo, user=role), pool_size=1)
    async with running_appender(limited, limits=LIMITS) as appender:
        before = _retries()
        with pytest.raises(AppendOutcomeUnknown):
            await appender.append([event])
        assert 0 < _retries() - before < 50  # 0.5 s apart at most, 2 s long
        assert "pg_logical_emit_message" in (await appender.fault() or "")


class Desk:
    """Orders and halts with a clock that a test sets, on a server that may lack a replica."""

    def __init__(self, store: EventStore, database: Database) -> None:
        self.now = T0
        origin, reader = Origin("host:1:abc"), OrderReader(database, MAPPER)
        self.orders = InProcessOrders(store, reader, lambda: self.now, origin)
        self.halts = ReleaseHalts(store, lambda: self.now, origin)


async def test_a_repeated_request_that_writes_nothing_is_answered_once_a_replica_has_the_event(
    conninfo: str,
) -> None:
    database = Database(conninfo, pool_size=2, limits=IMPATIENT)
    await database.open()
    async with running_store(database, limits=LIMITS) as store:
        desk = Desk(store, database)
        kept = await desk.orders.place(place_order("kept").spec, CALLER, TRACE)
        lifted = await desk.halts.halt(HaltRequest(scope="ALL", reason="test"), CALLER, TRACE)
        halt_id = lifted.halt.halt_id
        await require_replica(conninfo)
        spec = place_order("late", start_at=desk.now).spec
        requests: list[Callable[[], Awaitable[Any]]] = [
            lambda: desk.orders.place(spec, CALLER, TRACE),
            lambda: desk.orders.cancel(kept.order_id, None, CALLER, TRACE),
            lambda: desk.halts.resume(halt_id, None, CALLER, TRACE),
            lambda: desk.halts.halt(
                HaltRequest(scope="INSTRUMENT", instrument="NIFTY", reason="test"), CALLER, TRACE
            ),
        ]
        for stored, request in enumerate(requests, start=3):
            await _store_without_replica(conninfo, request, stored)
        desk.now += timedelta(days=1)  # the window of the order has passed
        for request in requests:
            with pytest.raises(NOT_CONFIRMED):
                await request()
        await require_none(conninfo)
        for request in requests:
            await _until_answered(request)
        assert await on_server(conninfo, "SELECT count(*) FROM stored_events") == [(6,)]
    await database.close()


async def _store_without_replica(
    conninfo: str, request: Callable[[], Awaitable[Any]], stored: int
) -> None:
    """Send a request until the log has `stored` events, and end each wait for a replica."""
    async with asyncio.timeout(30):
        while await on_server(conninfo, "SELECT count(*) FROM stored_events") != [(stored,)]:
            requested = asyncio.ensure_future(request())
            while not requested.done():
                await on_server(conninfo, END_WAITING)
                await asyncio.sleep(0.05)
            with pytest.raises(NOT_CONFIRMED):
                await requested


def _retries() -> float:
    return REGISTRY.get_sample_value("pulse_retries_total") or 0.0


async def _until_stored(appender: Any, event: Any) -> None:
    """Append it until the log has answered that it is stored."""
    with contextlib.suppress(VersionTaken):
        await _until_answered(lambda: appender.append([event]))


async def _until_answered(request: Callable[[], Awaitable[Any]]) -> None:
    """Send a request until it is answered."""
    async with asyncio.timeout(30):
        while True:
            try:
                await request()
            except NOT_CONFIRMED:
                await asyncio.sleep(0.05)
            else:
                return
