"""Revision 7 changes the queue's tables and rebuilds them; views of others keep working."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from uuid import uuid4

import psycopg
import pytest

from pulse.domain import Event
from pulse.postgres import Database, DatabaseUnavailable, PostgresLimits
from pulse.postgres.migrations import Migrations
from pulse.postgres.revision import Revision
from pulse.process import schema
from pulse.process.revisions import REVISIONS
from pulse.process.schema import SchemaGate
from pulse.projections.catch_up import catch_up_queue
from pulse.projections.claims import Claims
from tests.support.events import orders_created, slices_scheduled, splitting_failed, stored
from tests.support.log import fetch, write
from tests.support.read_model import folded, queue

BEFORE = REVISIONS[:6]
PENDING, FAILED = 20, 10
RIGHTS = """
SELECT c.relname, a.privilege_type
  FROM pg_class c CROSS JOIN aclexplode(c.relacl) a
 WHERE a.grantee = %s::regrole
 ORDER BY 1, 2"""


def logged() -> list[Event]:
    """The log: 100 orders, of which the newest 20 wait and the 10 before them failed."""
    created = orders_created(100)
    failed = [splitting_failed(order) for order in created[-PENDING - FAILED : -PENDING]]
    return [*created, *map(slices_scheduled, created[: -PENDING - FAILED]), *failed]


async def migrate(conninfo: str, revisions: Sequence[Revision] = REVISIONS) -> None:
    await Migrations(revisions).migrate(conninfo, PostgresLimits())


@pytest.fixture
async def former(empty_conninfo: str) -> AsyncIterator[Database]:
    """A database of the release before."""
    await migrate(empty_conninfo, BEFORE)
    database = Database(empty_conninfo, pool_size=4)
    await database.open()
    yield database
    await database.close()


async def make_whole_queue(database: Database) -> list[tuple[int, int]]:
    """Make the queue for a log of any length; returns the reported progress."""
    seen: list[tuple[int, int]] = []
    await catch_up_queue(database, lambda at, end: seen.append((at, end)), max_behind_events=0)
    return seen


async def test_the_queue_is_rebuilt_from_the_log_with_progress(
    empty_conninfo: str, former: Database
) -> None:
    events = logged()
    write(empty_conninfo, *stored(events))
    await migrate(empty_conninfo)
    assert await queue(former) == {}

    seen = await make_whole_queue(former)

    assert await queue(former) == folded(enumerate(events, 1))
    assert seen[0] == (0, len(events))
    assert seen[-1] == (len(events), len(events))
    assert await fetch(former, "SELECT count(*) FROM pending_orders") == [(PENDING,)]
    assert await make_whole_queue(former) == []


async def test_views_and_grants_of_others_survive_the_migration(
    empty_conninfo: str, former: Database
) -> None:
    role = f"reader_{uuid4().hex[:8]}"
    with psycopg.connect(empty_conninfo) as connection:
        connection.execute(f"CREATE ROLE {role}".encode())
        connection.execute(
            f"GRANT SELECT ON order_queue_status, order_slices, order_claims TO {role}".encode()
        )
        connection.execute("CREATE VIEW mine AS SELECT instrument FROM order_queue_status")
        connection.execute("ALTER VIEW order_queue_status SET (security_barrier = true)")
    write(empty_conninfo, *stored(logged()))

    await migrate(empty_conninfo)
    await make_whole_queue(former)

    assert await fetch(former, "SELECT count(*) FROM mine") == [(100,)]
    options = "SELECT reloptions FROM pg_class WHERE oid = 'order_queue_status'::regclass"
    assert await fetch(former, options) == [(["security_barrier=true"],)]
    with psycopg.connect(empty_conninfo) as connection:
        rows = connection.execute(RIGHTS, (role,)).fetchall()
        assert rows == [
            (table, "SELECT")
            for table in (
                *("due_orders", "order_claims", "order_queue_status", "order_slices"),
                *("pending_orders", "queue_history", "scheduled_slices"),
            )
        ]
        connection.execute(f"DROP OWNED BY {role}".encode())
        connection.execute(f"DROP ROLE {role}".encode())


async def test_a_migration_that_fails_changes_nothing_and_can_be_repeated(
    empty_conninfo: str, former: Database
) -> None:
    events = logged()
    write(empty_conninfo, *stored(events))
    with psycopg.connect(empty_conninfo, autocommit=True) as connection:
        connection.execute("CREATE VIEW mine AS SELECT quantity FROM order_slices")
        with pytest.raises(psycopg.errors.DependentObjectsStillExist, match="view mine depends"):
            await migrate(empty_conninfo)
        tables = "SELECT count(*) FROM order_queue, order_slices, order_claims"
        assert connection.execute(tables.encode()).fetchone() == (0,)
        assert connection.execute("SELECT max(revision) FROM pulse_schema").fetchone() == (6,)
        connection.execute("DROP VIEW mine")

    await migrate(empty_conninfo)
    await make_whole_queue(former)

    assert await queue(former) == folded(enumerate(events, 1))


async def test_an_interrupted_migration_resumes(empty_conninfo: str, former: Database) -> None:
    events = [event for _ in range(50) for event in logged()]
    write(empty_conninfo, *stored(events))
    await migrate(empty_conninfo)

    def interrupt(position: int, _: int) -> None:
        if position > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await catch_up_queue(former, interrupt, max_behind_events=0)
    ((reached,),) = await fetch(former, "SELECT max(position) FROM order_queue")
    assert 0 < reached < len(events)

    seen = await make_whole_queue(former)

    assert seen[0] == (reached, len(events))
    assert await queue(former) == folded(enumerate(events, 1))


async def test_a_process_serves_no_orders_until_it_has_rebuilt_the_queue(
    empty_conninfo: str, former: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = logged()
    write(empty_conninfo, *stored(events))
    monkeypatch.setattr(schema, "catch_up_queue", partial(catch_up_queue, max_behind_events=0))
    gate = SchemaGate(former, migrate=True)
    async with await psycopg.AsyncConnection.connect(empty_conninfo) as holder:
        await migrate(empty_conninfo)
        await holder.execute("SELECT FROM notification_tracking FOR UPDATE")
        waiting = asyncio.ensure_future(gate.wait())
        await gate.attempted.wait()
        with pytest.raises(
            DatabaseUnavailable, match="catching up with the log: position 0 of 180"
        ):
            gate.require()
        await holder.rollback()
    await waiting
    gate.require()
    assert await queue(former) == folded(enumerate(events, 1))


async def test_a_queue_at_most_some_seconds_behind_is_left_to_the_projection(
    empty_conninfo: str, former: Database
) -> None:
    write(empty_conninfo, *stored(logged()))
    await migrate(empty_conninfo)
    seen: list[tuple[int, int]] = []
    await catch_up_queue(former, lambda at, end: seen.append((at, end)))
    assert not seen
    assert await queue(former) == {}


async def test_earlier_claims_and_their_first_claim_times_are_deleted(
    empty_conninfo: str, former: Database
) -> None:
    """The processes that held them have stopped: an order is claimed as if for the first time."""
    events = logged()
    write(empty_conninfo, *stored(events))
    with psycopg.connect(empty_conninfo) as connection:
        connection.execute(
            "INSERT INTO order_claims VALUES (%s, 'gone', now(), now())",
            (events[-1].originator_id,),
        )
    await migrate(empty_conninfo)
    await make_whole_queue(former)
    assert await fetch(former, "SELECT count(*) FROM order_claims") == [(0,)]
    assert len(await Claims(former, "worker-1").claim(200)) == PENDING
